package system

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/cgroup"
	"kiln/guest-agent/internal/service"
)

// stageVariable is set when the agent has started itself again inside its own namespaces.
const stageVariable = "KILN_AGENT_STAGE"

// EnterProcessGuest turns this process into a guest that looks like a VM from inside: process 1, with mounts, network
// and host name of its own, and a writable layer over the machine's root. A process that is not in namespaces of its
// own starts another one that is, and ends with it; this function returns only in the process that serves. listen is
// unix:PATH.
func EnterProcessGuest(listen, root string) (net.Listener, ProcessMachine, error) {
	machine := ProcessMachine{}
	path, isUnix := strings.CutPrefix(listen, "unix:")
	if !isUnix || !filepath.IsAbs(path) || !filepath.IsAbs(root) {
		return nil, machine, errors.New("--listen is unix: and an absolute path, --root an absolute path")
	}
	if os.Getenv(stageVariable) == "" {
		if os.Getpid() != 1 {
			return nil, machine, runInNamespaces()
		}
		return nil, machine, ownHostname()
	}
	if os.Getpid() != 1 {
		return nil, machine, errors.New("a guest as a process must be process 1 of its namespace")
	}
	listener, err := listenFresh(path)
	if err != nil {
		return nil, machine, err
	}
	machine.workspace, err = buildRoot(root)
	if err != nil {
		return nil, machine, err
	}
	machine.group, err = openGuestGroup()
	if err != nil {
		fmt.Fprintf(os.Stderr, "kiln-agent: execs get no control groups: %v\n", err)
	}
	return listener, machine, errors.Join(loopbackUp(), writeResolvConf())
}

func listenFresh(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return net.Listen("unix", path)
}

// ownHostname makes the namespaces that are missing after a start by unshare(1): the guest must not change this
// machine's host name. A thread enters a namespace alone, so the program then executes itself again.
func ownHostname() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, append(os.Environ(), stageVariable+"=1"))
}

func runInNamespaces() error {
	// The kernel kills the child when this thread ends.
	runtime.LockOSThread()
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
			unix.CLONE_NEWCGROUP,
		Pdeathsig: syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child, err := os.StartProcess(self, os.Args, &os.ProcAttr{
		Env: append(os.Environ(), stageVariable+"=1"), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: attr,
	})
	if err != nil {
		return fmt.Errorf("namespaces: %w", err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		_ = child.Kill()
	}()
	state, err := child.Wait()
	if err != nil {
		return err
	}
	os.Exit(state.ExitCode() & 0x7f)
	return nil
}

// ProcessMachine is a guest that is a plain process.
type ProcessMachine struct {
	// workspace is the descriptor of a mount that is not attached to a folder yet.
	workspace int
	// group is nil if this user may not make one.
	group *guestGroup
}

// Groups returns where control groups of execs are made; nil if this user may make none.
func (machine ProcessMachine) Groups() *cgroup.Tree {
	if machine.group == nil {
		return nil
	}
	return machine.group.tree
}

// Configure sets the names and mounts the workspace. Clock and entropy belong to the machine and are left alone.
func (machine ProcessMachine) Configure(identity service.Identity) error {
	if err := applyIdentity(identity); err != nil {
		return err
	}
	return mountWorkspace(func() error {
		return unix.MoveMount(machine.workspace, "", unix.AT_FDCWD, workspace, unix.MOVE_MOUNT_F_EMPTY_PATH)
	})
}

// SetClock only checks its argument: the clock belongs to the machine.
func (ProcessMachine) SetClock(wallClockMs int64) error { return plausibleClock(wallClockMs) }

// Settle kills every other process of the namespace.
func (ProcessMachine) Settle() { _ = unix.Kill(-1, unix.SIGKILL) }

// PowerOff ends the process, and the namespace with it.
func (machine ProcessMachine) PowerOff() {
	if machine.group != nil {
		machine.group.leave()
	}
	os.Exit(0)
}
