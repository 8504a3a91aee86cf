package beneath

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
)

// CheckMounts fails with CONFLICT if something is mounted below a folder.
func CheckMounts(folder int, prefix string, dev uint64, check func() error) error {
	names, err := Names(folder, prefix, math.MaxInt, check)
	if err != nil {
		return Failed(prefix, err)
	}
	for _, name := range names {
		if err := check(); err != nil {
			return err
		}
		err := checkMountsAt(folder, name, prefix+name, dev, check)
		if err != nil && !IsGone(err) {
			return Failed(prefix+name, err)
		}
	}
	return nil
}

func checkMountsAt(folder int, name, path string, dev uint64, check func() error) error {
	st, err := StatAt(folder, name)
	if err != nil {
		return err
	}
	if st.IsElsewhere(dev) {
		return mounted(path)
	}
	if st.Kind() != unix.S_IFDIR {
		return nil
	}
	below, err := OpenAt(folder, name, FolderFlags, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(below) }()
	return CheckMounts(below, path+"/", dev, check)
}

func mounted(path string) error {
	return mux.Fail("CONFLICT", "something is mounted in the workspace, at "+Shown(path))
}

// Empty removes all that is in a folder. It follows no symlink, and leaves alone what is mounted below: that is a
// CONFLICT.
func Empty(folder int, prefix string, dev uint64, check func() error) error {
	names, err := Names(folder, prefix, math.MaxInt, check)
	if err != nil {
		return Failed(prefix, err)
	}
	for _, name := range names {
		if err := check(); err != nil {
			return err
		}
		err := removeAt(folder, name, prefix+name, dev, check)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return Failed(prefix+name, err)
		}
	}
	return nil
}

func removeAt(folder int, name, path string, dev uint64, check func() error) error {
	st, err := StatAt(folder, name)
	if err != nil {
		return err
	}
	if st.IsElsewhere(dev) {
		return mounted(path)
	}
	if st.Kind() != unix.S_IFDIR {
		return unix.Unlinkat(folder, name, 0)
	}
	below, err := OpenAt(folder, name, FolderFlags, 0)
	if err != nil {
		return err
	}
	err = Empty(below, path+"/", dev, check)
	_ = unix.Close(below)
	if err != nil {
		return err
	}
	return unix.Unlinkat(folder, name, unix.AT_REMOVEDIR)
}
