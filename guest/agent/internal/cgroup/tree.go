// Package cgroup puts an exec into a control group (cgroup v2) of its own, so that all of its processes can be counted
// and killed together, however they fork.
package cgroup

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
)

// maxStuck bounds the groups that cannot be removed because a process in them cannot be killed.
const maxStuck = 64

// Mount mounts cgroup2 without attaching it to a folder. Only this process can use it; for the programs of a guest
// nothing changes.
func Mount() (*os.Root, error) {
	context, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cgroup2: %w", err)
	}
	defer func() { _ = unix.Close(context) }()
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, fmt.Errorf("cgroup2: %w", err)
	}
	// The kernel unmounts it with the last descriptor. This one stays open for the life of the agent.
	mounted, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount cgroup2: %w", err)
	}
	return os.OpenRoot("/proc/self/fd/" + strconv.Itoa(mounted))
}

// Tree is a group in which others are made, one for each exec that asks for it.
type Tree struct {
	folder *os.Root
	mu     sync.Mutex
	made   int
	// stuck holds groups that could not be removed yet.
	stuck []*Group
}

// NewTree takes the folder of a group in a mount of cgroup2. It fails if the kernel cannot kill a whole group (before
// Linux 5.14).
func NewTree(folder *os.Root) (*Tree, error) {
	for _, file := range []string{killFile, eventsFile, statFile} {
		if _, err := folder.Stat(file); err != nil {
			return nil, fmt.Errorf("control groups without %s: %w", file, err)
		}
	}
	return &Tree{folder: folder}, nil
}

// Make makes an empty group.
func (t *Tree) Make() (*Group, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stuck = slices.DeleteFunc(t.stuck, (*Group).remove)
	if len(t.stuck) >= maxStuck {
		return nil, mux.Fail("QUEUE_FULL", fmt.Sprintf("%d control groups hold processes that cannot be killed", maxStuck))
	}
	t.made++
	name := "exec-" + strconv.Itoa(t.made)
	if err := t.folder.Mkdir(name, 0o755); err != nil {
		return nil, mux.Fail("INTERNAL", "control group: "+err.Error())
	}
	directory, err := t.folder.Open(name)
	if err != nil {
		_ = t.folder.Remove(name)
		return nil, mux.Fail("INTERNAL", "control group: "+err.Error())
	}
	return &Group{tree: t, name: name, directory: directory}, nil
}

// RemoveAll removes a group of a folder, and the groups in it. It fails while a process is in one of them.
func RemoveAll(folder *os.Root, name string) error {
	var groups []string
	// A group that is gone by now needs no removal.
	_ = fs.WalkDir(folder.FS(), name, func(at string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			groups = append(groups, at)
		}
		return nil
	})
	for _, group := range slices.Backward(groups) {
		if err := folder.Remove(group); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// Populated returns whether a process runs in a group of a folder, or in a group below that one. "." is the folder
// itself.
func Populated(folder *os.Root, name string) (bool, error) {
	text, err := folder.ReadFile(path.Join(name, eventsFile))
	if err != nil {
		return false, err
	}
	return isPopulated(string(text)), nil
}
