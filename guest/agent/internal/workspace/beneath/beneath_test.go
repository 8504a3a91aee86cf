package beneath

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/workspace/workspacetest"
)

func TestFoldersAreReachedWithoutOpenat2(t *testing.T) {
	dir := t.TempDir()
	workspacetest.Must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.Symlink("a", filepath.Join(dir, "link")), os.Symlink("/", filepath.Join(dir, "a/out")))
	workspacetest.Write(t, filepath.Join(dir, "file"), nil)
	root, err := unix.Open(dir, FolderFlags|unix.O_CLOEXEC, 0)
	workspacetest.Must(t, err)
	defer func() { _ = unix.Close(root) }()
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
