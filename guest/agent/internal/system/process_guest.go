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

// stageVariable tells the agent, after it has started itself anew, that its namespaces are made.
const stageVariable = "KILN_AGENT_STAGE"

// EnterProcessGuest makes the calling process into something that looks like a VM from inside: process 1 with mounts,
// network, host name of its own, and a writable layer over the machine's root. It returns in the process that is to
// serve; a process that is not in namespaces yet starts that one and lives exactly as long. listen is unix:PATH.
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

// ownHostname covers a start by unshare(1), which gave everything but this: the host's name must not be changed. A
// namespace is entered by a thread, so the program is started anew in it.
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
	// The child dies with this thread.
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

// ProcessMachine is the guest that is a plain process.
type ProcessMachine struct {
	// workspace is a mount that hangs nowhere yet.
	workspace int
	// group is nil where this user may make none.
	group *guestGroup
}

// Groups is where control groups of execs are made; nil where this user may make none.
func (machine ProcessMachine) Groups() *cgroup.Tree {
	if machine.group == nil {
		return nil
	}
	return machine.group.tree
}

// Configure sets the names and mounts the workspace; clock and entropy belong to the machine that the process shares.
func (machine ProcessMachine) Configure(identity service.Identity) error {
	if err := applyIdentity(identity); err != nil {
		return err
	}
	return mountWorkspace(func() error {
		return unix.MoveMount(machine.workspace, "", unix.AT_FDCWD, workspace, unix.MOVE_MOUNT_F_EMPTY_PATH)
	})
}

// SetClock checks what it is told and leaves the clock to the machine that the process shares.
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
