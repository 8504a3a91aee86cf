package cgroup

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	killFile   = "cgroup.kill"
	eventsFile = "cgroup.events"
	statFile   = "cpu.stat"
	procsFile  = "cgroup.procs"
)

// Group is the control group of one exec. A process can leave it only as root, through a mount of cgroup2.
type Group struct {
	tree      *Tree
	name      string
	directory *os.File
}

// Usage is what a group uses.
type Usage struct {
	// CPUMs is the CPU time, over all cores, of everything that has ever run in the group, in ms.
	CPUMs int64 `json:"cpuMs"`
	// Processes is how many processes run in the group now.
	Processes int `json:"processes"`
}

// Descriptor is for the kernel, which starts a process in the group that it names.
func (g *Group) Descriptor() int { return int(g.directory.Fd()) }

// Usage reads the use of the group, and of groups that its processes made in it.
func (g *Group) Usage() (Usage, error) {
	text, err := g.tree.folder.ReadFile(path.Join(g.name, statFile))
	if err != nil {
		return Usage{}, err
	}
	micros, _ := numberOf(string(text), "usage_usec")
	usage := Usage{CPUMs: micros / 1000}
	err = fs.WalkDir(g.tree.folder.FS(), g.name, func(at string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == procsFile {
			// A group below may be gone by now.
			pids, _ := g.tree.folder.ReadFile(at)
			usage.Processes += bytes.Count(pids, []byte("\n"))
		}
		return nil
	})
	return usage, err
}

// Kill kills every process of the group, even those that are being forked. It does nothing if the group is gone.
func (g *Group) Kill() error {
	err := g.tree.folder.WriteFile(path.Join(g.name, killFile), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// WaitEmpty waits until no process runs in the group. It returns false if one still does after the limit.
func (g *Group) WaitEmpty(limit time.Duration) bool {
	events, err := g.tree.folder.Open(path.Join(g.name, eventsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		// No file can be opened, so nothing is known. The processes get the full time.
		time.Sleep(limit)
		return false
	}
	defer func() { _ = events.Close() }()
	buffer := make([]byte, 256)
	for deadline := time.Now().Add(limit); ; {
		// Poll reports changes since the last read.
		n, err := unix.Pread(int(events.Fd()), buffer, 0)
		if errors.Is(err, unix.ENODEV) || (err == nil && !isPopulated(string(buffer[:n]))) {
			return true
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		// Rounded up: with 0 ms the last round would not wait at all.
		notice := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		_, _ = unix.Poll(notice, int((left+time.Millisecond-1)/time.Millisecond))
	}
}

// Remove removes the group, and those that its processes made in it. If a process still runs in it, the next Make tries
// again.
func (g *Group) Remove() {
	if g.remove() {
		return
	}
	g.tree.mu.Lock()
	defer g.tree.mu.Unlock()
	g.tree.stuck = append(g.tree.stuck, g)
}

func (g *Group) remove() bool {
	if RemoveAll(g.tree.folder, g.name) != nil {
		return false
	}
	_ = g.directory.Close()
	return true
}

func isPopulated(events string) bool {
	value, found := numberOf(events, "populated")
	return found && value != 0
}

// numberOf reads the number behind a name in lines of `name number`.
func numberOf(text, name string) (int64, bool) {
	for line := range strings.Lines(text) {
		if rest, found := strings.CutPrefix(line, name+" "); found {
			number, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return number, err == nil
		}
	}
	return 0, false
}
