package workspace

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/record"
)

// xattrsOf returns the extended attributes that a save keeps. A name that is no UTF-8 cannot be written down and is left
// out.
func xattrsOf(fd int) (map[string]string, error) {
	list, err := sized(func(buffer []byte) (int, error) { return unix.Flistxattr(fd, buffer) })
	if err != nil || list == "" {
		return nil, withoutXattrs(err)
	}
	var found map[string]string
	for name := range strings.SplitSeq(list, "\x00") {
		if !record.ValidXattr(name) || !utf8.ValidString(name) {
			continue
		}
		value, err := sized(func(buffer []byte) (int, error) { return unix.Fgetxattr(fd, name, buffer) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if found == nil {
			found = map[string]string{}
		}
		found[name] = value
	}
	return found, nil
}

// withoutXattrs forgets the error of a file system that has no extended attributes.
func withoutXattrs(err error) error {
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// sized calls read with a buffer that is large enough.
func sized(read func(buffer []byte) (int, error)) (string, error) {
	for {
		n, err := read(nil)
		if err != nil || n == 0 {
			return "", err
		}
		buffer := make([]byte, n)
		n, err = read(buffer)
		if errors.Is(err, unix.ERANGE) {
			// It has grown between the two calls.
			continue
		}
		return string(buffer[:max(n, 0)]), err
	}
}

// acls are access control lists. No save keeps them; the default one of a folder goes on to what is made in it.
var acls = []string{"system.posix_acl_access", "system.posix_acl_default"}

// clearXattrs takes away the attributes that a save keeps, and access control lists.
func clearXattrs(fd int) error {
	list, err := sized(func(buffer []byte) (int, error) { return unix.Flistxattr(fd, buffer) })
	if err := withoutXattrs(err); err != nil {
		return err
	}
	names := slices.DeleteFunc(strings.Split(list, "\x00"), func(name string) bool { return !record.ValidXattr(name) })
	for _, name := range append(names, acls...) {
		err := withoutXattrs(unix.Fremovexattr(fd, name))
		if err != nil && !errors.Is(err, unix.ENODATA) {
			return err
		}
	}
	return nil
}

func setXattrs(fd int, node *record.Node) error {
	for name, value := range node.Xattrs {
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if errors.Is(err, unix.ENOTSUP) {
			return mux.Fail("UNSUPPORTED", "the file system of the workspace cannot keep the attribute "+name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
