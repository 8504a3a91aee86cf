// Package archive unpacks and packs tar streams below one directory, without ever leaving it.
package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
)

// Limits are what one archive may contain at most.
type Limits struct {
	Entries int
	Bytes   int64
}

// DefaultLimits are far above what a workspace holds, and low enough that the inodes do not fill a guest's memory.
var DefaultLimits = Limits{Entries: 2_000_000, Bytes: 64 << 30}

const (
	maxName  = 4096
	fileMode = fs.FileMode(0o777)
)

type unpacker struct {
	root    *os.Root
	limits  Limits
	entries int
	bytes   int64
	folders []*tar.Header
	buffer  []byte
	// below is a descriptor of the same folder as root, for the openat2 call that creates each file.
	below int
}

// Unpack writes the entries of a tar below dir, which is made if absent. An entry that names something outside, or
// would be written outside through a symlink, is refused. A symlink itself may point anywhere, because nothing is
// written through it. It returns the number of tar bytes read, its padding included.
func Unpack(dir string, source io.Reader, limits Limits) (int64, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, failed(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, failed(err)
	}
	defer func() { _ = root.Close() }()
	counted := &counter{source: source}
	below, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, failed(err)
	}
	defer func() { _ = unix.Close(below) }()
	u := &unpacker{root: root, below: below, limits: limits, buffer: make([]byte, 64*1024)}
	if err := u.all(tar.NewReader(counted)); err != nil {
		return counted.n, err
	}
	_, err = io.Copy(io.Discard, counted)
	return counted.n, err
}

func (u *unpacker) all(reader *tar.Reader) error {
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return u.dateFolders()
		}
		if err != nil {
			return malformed(err)
		}
		u.entries++
		u.bytes += max(header.Size, 0)
		if u.entries > u.limits.Entries || u.bytes > u.limits.Bytes {
			return mux.Fail("PAYLOAD_TOO_LARGE", "the archive unpacks to more than its limits allow")
		}
		name, err := cleanName(header.Name)
		if err != nil {
			return err
		}
		header.Name = name
		if err := u.entry(header, reader); err != nil {
			return err
		}
	}
}

func cleanName(name string) (string, error) {
	if len(name) > maxName || strings.ContainsRune(name, 0) {
		return "", mux.Fail("SPEC_INVALID", "an archive entry has an impossible name")
	}
	cleaned := path.Clean(name)
	if path.IsAbs(cleaned) || cleaned == ".." || strings.HasPrefix(cleaned, "../") {
		return "", mux.Fail("SPEC_INVALID", fmt.Sprintf("archive entry %q would leave the target", name))
	}
	return cleaned, nil
}

func (u *unpacker) entry(header *tar.Header, content io.Reader) error {
	if header.Name == "." {
		return nil
	}
	switch header.Typeflag {
	case tar.TypeDir:
		u.folders = append(u.folders, header)
		return u.folder(header)
	case tar.TypeReg:
		return u.file(header, content)
	case tar.TypeSymlink:
		return u.replace(header.Name, func() error { return u.root.Symlink(header.Linkname, header.Name) })
	case tar.TypeLink:
		target, err := cleanName(header.Linkname)
		if err != nil {
			return err
		}
		return u.replace(header.Name, func() error { return u.root.Link(target, header.Name) })
	case tar.TypeXGlobalHeader:
		return nil
	}
	return mux.Fail("SPEC_INVALID", fmt.Sprintf("archive entry %q is a device or pipe", header.Name))
}

func (u *unpacker) folder(header *tar.Header) error {
	if info, err := u.root.Lstat(header.Name); err == nil && !info.IsDir() {
		if err := u.root.Remove(header.Name); err != nil {
			return failed(err)
		}
	}
	if err := u.root.MkdirAll(header.Name, 0o755); err != nil {
		return failed(err)
	}
	return failed(u.root.Chmod(header.Name, fs.FileMode(header.Mode)&fileMode))
}

// replace calls create for a name. It first makes a missing folder, and removes whatever has the name already.
func (u *unpacker) replace(name string, create func() error) error {
	err := create()
	if errors.Is(err, fs.ErrNotExist) {
		if err := u.root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return failed(err)
		}
		err = create()
	}
	if errors.Is(err, fs.ErrExist) {
		if err := u.root.RemoveAll(name); err != nil {
			return failed(err)
		}
		err = create()
	}
	return failed(err)
}

// create creates a file. os.Root opens every folder of a path in turn, which costs several times as much as the rest of
// a small file; openat2 with RESOLVE_BENEATH guarantees the same in one call.
func (u *unpacker) create(name string, mode fs.FileMode) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC,
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(u.below, name, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), name), nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
			return u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		}
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
}

func (u *unpacker) file(header *tar.Header, content io.Reader) error {
	var file *os.File
	mode := fs.FileMode(header.Mode) & fileMode
	err := u.replace(header.Name, func() (err error) {
		file, err = u.create(header.Name, mode)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if _, err := io.CopyBuffer(plain{file}, content, u.buffer); err != nil {
		return failed(err)
	}
	if err := file.Chmod(mode); err != nil {
		return failed(err)
	}
	when := unix.NsecToTimeval(header.ModTime.UnixNano())
	if err := unix.Futimes(int(file.Fd()), []unix.Timeval{when, when}); err != nil {
		return failed(err)
	}
	return failed(file.Close())
}

// plain hides the method ReadFrom, so that io.CopyBuffer uses its buffer.
type plain struct{ io.Writer }

// dateFolders sets the times of folders last, because creating entries in a folder changes its time.
func (u *unpacker) dateFolders() error {
	for i := len(u.folders) - 1; i >= 0; i-- {
		header := u.folders[i]
		if info, err := u.root.Lstat(header.Name); err != nil || !info.IsDir() {
			continue
		}
		if err := u.root.Chtimes(header.Name, time.Time{}, header.ModTime); err != nil {
			return failed(err)
		}
	}
	return nil
}

// escapes is the error with which os.Root refuses to leave its folder; the library does not export it.
var escapes = func() error {
	root, err := os.OpenRoot("/")
	if err != nil {
		return nil
	}
	defer func() { _ = root.Close() }()
	_, err = root.Stat("..")
	var refused *fs.PathError
	if !errors.As(err, &refused) {
		return nil
	}
	return refused.Err
}()

type counter struct {
	source io.Reader
	n      int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.source.Read(p)
	c.n += int64(n)
	return n, err
}

func malformed(err error) error {
	var failure *mux.Failure
	if errors.As(err, &failure) || errors.Is(err, mux.ErrGone) {
		return err
	}
	return mux.Fail("SPEC_INVALID", "not a readable archive: "+err.Error())
}

func failed(err error) error {
	var failure *mux.Failure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failure), errors.Is(err, mux.ErrGone):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return mux.Fail("DISK_FULL", err.Error())
	case errors.Is(err, fs.ErrNotExist):
		return mux.Fail("NOT_FOUND", err.Error())
	case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF):
		return malformed(err)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return mux.Fail("SPEC_INVALID", "an archive entry lies below something that is no folder: "+err.Error())
	case errors.Is(err, unix.EXDEV), escapes != nil && errors.Is(err, escapes):
		return mux.Fail("SPEC_INVALID", "an archive entry would leave the target: "+err.Error())
	}
	return mux.Fail("INTERNAL", err.Error())
}
