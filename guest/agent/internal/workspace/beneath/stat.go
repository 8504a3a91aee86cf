// Package beneath looks at, walks and empties folders by descriptors. It follows no symlink and crosses no mount, whatever
// is swapped meanwhile, so it never leaves the folder that it was given.
package beneath

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/record"
)

// Tuple is what tells that something may have changed: it differs after every change that came later than the clock of
// the file system can resolve.
type Tuple struct {
	Mode     uint16
	UID, GID uint32
	Size     int64
	Mtime    record.Time
	Ctime    record.Time
	Ino, Dev uint64
}

// Stat is what the file system says of one name.
type Stat struct {
	Tuple
	// Links counts the names of a file.
	Links uint32
	// Born is when the file was made, zero where the file system does not tell. Its number may have been another file's.
	Born record.Time
	// mounted is set where something is mounted, even of the same file system; tellsMounts if the kernel can tell.
	mounted, tellsMounts bool
}

// IsElsewhere returns whether this is mounted over a folder that has this device. Devices alone do not tell: a layered
// file system gives its files several.
func (s Stat) IsElsewhere(dev uint64) bool {
	return s.mounted || (!s.tellsMounts && s.Dev != dev)
}

// Kind is the type of what lies there, as unix.S_IFMT masks it.
func (t Tuple) Kind() uint16 { return t.Mode & unix.S_IFMT }

// Permissions are the other bits of the mode, setuid, setgid and sticky included.
func (t Tuple) Permissions() uint16 { return t.Mode &^ unix.S_IFMT }

// StatAt looks at a name in a folder; it follows no symlink. An empty name is the folder itself.
func StatAt(folder int, name string) (Stat, error) {
	var raw unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_EMPTY_PATH
	const wanted = unix.STATX_BASIC_STATS | unix.STATX_BTIME
	if err := Again(func() error { return unix.Statx(folder, name, flags, wanted, &raw) }); err != nil {
		return Stat{}, err
	}
	var born record.Time
	if raw.Mask&unix.STATX_BTIME != 0 {
		born = timeOf(raw.Btime)
	}
	return Stat{
		Tuple: Tuple{
			Mode:  raw.Mode,
			UID:   raw.Uid,
			GID:   raw.Gid,
			Size:  int64(raw.Size),
			Mtime: timeOf(raw.Mtime),
			Ctime: timeOf(raw.Ctime),
			Ino:   raw.Ino,
			Dev:   unix.Mkdev(raw.Dev_major, raw.Dev_minor),
		},
		Links:       raw.Nlink,
		Born:        born,
		mounted:     raw.Attributes&raw.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0,
		tellsMounts: raw.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0,
	}, nil
}

func timeOf(t unix.StatxTimestamp) record.Time { return record.Time{Sec: t.Sec, Nsec: int32(t.Nsec)} }

// OpenAt opens a name in a folder, unless it is a symlink.
func OpenAt(folder int, name string, flags int, mode uint32) (int, error) {
	var fd int
	err := Again(func() (err error) {
		fd, err = unix.Openat(folder, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

// FolderFlags are the flags of a folder that is only read.
const FolderFlags = unix.O_RDONLY | unix.O_DIRECTORY

// Open opens a folder by its path below another one. No symlink is followed, and nothing outside is reached.
func Open(root int, path string) (int, error) {
	if path == "" {
		return OpenAt(root, ".", FolderFlags, 0)
	}
	how := unix.OpenHow{
		Flags:   FolderFlags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	var fd int
	err := Again(func() (err error) {
		fd, err = unix.Openat2(root, path, &how)
		return err
	})
	// EAGAIN: too much is renamed meanwhile for the kernel to be sure of the whole path. Each step alone is sure.
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EAGAIN) {
		return openSteps(root, path)
	}
	return fd, err
}

// openSteps is Open for kernels and sandboxes without openat2: a path without `..` stays below if none of its
// names is a symlink.
func openSteps(root int, path string) (int, error) {
	folder, err := OpenAt(root, ".", FolderFlags, 0)
	for err == nil && path != "" {
		name, rest, _ := strings.Cut(path, "/")
		parent := folder
		folder, err = OpenAt(parent, name, FolderFlags, 0)
		_ = unix.Close(parent)
		path = rest
	}
	return folder, err
}

// Again repeats a system call that a signal has interrupted. It does not repeat EAGAIN, which may last: what makes a file
// busy is up to the processes of the guest.
func Again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// IsGone returns whether a name that was there a moment ago is gone, or something else by now.
func IsGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) ||
		errors.Is(err, unix.ENXIO)
}

// Shown is a path as messages show it: paths are bytes.
func Shown(path string) string { return fmt.Sprintf("%.300q", path) }

// Failed gives an error of the file system a code.
func Failed(what string, err error) error {
	var failure *mux.Failure
	switch {
	case err == nil, errors.As(err, &failure), errors.Is(err, mux.ErrGone):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return mux.Fail("DISK_FULL", Shown(what)+": "+err.Error())
	}
	return mux.Fail("INTERNAL", Shown(what)+": "+err.Error())
}
