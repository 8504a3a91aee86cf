package workspace

import (
	"errors"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/beneath"
	"kiln/guest-agent/internal/workspace/record"
)

// placer makes files and folders below a root. It reaches each through its parent folder, which is opened without
// following a symlink, and makes nothing where there is something already.
type placer struct {
	root int
	// parent is the folder that was used last, since most paths lie in the folder of the one before.
	parent     int
	parentPath string
	hasParent  bool
}

func (p *placer) close() {
	if p.hasParent {
		_ = unix.Close(p.parent)
		p.hasParent = false
	}
}

// in returns the folder that a path lies in, open until the next call, and the name in it.
func (p *placer) in(path string) (int, string, error) {
	parent, name := record.Split(path)
	if path == "" {
		name = "."
	}
	if p.hasParent && p.parentPath == parent {
		return p.parent, name, nil
	}
	fd, err := beneath.Open(p.root, parent)
	if beneath.IsGone(err) {
		return -1, "", mux.Fail("SPEC_INVALID", "an entry lies below something that is no folder: "+beneath.Shown(path))
	}
	if err != nil {
		return -1, "", err
	}
	p.close()
	p.parent, p.parentPath, p.hasParent = fd, parent, true
	return fd, name, nil
}

// folder makes a folder that only root can use until dress gives it its mode. The workspace itself is there already.
func (p *placer) folder(node *record.Node) error {
	if node.Path == "" {
		return nil
	}
	parent, name, err := p.in(node.Path)
	if err != nil {
		return err
	}
	return beneath.Again(func() error { return unix.Mkdirat(parent, name, 0o700) })
}

// dress gives a finished folder its owner, mode, attributes and times. It returns what the folder is then.
func (p *placer) dress(node *record.Node) (beneath.Tuple, error) {
	parent, name, err := p.in(node.Path)
	if err != nil {
		return beneath.Tuple{}, err
	}
	fd, err := beneath.OpenAt(parent, name, beneath.FolderFlags, 0)
	if err != nil {
		return beneath.Tuple{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	return complete(fd, parent, name, node)
}

// complete gives an open file or folder its owner, mode, attributes and times. It returns what it is then: what a process
// makes of it from here on can be told from that.
func complete(fd, parent int, name string, node *record.Node) (beneath.Tuple, error) {
	if err := own(fd, node); err != nil {
		return beneath.Tuple{}, err
	}
	if err := setTime(parent, name, node.Mtime); err != nil {
		return beneath.Tuple{}, err
	}
	st, err := beneath.StatAt(fd, "")
	return st.Tuple, err
}

// symlink makes a symlink, and returns what it is.
func (p *placer) symlink(node *record.Node) (beneath.Tuple, error) {
	none := beneath.Tuple{}
	parent, name, err := p.in(node.Path)
	if err != nil {
		return none, err
	}
	err = beneath.Again(func() error { return unix.Symlinkat(node.Target, parent, name) })
	if errors.Is(err, unix.ENAMETOOLONG) {
		return none, mux.Fail("SPEC_INVALID", "the target of a symlink is too long for this file system: "+beneath.Shown(node.Path))
	}
	if err != nil {
		return none, err
	}
	if err := unix.Fchownat(parent, name, int(node.UID), int(node.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return none, unowned(err)
	}
	if err := setTime(parent, name, node.Mtime); err != nil {
		return none, err
	}
	st, err := beneath.StatAt(parent, name)
	return st.Tuple, err
}

// hardlink gives a file, which was placed before, another path.
func (p *placer) hardlink(node *record.Node) error {
	folder, first := record.Split(node.Target)
	source, err := beneath.Open(p.root, folder)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(source) }()
	parent, name, err := p.in(node.Path)
	if err != nil {
		return err
	}
	return beneath.Again(func() error { return unix.Linkat(source, first, parent, name, 0) })
}

// file makes a file, and calls fill to write it. It returns what the file is then.
func (p *placer) file(node *record.Node, fill func(fd int) error) (beneath.Tuple, error) {
	parent, name, err := p.in(node.Path)
	if err != nil {
		return beneath.Tuple{}, err
	}
	fd, err := beneath.OpenAt(parent, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return beneath.Tuple{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := fill(fd); err != nil {
		return beneath.Tuple{}, err
	}
	return complete(fd, parent, name, node)
}

// stat looks at what lies at a path.
func (p *placer) stat(path string) (beneath.Stat, error) {
	parent, name, err := p.in(path)
	if err != nil {
		return beneath.Stat{}, err
	}
	return beneath.StatAt(parent, name)
}

// own sets owner, mode and attributes, in this order: a new owner takes away setuid and capabilities.
func own(fd int, node *record.Node) error {
	if err := unix.Fchown(fd, int(node.UID), int(node.GID)); err != nil {
		return unowned(err)
	}
	if err := unix.Fchmod(fd, uint32(node.Mode)); err != nil {
		return err
	}
	return setXattrs(fd, node)
}

// unowned: the agent of a process guest may have only some of the machine's users.
func unowned(err error) error {
	if errors.Is(err, unix.EINVAL) {
		return mux.Fail("UNSUPPORTED", "this guest does not have the owner of a file")
	}
	return err
}

// setTime sets when something was changed last. When it was used last is not kept.
func setTime(parent int, name string, mtime record.Time) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: mtime.Sec, Nsec: int64(mtime.Nsec)}}
	return beneath.Again(func() error { return unix.UtimesNanoAt(parent, name, times, unix.AT_SYMLINK_NOFOLLOW) })
}

// writeAt writes a chunk of a file.
func writeAt(fd int, content []byte, at int64) error {
	for len(content) > 0 {
		var n int
		err := beneath.Again(func() (err error) {
			n, err = unix.Pwrite(fd, content, at)
			return err
		})
		if err != nil {
			return err
		}
		content, at = content[n:], at+int64(n)
	}
	return nil
}
