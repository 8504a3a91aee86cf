package workspace

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/beneath"
	"kiln/guest-agent/internal/workspace/record"
)

// Restored is the answer to a restore.
type Restored struct {
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// restorer is one restore.
type restorer struct {
	job    *job
	limits Limits
	in     *record.Reader
	ids    *identifier
	place  *placer
	made   *index
	answer Restored
}

// Restore makes a folder what the records of a host say; what was in it before is removed. The next save may then build on
// request.SaveID. A restore that fails leaves a part of the files, and no index.
//
// Failures: SPEC_INVALID for a bad request or entry, AGENT_PROTOCOL for records that do not follow on each other,
// NOT_FOUND without the folder, CONFLICT while another request is served or something is mounted in the folder,
// PAYLOAD_TOO_LARGE above the limits, DISK_FULL, UNSUPPORTED for attributes and owners that the file system cannot keep.
func (k *Keeper) Restore(request Request, host Host) error {
	return k.serve(request, host.Gone(), func(job *job, subject subject, root int) error {
		return k.restore(job, &index{subject: subject, saveID: request.SaveID}, root, host)
	})
}

func (k *Keeper) restore(job *job, made *index, root int, host Host) error {
	k.mu.Lock()
	k.index = nil
	k.mu.Unlock()
	r := &restorer{
		job: job, limits: k.limits, in: record.NewReader(host), ids: newIdentifier(made.subject.salt),
		place: &placer{root: root}, made: made,
	}
	defer r.place.close()
	stop := record.NewWriter(host).TellProgress(k.tellEvery)
	defer stop()
	if err := r.all(root); err != nil {
		return err
	}
	stop()
	return k.commit(job, r.made, func() error { return host.Done(r.answer) })
}

func (r *restorer) all(root int) error {
	st, err := beneath.StatAt(root, "")
	if err != nil {
		return beneath.Failed("", err)
	}
	if err := r.clear(root, st.Dev); err != nil {
		return err
	}
	if err := r.records(); err != nil {
		return err
	}
	// Deepest first: what is made in a folder changes its time.
	for at := len(r.made.paths) - 1; at >= 0; at-- {
		entry := &r.made.paths[at]
		if entry.node.Type != record.Folder {
			continue
		}
		if entry.tuple, err = r.place.dress(&entry.node); err != nil {
			return beneath.Failed(entry.node.Path, err)
		}
	}
	if err := beneath.Again(func() error { return unix.Syncfs(root) }); err != nil {
		return beneath.Failed("", err)
	}
	return r.look()
}

// clear removes all that is in the workspace, and what its folder would hand on to what is made in it. Nothing is removed
// where something is mounted.
func (r *restorer) clear(root int, dev uint64) error {
	if err := beneath.CheckMounts(root, "", dev, r.job.check); err != nil {
		return err
	}
	if err := beneath.Empty(root, "", dev, r.job.check); err != nil {
		return err
	}
	return beneath.Failed("", clearXattrs(root))
}

// records makes what the records say, up to the last one.
func (r *restorer) records() error {
	for {
		kind, payload, err := r.next()
		if err != nil {
			return err
		}
		switch {
		case kind == record.Finish && len(r.made.paths) > 0:
			return r.end()
		case kind != record.Entry:
			return unexpected(kind)
		}
		node, err := record.Decode(payload)
		if err != nil {
			return err
		}
		if err := r.entry(node); err != nil {
			return beneath.Failed(node.Path, err)
		}
	}
}

func (r *restorer) next() (record.Kind, []byte, error) {
	kind, payload, err := r.in.Next()
	if errors.Is(err, io.EOF) {
		err = mux.Fail("AGENT_PROTOCOL", "the data ends before its finish record")
	}
	return kind, payload, err
}

func (r *restorer) end() error {
	_, _, err := r.in.Next()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		err = mux.Fail("AGENT_PROTOCOL", "something follows the finish record")
	}
	return err
}

func unexpected(kind record.Kind) error {
	return mux.Fail("AGENT_PROTOCOL", fmt.Sprintf("a record of type %d where it cannot be", kind))
}

// entry makes what one entry says.
func (r *restorer) entry(node record.Node) error {
	if err := r.follows(node.Path); err != nil {
		return err
	}
	r.answer.Entries++
	r.answer.Bytes += node.Size
	if r.answer.Entries > r.limits.Entries || r.answer.Bytes > r.limits.Bytes {
		return mux.Fail("PAYLOAD_TOO_LARGE", "more than a workspace may hold")
	}
	var err error
	var tuple beneath.Tuple
	switch node.Type {
	case record.Folder:
		err = r.place.folder(&node)
	case record.Symlink:
		tuple, err = r.place.symlink(&node)
	case record.Hardlink:
		if r.made.file(node.Target) == nil {
			return mux.Fail("SPEC_INVALID", "the target of the hard link is no file: "+beneath.Shown(node.Path))
		}
		err = r.place.hardlink(&node)
	case record.File:
		tuple, err = r.place.file(&node, func(fd int) error { return r.fill(fd, &node) })
	}
	r.made.paths = append(r.made.paths, remembered{tuple: tuple, node: node})
	return err
}

// follows checks the order: the workspace itself, then all others by the bytes of their paths.
func (r *restorer) follows(path string) error {
	count := len(r.made.paths)
	if (count == 0) != (path == "") || (count > 0 && path <= r.made.paths[count-1].node.Path) {
		return mux.Fail("AGENT_PROTOCOL", "an entry is out of order: "+beneath.Shown(path))
	}
	return nil
}

// fill writes a file from the chunks that follow its entry.
func (r *restorer) fill(fd int, node *record.Node) error {
	var at int64
	for _, piece := range node.Pieces {
		if piece.Hole {
			at += piece.Bytes
			continue
		}
		kind, content, err := r.next()
		if err != nil {
			return err
		}
		if kind != record.Chunk {
			return unexpected(kind)
		}
		if int64(len(content)) != piece.Bytes || r.ids.of(content) != piece.ID {
			return mux.Fail("AGENT_PROTOCOL", "a chunk is not the one of its entry: "+beneath.Shown(node.Path))
		}
		if err := writeAt(fd, content, at); err != nil {
			return err
		}
		at += piece.Bytes
	}
	return beneath.Again(func() error { return unix.Ftruncate(fd, node.Size) })
}

// look makes the index: what the file system now says of each path. What is still as this restore has made it need not
// lie far back to be settled, as in a save: it is enough that the clock of the file system has gone on since. What a
// process has changed meanwhile is read by the next save.
func (r *restorer) look() error {
	var last record.Time
	for at := range r.made.paths {
		if err := r.job.check(); err != nil {
			return err
		}
		entry := &r.made.paths[at]
		st, err := r.place.stat(entry.node.Path)
		if err != nil {
			return beneath.Failed(entry.node.Path, err)
		}
		entry.settled = isAsMade(entry.tuple, st)
		entry.tuple = st.Tuple
		if st.Ctime.After(last) {
			last = st.Ctime
		}
	}
	root := &r.made.paths[0]
	isPast, err := r.passes(last, root)
	if err != nil {
		return beneath.Failed("", err)
	}
	for at := range r.made.paths {
		r.made.paths[at].settled = r.made.paths[at].settled && isPast && at > 0
	}
	return nil
}

// isAsMade returns whether nothing has changed since this restore made it. Another path of a file changes its ctime: that
// of a file with several does not count.
func isAsMade(made beneath.Tuple, st beneath.Stat) bool {
	if st.Kind() == unix.S_IFREG && st.Links > 1 {
		made.Ctime = st.Ctime
	}
	return made == st.Tuple
}

const (
	tick     = time.Millisecond
	maxTicks = 3000
)

// passes changes the workspace's own folder until its file system gives that a later time than last. It returns false if
// that does not come: what was restored is then read again by the next save.
func (r *restorer) passes(last record.Time, root *remembered) (bool, error) {
	for range maxTicks {
		if err := r.job.check(); err != nil {
			return false, err
		}
		if err := setTime(r.place.root, ".", root.node.Mtime); err != nil {
			return false, err
		}
		st, err := beneath.StatAt(r.place.root, "")
		if err != nil {
			return false, err
		}
		root.tuple = st.Tuple
		if st.Ctime.After(last) {
			return true, nil
		}
		time.Sleep(tick)
	}
	return false, nil
}
