package system

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ownFolders are made in the writable layer at the start, so that the user who runs the agent owns them even if he does
// not own those of the machine.
var ownFolders = []string{"etc", "root", "tmp", "run", "var/log", "workspace", "proc", "sys", "dev"}

// buildRoot lays a writable layer over the machine's root and makes the result the root of this process. It returns the
// descriptor of a mount of the workspace, which is not attached to a folder yet.
func buildRoot(dir string) (int, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 0, fmt.Errorf("private mounts: %w", err)
	}
	merged := filepath.Join(dir, "merged")
	for _, folder := range []string{"work", "merged", "workspace"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			return 0, err
		}
	}
	for _, folder := range ownFolders {
		if err := os.MkdirAll(filepath.Join(dir, "upper", folder), 0o755); err != nil {
			return 0, err
		}
	}
	cover := overlayRoot
	if inUserNamespace() {
		cover = overlayFolders
	}
	if err := cover(dir, merged); err != nil {
		return 0, err
	}
	mounts := []mount{
		{"proc", filepath.Join(merged, "proc"), "proc", hidden | unix.MS_NOEXEC, ""},
		{"tmpfs", filepath.Join(merged, "dev"), "tmpfs", unix.MS_NOSUID, "mode=0755"},
	}
	if err := mountAll(mounts); err != nil {
		return 0, err
	}
	// Some machines allow no other mount of sysfs. The agent does not need it here.
	_ = mount{"sysfs", filepath.Join(merged, "sys"), "sysfs", hidden | unix.MS_NOEXEC | unix.MS_RDONLY, ""}.do()
	if err := bindDevices(merged); err != nil {
		return 0, err
	}
	if err := mountAll(guestMounts(merged)); err != nil {
		return 0, err
	}
	space, err := unix.OpenTree(unix.AT_FDCWD, filepath.Join(dir, "workspace"), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("workspace: %w", err)
	}
	return space, pivot(merged)
}

func overlayRoot(dir, merged string) error {
	return mount{"overlay", merged, "overlay", 0, layers("/", filepath.Join(dir, "upper"), filepath.Join(dir, "work"))}.do()
}

func layers(lower, upper, work string) string {
	return fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
}

// overlayFolders needs no privileges. A user namespace must not cover a root that has other mounts below it, but may
// cover each top folder that has none. A folder that has some is shown as it is.
func overlayFolders(dir, merged string) error {
	upper := filepath.Join(dir, "upper")
	if err := unix.Mount(upper, merged, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		target := filepath.Join(merged, name)
		switch {
		case slices.Contains([]string{"proc", "sys", "dev", "run", "root", "tmp", "workspace"}, name):
		case entry.Type()&os.ModeSymlink != 0:
			link, err := os.Readlink("/" + name)
			if err != nil {
				return err
			}
			if err := os.Symlink(link, target); err != nil && !os.IsExist(err) {
				return err
			}
		case entry.IsDir():
			if err := overlayFolder("/"+name, target, filepath.Join(upper, name), filepath.Join(dir, "work", name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func overlayFolder(lower, target, upper, work string) error {
	for _, folder := range []string{upper, work} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	if (mount{"overlay", target, "overlay", 0, layers(lower, upper, work) + ",userxattr"}).do() == nil {
		return nil
	}
	return mount{lower, target, "", unix.MS_BIND | unix.MS_REC, ""}.do()
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
