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

// Group is the control group of one exec. Its processes may leave it only by writing to a cgroup2 mount as root.
type Group struct {
	tree      *Tree
	name      string
	directory *os.File
}

// Usage is what the processes of a group use.
type Usage struct {
	// CPUMs is the CPU time of all that ever lived in the group, over all cores, in ms.
	CPUMs int64 `json:"cpuMs"`
	// Processes live in the group now.
	Processes int `json:"processes"`
}

// Descriptor is what a process is cloned into.
func (g *Group) Descriptor() int { return int(g.directory.Fd()) }

// Usage includes the groups that processes of this one made.
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

// Kill kills every process of the group, those being forked included. A group that is gone has none.
func (g *Group) Kill() error {
	err := g.tree.folder.WriteFile(path.Join(g.name, killFile), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// WaitEmpty waits until no process lives in the group; false where one still does after the limit.
func (g *Group) WaitEmpty(limit time.Duration) bool {
	events, err := g.tree.folder.Open(path.Join(g.name, eventsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		// No file can be opened now: whoever lives in the group has its time all the same.
		time.Sleep(limit)
		return false
	}
	defer func() { _ = events.Close() }()
	buffer := make([]byte, 256)
	for deadline := time.Now().Add(limit); ; {
		// Reading arms the notice that poll waits for.
		n, err := unix.Pread(int(events.Fd()), buffer, 0)
		if errors.Is(err, unix.ENODEV) || (err == nil && !isPopulated(string(buffer[:n]))) {
			return true
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		// Rounded up, so that the last wait is not a busy one.
		notice := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		_, _ = unix.Poll(notice, int((left+time.Millisecond-1)/time.Millisecond))
	}
}

// Remove removes the group with the groups that its processes made. Where a process still lives in it, that is tried
// again when the next group is made.
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
