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

	"kiln/guest-agent/internal/service"
)

// stageVariable tells the agent, after it has started itself anew, that its namespaces are made.
const stageVariable = "KILN_AGENT_STAGE"

// EnterProcessGuest makes the calling process into something that looks like a VM from inside: process 1 with mounts,
// network, host name of its own, and a writable layer over the machine's root. It returns in the process that is to
// serve; a process that is not in namespaces yet starts that one and lives exactly as long. listen is unix:PATH.
func EnterProcessGuest(listen, root string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(listen, "unix:")
	if !isUnix || !filepath.IsAbs(path) || !filepath.IsAbs(root) {
		return nil, errors.New("--listen is unix: and an absolute path, --root an absolute path")
	}
	if os.Getenv(stageVariable) == "" {
		if os.Getpid() != 1 {
			return nil, runInNamespaces()
		}
		return nil, ownHostname()
	}
	if os.Getpid() != 1 {
		return nil, errors.New("a guest as a process must be process 1 of its namespace")
	}
	listener, err := listenFresh(path)
	if err != nil {
		return nil, err
	}
	if err := buildRoot(root); err != nil {
		return nil, err
	}
	return listener, errors.Join(loopbackUp(), writeResolvConf())
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
	if err := unix.Unshare(unix.CLONE_NEWUTS | unix.CLONE_NEWIPC); err != nil {
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
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
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

// buildRoot lays a writable layer over the machine's root and makes it the root of this process.
func buildRoot(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	// Folders of the writable layer belong to whoever runs this, also where the machine's own do not.
	for _, folder := range []string{"etc", "root", "tmp", "run", "var/log", "workspace", "proc", "sys", "dev"} {
		if err := os.MkdirAll(at("upper", folder), 0o755); err != nil {
			return err
		}
	}
	for _, folder := range []string{"work", "merged", "workspace"} {
		if err := os.MkdirAll(at(folder), 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", at("upper"), at("work"))
	if inUserNamespace() {
		options += ",userxattr"
	}
	merged := at("merged")
	mounts := []mount{
		{"overlay", merged, "overlay", 0, options},
		{at("workspace"), filepath.Join(merged, "workspace"), "", unix.MS_BIND, ""},
		{"proc", filepath.Join(merged, "proc"), "proc", hidden | unix.MS_NOEXEC, ""},
		{"tmpfs", filepath.Join(merged, "dev"), "tmpfs", unix.MS_NOSUID, "mode=0755"},
	}
	if err := mountAll(mounts); err != nil {
		return err
	}
	// Some machines forbid a sysfs of one's own; nothing of the agent needs it here.
	_ = mount{"sysfs", filepath.Join(merged, "sys"), "sysfs", hidden | unix.MS_NOEXEC | unix.MS_RDONLY, ""}.do()
	if err := bindDevices(merged); err != nil {
		return err
	}
	if err := mountAll(guestMounts(merged)); err != nil {
		return err
	}
	return pivot(merged)
}

func inUserNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	fields := strings.Fields(string(text))
	return err == nil && len(fields) == 3 && fields[2] != "4294967295"
}

func bindDevices(merged string) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		target := filepath.Join(merged, "dev", name)
		if err := os.WriteFile(target, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("device %s: %w", name, err)
		}
	}
	links := map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(merged, "dev", name)); err != nil {
			return err
		}
	}
	return nil
}

func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Chdir("/")
}

// ProcessMachine is the guest that is a plain process.
type ProcessMachine struct{}

// Configure sets the names; clock and entropy belong to the machine that the process shares.
func (ProcessMachine) Configure(identity service.Identity) error { return applyIdentity(identity) }

// Settle kills every other process of the namespace.
func (ProcessMachine) Settle() { _ = unix.Kill(-1, unix.SIGKILL) }

// PowerOff ends the process, and the namespace with it.
func (ProcessMachine) PowerOff() { os.Exit(0) }
