package workspace

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/beneath"
	"kiln/guest-agent/internal/workspace/record"
)

// file saves a regular file: as a hard link if the walk has come by the same file before, from the base if nothing has
// changed, else by reading it.
func (s *saver) file(folder int, name, path string, st beneath.Stat) error {
	base, err := s.before(path)
	if err != nil {
		return err
	}
	if first, isLink := s.links[inodeOf(st)]; isLink && st.Links > 1 {
		node := record.Node{Path: path, Type: record.Hardlink, Target: first}
		return s.keep(remembered{st.Tuple, node, s.isSettled(st)}, base)
	}
	if unchanged(base, st, record.File) {
		s.linked(path, st)
		return s.keep(*base, base)
	}
	fd, err := s.open(folder, name, path)
	if beneath.IsGone(err) {
		return nil
	}
	if err != nil {
		return beneath.Failed(path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	entry, isFile, err := s.read(fd, path)
	if err != nil || !isFile {
		return beneath.Failed(path, err)
	}
	return s.keep(entry, base)
}

// leaseTick is how long a save sleeps before it tries to open a leased file again.
const leaseTick = 20 * time.Millisecond

// open opens a file to read it. O_NONBLOCK: neither a pipe that has taken the name meanwhile nor a lease may block. The
// kernel asks a process to give up its lease when somebody opens the file, and takes it away only after 45 s.
func (s *saver) open(folder int, name, path string) (int, error) {
	for until := time.Now().Add(s.leaseWait); ; time.Sleep(leaseTick) {
		fd, err := beneath.OpenAt(folder, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
		if err := s.job.check(); err != nil {
			return -1, err
		}
		if time.Now().After(until) {
			return -1, mux.Fail("INTERNAL", beneath.Shown(path)+" is leased by a process of the guest")
		}
	}
}

// linked remembers the first path of a file that has several.
func (s *saver) linked(path string, st beneath.Stat) {
	if st.Links > 1 {
		s.links[inodeOf(st)] = path
	}
}

// read cuts an open file into chunks, and sends those that the host does not have. It returns false if this is no
// regular file of the workspace (any more).
func (s *saver) read(fd int, path string) (remembered, bool, error) {
	st, err := beneath.StatAt(fd, "")
	if err != nil || st.Kind() != unix.S_IFREG || st.IsElsewhere(s.dev) {
		return remembered{}, false, err
	}
	node := nodeOf(path, record.File, st)
	node.Mode = st.Permissions()
	if node.Pieces, node.Size, err = s.cutter.cut(fd, st.Size); err != nil {
		var failure *mux.Failure
		if errors.As(err, &failure) && failure.Code == "PAYLOAD_TOO_LARGE" {
			err = mux.Fail(failure.Code, failure.Message+": "+beneath.Shown(path))
		}
		return remembered{}, false, err
	}
	if node.Xattrs, err = xattrsOf(fd); err != nil {
		return remembered{}, false, err
	}
	after, err := beneath.StatAt(fd, "")
	if err != nil {
		return remembered{}, false, err
	}
	hasChanged := after.Tuple != st.Tuple || node.Size != st.Size
	s.summary.ReadFiles++
	if hasChanged {
		s.summary.Changed++
	}
	s.linked(path, st)
	return remembered{st.Tuple, node, s.isSettled(st) && !hasChanged}, true, nil
}

// send writes a chunk, unless the host has it.
func (s *saver) send(id record.ID, content []byte) error {
	if err := s.job.check(); err != nil {
		return err
	}
	if s.known == nil {
		s.known = map[record.ID]struct{}{}
		if s.base != nil {
			s.known = s.base.ids()
		}
	}
	if _, has := s.known[id]; has {
		return nil
	}
	if err := s.out.Write(record.Chunk, content); err != nil {
		return err
	}
	s.known[id] = struct{}{}
	s.summary.SentChunks++
	s.summary.SentBytes += int64(len(content))
	return nil
}
