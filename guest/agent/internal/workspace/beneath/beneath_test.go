package beneath

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/workspacetest"
)

func TestFoldersAreReachedWithoutOpenat2(t *testing.T) {
	dir := t.TempDir()
	workspacetest.Must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.Symlink("a", filepath.Join(dir, "link")), os.Symlink("/", filepath.Join(dir, "a/out")))
	workspacetest.Write(t, filepath.Join(dir, "file"), nil)
	root := opened(t, dir)
	for _, way := range []func(int, string) (int, error){openSteps, Open} {
		for path, want := range map[string]error{"": nil, "a": nil, "a/b": nil, "c": unix.ENOENT, "file": unix.ENOTDIR, "file/x": unix.ENOTDIR, "link": unix.ENOTDIR, "link/b": unix.ENOTDIR, "a/out": unix.ENOTDIR, "a/out/etc": unix.ENOTDIR} {
			fd, err := way(root, path)
			if err == nil {
				_ = unix.Close(fd)
			}
			if want == nil != (err == nil) || (err != nil && !IsGone(err)) {
				t.Errorf("%q: %v", path, err)
			}
		}
	}
}

func opened(t *testing.T, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, FolderFlags|unix.O_CLOEXEC, 0)
	workspacetest.Must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func isTooMany(err error) bool {
	var failure *mux.Failure
	return errors.As(err, &failure) && failure.Code == "PAYLOAD_TOO_LARGE"
}

func always() error { return nil }

func TestAFolderIsReadInPortions(t *testing.T) {
	dir := t.TempDir()
	const count = 3 * portion
	for i := range count {
		workspacetest.Write(t, filepath.Join(dir, strconv.Itoa(i)), nil)
	}
	folder := opened(t, dir)
	if names, err := Names(folder, "", count, always); err != nil || len(names) != count || !slices.IsSorted(names) {
		t.Errorf("%d names: %v", len(names), err)
	}
	checks := 0
	counting := func() error { checks++; return nil }
	if _, err := Names(folder, "", portion, counting); !isTooMany(err) || checks > 2 {
		t.Errorf("of more than one portion, after %d: %v", checks, err)
	}
	lost := func() error {
		if checks++; checks > 1 {
			return mux.ErrGone
		}
		return nil
	}
	checks = 0
	if _, err := Names(folder, "", count, lost); !errors.Is(err, mux.ErrGone) {
		t.Errorf("after a check that failed: %v", err)
	}
}

func TestAWalkHoldsOnlySoManyNames(t *testing.T) {
	dir := t.TempDir()
	workspacetest.Must(t, os.MkdirAll(filepath.Join(dir, "a/1"), 0o755), os.MkdirAll(filepath.Join(dir, "b/1"), 0o755), os.Mkdir(filepath.Join(dir, "b/2"), 0o755))
	root := opened(t, dir)
	st, err := StatAt(root, "")
	workspacetest.Must(t, err)
	var seen []string
	visit := func(_ int, _, path string, _ Stat) (bool, error) {
		seen = append(seen, path)
		return true, nil
	}
	for most, want := range map[int][]string{1: nil, 2: {"a"}, 3: {"a", "a/1", "b"}, 4: {"a", "a/1", "b", "b/1", "b/2"}} {
		seen = nil
		walker := Walker{Dev: st.Dev, Most: most, Check: always, Visit: visit}
		if err := walker.Walk(root); isTooMany(err) != (most < 4) || !slices.Equal(seen, want) {
			t.Errorf("with %d names: %q, %v", most, seen, err)
		}
	}
}
