package system

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/cgroup"
)

const (
	// vmGroups is the group in a VM in which those of execs are made.
	vmGroups = "kiln-execs"
	// guestPrefix begins the name of the group of a process-mode guest.
	guestPrefix = "kiln-guest-"
	// joinTries bounds how often a guest makes its group again after another guest has removed it.
	joinTries = 8
)

// openVMGroups makes the group in which those of execs are made.
func openVMGroups() (*cgroup.Tree, error) {
	root, err := cgroup.Mount()
	if err != nil {
		return nil, err
	}
	if err := root.Mkdir(vmGroups, 0o755); err != nil && !os.IsExist(err) {
		return nil, err
	}
	folder, err := root.OpenRoot(vmGroups)
	if err != nil {
		return nil, err
	}
	return cgroup.NewTree(folder)
}

// guestGroup is the group of a process-mode guest, a child of the one in which it was started.
type guestGroup struct {
	parent *os.Root
	name   string
	tree   *cgroup.Tree
}

// openGuestGroup moves this process into a group of its own. It first removes the groups of guests that were killed and
// so could not do it themselves.
func openGuestGroup() (*guestGroup, error) {
	root, err := cgroup.Mount()
	if err != nil {
		return nil, err
	}
	own, err := ownGroup()
	if err != nil {
		return nil, err
	}
	parent, err := root.OpenRoot(own)
	if err != nil {
		return nil, err
	}
	removeDeadGuests(parent)
	name := guestPrefix + strings.ToLower(rand.Text()[:16])
	for try := 1; ; try++ {
		if err = joinNew(parent, name); err == nil {
			break
		}
		// Another guest that starts at this moment may have removed the group while no process was in it.
		if try == joinTries || !(errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)) {
			return nil, err
		}
	}
	group := &guestGroup{parent: parent, name: name}
	folder, err := parent.OpenRoot(name)
	if err == nil {
		group.tree, err = cgroup.NewTree(folder)
	}
	if err != nil {
		group.leave()
		return nil, err
	}
	return group, nil
}

func joinNew(parent *os.Root, name string) error {
	if err := parent.Mkdir(name, 0o755); err != nil && !os.IsExist(err) {
		return err
	}
	err := join(parent, name)
	if err != nil {
		_ = parent.Remove(name)
	}
	return err
}

func join(parent *os.Root, name string) error {
	return parent.WriteFile(path.Join(name, "cgroup.procs"), []byte("0"), 0)
}

// leave moves this process back to the group in which it was started, and removes its own.
func (g *guestGroup) leave() {
	if join(g.parent, ".") == nil {
		_ = cgroup.RemoveAll(g.parent, g.name)
	}
}

// removeDeadGuests removes the groups of guests that have no process any more.
func removeDeadGuests(parent *os.Root) {
	folder, err := parent.Open(".")
	if err != nil {
		return
	}
	defer func() { _ = folder.Close() }()
	names, _ := folder.Readdirnames(-1)
	for _, name := range names {
		if !strings.HasPrefix(name, guestPrefix) {
			continue
		}
		// The order matters: a guest joins its group before it makes others in it. If some are listed first and the
		// group then has no process, the guest is dead.
		below, _ := parent.OpenRoot(name)
		if below == nil {
			continue
		}
		groups := subgroups(below)
		if populated, err := cgroup.Populated(below, "."); err == nil && !populated {
			for _, group := range groups {
				_ = cgroup.RemoveAll(below, group)
			}
			_ = parent.Remove(name)
		}
		_ = below.Close()
	}
}

func subgroups(folder *os.Root) []string {
	directory, err := folder.Open(".")
	if err != nil {
		return nil
	}
	defer func() { _ = directory.Close() }()
	var names []string
	entries, _ := directory.ReadDir(-1)
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

// ownGroup returns the cgroup2 group of this process as a path below the mount of cgroup2.
func ownGroup() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if at, found := strings.CutPrefix(line, "0::/"); found {
			return path.Join(".", strings.TrimSuffix(at, "\n")), nil
		}
	}
	return "", fmt.Errorf("this process is in no group of cgroup2")
}
