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

// Walker walks folders.
type Walker struct {
	// Dev is the device of the folder.
	Dev uint64
	// Most bounds the names that are held at a time: those of one folder and of all above it.
	Most int
	// Check is called while names are read; its error ends the walk.
	Check func() error
	Visit Visitor

	held int
}

// Walk visits all that is below a folder, in the order of the bytes of their full paths. That is not the order of a
// plain walk: `a-b` comes after `a` and before `a/x`. Names that vanish meanwhile are left out, and so is what is on
// another file system.
func (w *Walker) Walk(root int) error { return w.folder(root, "") }

func (w *Walker) folder(folder int, prefix string) error {
	names, err := Names(folder, prefix, w.Most-w.held, w.Check)
	if err != nil {
		return Failed(prefix, err)
	}
	w.held += len(names)
	defer func() { w.held -= len(names) }()
	// Folders that were visited and whose content comes after names that begin like theirs.
	var waiting []string
	for _, name := range names {
		for len(waiting) > 0 && waiting[len(waiting)-1]+"/" < name {
			if waiting, err = w.descendLast(folder, prefix, waiting); err != nil {
				return err
			}
		}
		into, err := w.one(folder, name, prefix+name)
		if err != nil {
			return err
		}
		if into {
			waiting = append(waiting, name)
		}
	}
	for len(waiting) > 0 {
		if waiting, err = w.descendLast(folder, prefix, waiting); err != nil {
			return err
		}
	}
	return nil
}

// one visits a name, unless it has vanished. It returns whether to go on with what is in it.
func (w *Walker) one(folder int, name, path string) (bool, error) {
	if len(path) > record.MaxPath {
		return false, mux.Fail("PAYLOAD_TOO_LARGE", "a path is longer than 4096 bytes: "+Shown(path))
	}
	st, err := StatAt(folder, name)
	if IsGone(err) {
		return false, nil
	}
	if err != nil {
		return false, Failed(path, err)
	}
	return w.Visit(folder, name, path, st)
}

// descendLast walks the last of the waiting folders. It returns the others.
func (w *Walker) descendLast(folder int, prefix string, waiting []string) ([]string, error) {
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
	if st.IsElsewhere(w.Dev) {
		return waiting[:last], nil
	}
	return waiting[:last], w.folder(below, prefix+name+"/")
}

// portion is how many names are read between two calls of check.
const portion = 1024

// Names returns the names in the folder at a path, sorted by their bytes. More than most of them are PAYLOAD_TOO_LARGE.
func Names(folder int, path string, most int, check func() error) ([]string, error) {
	own, err := OpenAt(folder, ".", FolderFlags, 0)
	if err != nil {
		return nil, err
	}
	listing := os.NewFile(uintptr(own), ".")
	defer func() { _ = listing.Close() }()
	var names []string
	for {
		if err := check(); err != nil {
			return nil, err
		}
		some, err := listing.Readdirnames(portion)
		names = append(names, some...)
		if len(names) > most {
			return nil, mux.Fail("PAYLOAD_TOO_LARGE", "a folder holds too many names: "+Shown(path))
		}
		// A folder that was removed meanwhile has no names.
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	// A name that is replaced while the folder is read may come twice.
	return slices.Compact(names), nil
}
