package workspace

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/beneath"
	"kiln/guest-agent/internal/workspace/record"
)

const (
	// settling is how far back a change must lie for the clock of every file system to tell it from the next one.
	settling = 2 * time.Second
	// maxSkipped is how many skipped paths are listed; more are only counted.
	maxSkipped = 1000
)

// Summary is the answer to a save. Entries, files and bytes are of the whole workspace.
type Summary struct {
	SaveID  string `json:"saveId"`
	Entries int    `json:"entries"`
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"`
	// ReadFiles and ReadBytes are what was read, since it might have changed.
	ReadFiles  int   `json:"readFiles"`
	ReadBytes  int64 `json:"readBytes"`
	SentChunks int   `json:"sentChunks"`
	SentBytes  int64 `json:"sentBytes"`
	Skipped    int   `json:"skipped"`
	// Changed counts files that changed while they were read.
	Changed int   `json:"changed"`
	ScanMs  int64 `json:"scanMs"`
	TotalMs int64 `json:"totalMs"`
}

// inode tells one file from another. Its number alone does not: once a file is gone, the next one may get it.
type inode struct {
	ino, dev uint64
	born     record.Time
}

func inodeOf(st beneath.Stat) inode { return inode{st.Ino, st.Dev, st.Born} }

// saver is one save.
type saver struct {
	job    *job
	limits Limits
	out    *record.Writer
	// silent ends the records of progress.
	silent func()
	// leaseWait is how long a leased file is waited for.
	leaseWait time.Duration
	cutter    *cutter
	dev       uint64
	// settled is the time up to which changes lie far enough back.
	settled record.Time
	base    *index
	cursor  cursor
	made    *index
	// known are the chunks that the host has: those of the base, and those sent. It is filled when it is first needed.
	known map[record.ID]struct{}
	// links are the first paths of files that have several.
	links   map[inode]string
	summary Summary
}

// Save writes what a folder holds to the host as records: all of it, or, if the save before was request.BaseSaveID, what
// differs from that. With another base, or none, what was remembered of the save before is dropped at once. Else a save
// that fails changes nothing of what the next one builds on, except where the host is lost after the answer was queued:
// then the next one builds on this save, which the host has never heard of, and its next save is a whole one.
//
// Failures: SPEC_INVALID for a bad request, NOT_FOUND without the folder, CONFLICT while another request is served,
// PAYLOAD_TOO_LARGE above the limits, INTERNAL for a file that cannot be read, or that a process of the guest has leased.
func (k *Keeper) Save(request Request, host Host) error {
	return k.serve(request, host.Gone(), func(job *job, subject subject, root int) error {
		base := k.baseFor(subject, request.BaseSaveID)
		return k.save(job, base, &index{subject: subject, saveID: request.SaveID}, root, host)
	})
}

func (k *Keeper) save(job *job, base, made *index, root int, host Host) error {
	began := time.Now()
	if err := host.Opened(map[string]bool{"delta": base != nil}); err != nil {
		return err
	}
	s, err := newSaver(job, k.limits, host, base, made)
	if err != nil {
		return err
	}
	s.silent, s.leaseWait = s.out.TellProgress(k.tellEvery), k.leaseWait
	defer s.silent()
	if err := beneath.Again(func() error { return unix.Syncfs(root) }); err != nil {
		return beneath.Failed(made.subject.path, err)
	}
	scan := time.Now()
	s.settled = timeOf(k.now().Add(-settling))
	if err := s.all(root); err != nil {
		return err
	}
	s.summary.ScanMs, s.summary.TotalMs = time.Since(scan).Milliseconds(), time.Since(began).Milliseconds()
	return k.commit(job, s.made, func() error { return host.Done(s.summary) })
}

func timeOf(t time.Time) record.Time {
	return record.Time{Sec: t.Unix(), Nsec: int32(t.Nanosecond())}
}

// baseFor returns the index of the save that the host builds on, or nil. An index that it does not build on is dropped.
func (k *Keeper) baseFor(subject subject, saveID string) *index {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.index != nil && (saveID == "" || k.index.saveID != saveID || k.index.subject != subject) {
		k.index = nil
	}
	return k.index
}

func newSaver(job *job, limits Limits, host Host, base, made *index) (*saver, error) {
	s := &saver{
		job: job, limits: limits, out: record.NewWriter(host), base: base, made: made,
		links: map[inode]string{}, summary: Summary{SaveID: made.saveID},
	}
	if base != nil {
		s.cursor.left = base.paths
		made.paths = make([]remembered, 0, len(base.paths))
	}
	var err error
	s.cutter, err = newCutter(newIdentifier(made.subject.salt), s.send)
	return s, err
}

func (s *saver) all(root int) error {
	st, err := beneath.StatAt(root, "")
	if err != nil {
		return beneath.Failed("", err)
	}
	s.dev = st.Dev
	if _, err := s.folder(root, ".", "", st); err != nil {
		return err
	}
	walker := beneath.Walker{Dev: s.dev, Most: s.limits.Entries, Check: s.job.check, Visit: s.visit}
	if err := walker.Walk(root); err != nil {
		return err
	}
	for len(s.cursor.left) > 0 {
		if err := s.out.Write(record.Removed, []byte(s.cursor.next())); err != nil {
			return err
		}
	}
	// Nothing may follow the last record.
	s.silent()
	if err := s.out.Write(record.Finish, nil); err != nil {
		return err
	}
	s.summary.ReadBytes = s.cutter.read
	return s.out.Flush()
}

func (s *saver) visit(folder int, name, path string, st beneath.Stat) (bool, error) {
	if err := s.job.check(); err != nil {
		return false, err
	}
	if st.IsElsewhere(s.dev) {
		return false, s.skip(path, "mount")
	}
	switch st.Kind() {
	case unix.S_IFDIR:
		if s.isLostAndFound(folder, path, st) {
			return false, nil
		}
		return s.folder(folder, name, path, st)
	case unix.S_IFREG:
		return false, s.file(folder, name, path, st)
	case unix.S_IFLNK:
		return false, s.symlink(folder, name, path, st)
	case unix.S_IFSOCK:
		return false, s.skip(path, "socket")
	case unix.S_IFIFO:
		return false, s.skip(path, "pipe")
	}
	return false, s.skip(path, "device")
}

// isLostAndFound returns whether this is the folder that an ext4 file system comes with, unused.
func (s *saver) isLostAndFound(folder int, path string, st beneath.Stat) bool {
	if path != "lost+found" || st.UID != 0 || st.Permissions() != 0o700 {
		return false
	}
	fd, err := beneath.OpenAt(folder, path, beneath.FolderFlags, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	// One name is already too many.
	_, err = beneath.Names(fd, path, 0, s.job.check)
	return err == nil
}

func (s *saver) skip(path, what string) error {
	s.summary.Skipped++
	if s.summary.Skipped > maxSkipped {
		return nil
	}
	payload, err := record.EncodeSkipped(path, what)
	if err != nil {
		return err
	}
	return s.out.Write(record.Skipped, payload)
}

// before returns what the base says of a path, or nil. What the base has before it and the walk has not come by is
// reported as removed.
func (s *saver) before(path string) (*remembered, error) {
	for {
		gone, any := s.cursor.passed(path)
		if !any {
			return s.cursor.at(path), nil
		}
		if err := s.out.Write(record.Removed, []byte(gone)); err != nil {
			return nil, err
		}
	}
}

// unchanged returns whether what the base says of a path is still so.
func unchanged(base *remembered, st beneath.Stat, kind record.Type) bool {
	return base != nil && base.settled && base.tuple == st.Tuple && base.node.Type == kind
}

// keep adds a path to the new index, and sends it if the base says otherwise.
func (s *saver) keep(entry remembered, base *remembered) error {
	s.summary.Entries++
	if entry.node.Type == record.File {
		s.summary.Files++
		s.summary.Bytes += entry.node.Size
	}
	if s.summary.Entries > s.limits.Entries || s.summary.Bytes > s.limits.Bytes {
		return mux.Fail("PAYLOAD_TOO_LARGE", "the workspace holds more than can be saved, at "+beneath.Shown(entry.node.Path))
	}
	s.made.paths = append(s.made.paths, entry)
	if base != nil {
		isSame := base.node.Equal(&entry.node)
		s.cursor.next()
		if isSame {
			return nil
		}
	}
	payload, err := record.Encode(&entry.node)
	if err != nil {
		return err
	}
	if len(payload) > record.MaxEntry {
		return mux.Fail("PAYLOAD_TOO_LARGE", "the list of chunks or attributes is too long: "+beneath.Shown(entry.node.Path))
	}
	return s.out.Write(record.Entry, payload)
}

func (s *saver) folder(parent int, name, path string, st beneath.Stat) (bool, error) {
	base, err := s.before(path)
	if err != nil {
		return false, err
	}
	if unchanged(base, st, record.Folder) {
		return true, s.keep(*base, base)
	}
	fd, err := beneath.OpenAt(parent, name, beneath.FolderFlags, 0)
	if beneath.IsGone(err) {
		return false, nil
	}
	if err != nil {
		return false, beneath.Failed(path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	node := nodeOf(path, record.Folder, st)
	node.Mode = st.Permissions()
	if node.Xattrs, err = xattrsOf(fd); err != nil {
		return false, beneath.Failed(path, err)
	}
	return true, s.keep(remembered{st.Tuple, node, s.isSettled(st)}, base)
}

func (s *saver) symlink(folder int, name, path string, st beneath.Stat) error {
	base, err := s.before(path)
	if err != nil {
		return err
	}
	if unchanged(base, st, record.Symlink) {
		return s.keep(*base, base)
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(folder, name, target)
	if beneath.IsGone(err) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return beneath.Failed(path, err)
	}
	node := nodeOf(path, record.Symlink, st)
	node.Target = string(target[:n])
	return s.keep(remembered{st.Tuple, node, s.isSettled(st)}, base)
}

func nodeOf(path string, kind record.Type, st beneath.Stat) record.Node {
	return record.Node{Path: path, Type: kind, UID: st.UID, GID: st.GID, Mtime: st.Mtime.Clamped()}
}

func (s *saver) isSettled(st beneath.Stat) bool { return !st.Ctime.After(s.settled) }
