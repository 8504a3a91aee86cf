package beneath

import (
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/record"
)

// Visitor looks at one name in a folder. It returns whether to go on with what is in it.
type Visitor func(folder int, name, path string, st Stat) (bool, error)

// Walk visits all that is below a folder, in the order of the bytes of their full paths. That is not the order of a
// plain walk: `a-b` comes after `a` and before `a/x`. Names that vanish meanwhile are left out, and so is what is on
// another file system.
func Walk(root int, dev uint64, visit Visitor) error {
	return walkFolder(root, "", dev, visit)
}

func walkFolder(folder int, prefix string, dev uint64, visit Visitor) error {
	names, err := Names(folder)
	if err != nil {
		return Failed(prefix, err)
	}
	// Folders that were visited and whose content comes after names that begin like theirs.
	var waiting []string
	for _, name := range names {
		for len(waiting) > 0 && waiting[len(waiting)-1]+"/" < name {
			if waiting, err = descendLast(folder, prefix, waiting, dev, visit); err != nil {
				return err
			}
		}
		path := prefix + name
		if len(path) > record.MaxPath {
			return mux.Fail("PAYLOAD_TOO_LARGE", "a path is longer than 4096 bytes: "+Shown(path))
		}
		st, err := StatAt(folder, name)
		if IsGone(err) {
			continue
		}
		if err != nil {
			return Failed(path, err)
		}
		into, err := visit(folder, name, path, st)
		if err != nil {
			return err
		}
		if into {
			waiting = append(waiting, name)
		}
	}
	for len(waiting) > 0 {
		if waiting, err = descendLast(folder, prefix, waiting, dev, visit); err != nil {
			return err
		}
	}
	return nil
}

// descendLast walks the last of the waiting folders. It returns the others.
func descendLast(folder int, prefix string, waiting []string, dev uint64, visit Visitor) ([]string, error) {
	last := len(waiting) - 1
	name := waiting[last]
	below, err := OpenAt(folder, name, FolderFlags, 0)
	if IsGone(err) {
		return waiting[:last], nil
	}
	if err != nil {
		return nil, Failed(prefix+name, err)
	}
	defer func() { _ = unix.Close(below) }()
	st, err := StatAt(below, "")
	if err != nil {
		return nil, Failed(prefix+name, err)
	}
	// Something may have been mounted here since the visit.
	if st.IsElsewhere(dev) {
		return waiting[:last], nil
	}
	return waiting[:last], walkFolder(below, prefix+name+"/", dev, visit)
}

// Names returns the names in a folder, sorted by their bytes.
func Names(folder int) ([]string, error) {
	own, err := OpenAt(folder, ".", FolderFlags, 0)
	if err != nil {
		return nil, err
	}
	listing := os.NewFile(uintptr(own), ".")
	defer func() { _ = listing.Close() }()
	names, err := listing.Readdirnames(-1)
	// A folder that was removed meanwhile has no names.
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}
