package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/cgroup"
	"kiln/guest-agent/internal/service"
)

const (
	portName     = "kiln.agent.0"
	moduleFolder = "/modules"
	deviceWait   = 10 * time.Second
	devicePoll   = 2 * time.Millisecond
	newRoot      = "/newroot"
	maxOpenFiles = 65536
)

// GuardInit runs process 1 of a VM and never returns. The kernel panics when process 1 ends, so every failure is
// written to the console and the machine powers off.
func GuardInit(run func() error) {
	defer func() {
		if failure := recover(); failure != nil {
			fatal(fmt.Errorf("panic: %v", failure))
		}
	}()
	fatal(run())
}

func fatal(err error) {
	if console, openErr := os.OpenFile("/dev/console", os.O_WRONLY, 0); openErr == nil {
		_, _ = fmt.Fprintf(console, "kiln-agent: fatal: %v\n", err)
		_ = console.Close()
	}
	powerOff()
}

// BootVM turns the initial memory file system into a running guest: drivers, root disk, mounts, loopback, and the port
// to the host. Configure mounts the workspace later.
func BootVM() (*SerialPort, VM, error) {
	machine := VM{}
	early := []mount{
		{"proc", "/proc", "proc", hidden | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", hidden | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
	}
	if err := mountAll(early); err != nil {
		return nil, machine, err
	}
	useConsole()
	if err := loadModules(moduleFolder); err != nil {
		return nil, machine, err
	}
	if err := mountRoot(newRoot); err != nil {
		return nil, machine, err
	}
	if err := switchRoot(newRoot); err != nil {
		return nil, machine, fmt.Errorf("switch root: %w", err)
	}
	if err := mountAll(guestMounts("/")); err != nil {
		return nil, machine, err
	}
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: maxOpenFiles, Max: maxOpenFiles})
	if err := errors.Join(loopbackUp(), writeResolvConf()); err != nil {
		return nil, machine, err
	}
	groups, err := openVMGroups()
	if err != nil {
		fmt.Fprintf(os.Stderr, "kiln-agent: execs get no control groups: %v\n", err)
	}
	machine.groups = groups
	port, err := openPort(portName)
	return port, machine, err
}

// useConsole sends stdout and stderr to the console, so that even the trace of a panic can be read. The kernel starts
// process 1 without open files if it found no console device.
func useConsole() {
	console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer func() { _ = console.Close() }()
	_ = unix.Dup3(int(console.Fd()), 1, 0)
	_ = unix.Dup3(int(console.Fd()), 2, 0)
}

// loadModules loads the files that `order` names, one a line, relative to the folder.
func loadModules(folder string) error {
	order, err := os.ReadFile(filepath.Join(folder, "order"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(order)) {
		name := strings.TrimSpace(line)
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(folder, name)
		}
		if err := loadModule(name); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	return nil
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := unix.FinitModule(int(file.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// waitFor polls until find succeeds: drivers need a moment to find their devices, and no udev tells when they have.
func waitFor(what string, find func() (string, bool)) (string, error) {
	for deadline := time.Now().Add(deviceWait); ; time.Sleep(devicePoll) {
		if found, ok := find(); ok {
			return found, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("%s did not appear", what)
		}
	}
}

// switchRoot makes root the root folder of this process. It moves mounts, because pivot_root does not work from the
// initial file system.
func switchRoot(root string) error {
	_ = os.RemoveAll(moduleFolder)
	for _, path := range []string{"/proc", "/sys", "/dev"} {
		target := filepath.Join(root, path)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(path, target, "", unix.MS_MOVE, ""); err != nil {
			return err
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return os.Chdir("/")
}

// VM is the machine in which the agent is process 1.
type VM struct {
	groups *cgroup.Tree
}

// Groups returns where control groups of execs are made; nil if the kernel has none.
func (machine VM) Groups() *cgroup.Tree { return machine.groups }

// Configure sets clock, entropy and names, and mounts the workspace.
func (VM) Configure(identity service.Identity) error {
	if err := seedKernel(identity.SeedHex); err != nil {
		return err
	}
	if err := setClock(identity.WallClockMs); err != nil {
		return err
	}
	if identity.Cloned {
		if err := renewBootID(identity.SeedHex); err != nil {
			return err
		}
	}
	if err := applyIdentity(identity); err != nil {
		return err
	}
	return mountWorkspace(mountWorkspaceDrive)
}

// SetClock sets the wall clock.
func (VM) SetClock(wallClockMs int64) error { return setClock(wallClockMs) }

// Settle kills every other process and makes the disks clean.
func (VM) Settle() {
	_ = unix.Kill(-1, unix.SIGKILL)
	unix.Sync()
	_ = unix.Unmount(workspace, unix.MNT_DETACH)
	_ = unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// PowerOff ends the VM.
func (VM) PowerOff() { powerOff() }

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}
