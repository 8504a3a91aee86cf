package workspace

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/workspacetest"
)

// leased makes a file in a folder that a process has leased, and does not give up when it is asked to.
func leased(t *testing.T, dir string) *os.File {
	t.Helper()
	path := filepath.Join(dir, "leased")
	workspacetest.Write(t, path, []byte("x"))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	workspacetest.Must(t, err)
	t.Cleanup(func() { _ = file.Close() })
	if _, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("the file system of %s has no leases: %v", dir, err)
	}
	return file
}

func TestALeasedFileIsNotWaitedForWithoutEnd(t *testing.T) {
	dir := t.TempDir()
	leased(t, dir)
	keeper := newKeeper()
	keeper.leaseWait = 50 * time.Millisecond
	err := keeper.Save(Request{Path: dir, SaveID: "one", SaltHex: salt}, &host{})
	if codeOf(err) != "INTERNAL" || !strings.Contains(err.Error(), `"leased" is leased`) {
		t.Errorf("%v", err)
	}
}

func TestAHostThatIsLostEndsTheWaitForALeasedFile(t *testing.T) {
	dir := t.TempDir()
	leased(t, dir)
	keeper := newKeeper()
	keeper.leaseWait = time.Hour
	gone, began := make(chan struct{}), time.Now()
	time.AfterFunc(100*time.Millisecond, func() { close(gone) })
	err := keeper.Save(Request{Path: dir, SaveID: "one", SaltHex: salt}, &host{gone: gone})
	if took := time.Since(began); !errors.Is(err, mux.ErrGone) || took > 10*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

func TestAFileWhoseLeaseIsGivenUpIsSaved(t *testing.T) {
	dir := t.TempDir()
	file := leased(t, dir)
	time.AfterFunc(100*time.Millisecond, func() { _ = file.Close() })
	keeper := newKeeper()
	keeper.leaseWait = time.Minute
	if a := newStored(t).save(keeper, dir, "one", ""); !slices.Equal(a.entries, []string{"", "leased"}) {
		t.Errorf("%q", a.entries)
	}
}

// A file that is removed leaves its number to a file that is made after it, which is none of its paths.
func TestAFileWithTheNumberOfAnotherIsNoPathOfIt(t *testing.T) {
	dir := t.TempDir()
	at := func(path string) string { return filepath.Join(dir, path) }
	workspacetest.Write(t, at("a"), []byte("first"))
	workspacetest.Must(t, os.Link(at("a"), at("b")))
	// It comes after the first file, and before the other one.
	workspacetest.Write(t, at("m"), workspacetest.Noise(1<<20, 1))
	workspacetest.Write(t, at("z"), nil)
	number := numberOf(t, at("a"))
	isUsedAgain := false
	h := &host{onWrite: sync.OnceFunc(func() {
		workspacetest.Must(t, os.Remove(at("a")), os.Remove(at("b")))
		for i := range 10_000 {
			path := at(fmt.Sprint("new", i))
			workspacetest.Write(t, path, []byte("other"))
			if isUsedAgain = numberOf(t, path) == number; isUsedAgain {
				workspacetest.Must(t, os.Link(path, at("zz")), os.Rename(path, at("z")))
				return
			}
		}
	})}
	workspacetest.Must(t, newKeeper().Save(Request{Path: dir, SaveID: "one", SaltHex: salt}, h))
	if !isUsedAgain {
		t.Skipf("the file system of %s does not use the number of a file again", dir)
	}
	s := newStored(t)
	s.take(h)
	if entry := s.entries["z"]; entry.Type != "file" || entry.Size != 5 || entry.Chunks[0][0] != idOf("other") {
		t.Errorf("%s", entry.raw)
	}
}

func numberOf(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	workspacetest.Must(t, unix.Lstat(path, &st))
	return st.Ino
}

// hook is a reader without content that calls a function when it is come to.
type hook func()

func (h hook) Read([]byte) (int, error) {
	h()
	return 0, io.EOF
}

// What a process changes during a restore, after the restore has made it, is read by the next save.
func TestWhatChangesDuringARestoreIsSavedNext(t *testing.T) {
	source := t.TempDir()
	workspacetest.Write(t, filepath.Join(source, "f"), []byte("old"))
	workspacetest.Write(t, filepath.Join(source, "linked"), []byte("old"))
	workspacetest.Must(t, os.Link(filepath.Join(source, "linked"), filepath.Join(source, "other path")), os.Symlink("old", filepath.Join(source, "symlink")))
	for name, c := range map[string]struct {
		change func(at func(path string) string) error
		want   []string
	}{
		"nothing": {func(func(string) string) error { return nil }, nil},
		"size":    {func(at func(string) string) error { return os.WriteFile(at("f"), []byte("longer"), 0) }, []string{"f"}},
		"content": {func(at func(string) string) error { return os.WriteFile(at("f"), []byte("new"), 0) }, []string{"f"}},
		"content, with the time of before": {func(at func(string) string) error {
			info, err := os.Stat(at("f"))
			return errors.Join(err, os.WriteFile(at("f"), []byte("new"), 0), os.Chtimes(at("f"), time.Time{}, info.ModTime()))
		}, []string{"f"}},
		"mode":              {func(at func(string) string) error { return os.Chmod(at("f"), 0o600) }, []string{"f"}},
		"a file with paths": {func(at func(string) string) error { return os.WriteFile(at("other path"), []byte("new"), 0) }, []string{"linked"}},
		"target": {func(at func(string) string) error {
			return errors.Join(os.Remove(at("symlink")), os.Symlink("new", at("symlink")))
		}, []string{"symlink"}},
	} {
		keeper, s, dir := newKeeper(), newStored(t), t.TempDir()
		s.save(newKeeper(), source, "one", "")
		records := string(s.records())
		made := strings.TrimSuffix(records, string(finish))
		change := hook(func() {
			workspacetest.Must(t, c.change(func(path string) string { return filepath.Join(dir, path) }))
		})
		h := &host{in: io.MultiReader(strings.NewReader(made), change, strings.NewReader(records[len(made):]))}
		workspacetest.Must(t, keeper.Restore(Request{Path: dir, SaveID: "one", SaltHex: salt}, h))
		if a := s.save(keeper, dir, "two", "one"); !a.delta || !slices.Equal(a.entries, c.want) {
			t.Errorf("%s: %q is sent", name, a.entries)
		}
		other := t.TempDir()
		_, err := restore(newKeeper(), other, "x", s.records())
		workspacetest.Must(t, err)
		workspacetest.Same(t, workspacetest.Look(t, dir), workspacetest.Look(t, other))
	}
}
