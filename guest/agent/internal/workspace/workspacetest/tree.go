// Package workspacetest makes odd folders, and tells what lies in a folder. It shares no code with what it judges.
package workspacetest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Seen is what lies at a path, as this file alone finds it: it shares no code with what it judges.
type Seen struct {
	mode     os.FileMode
	uid, gid uint32
	mtime    string
	Content  string
	xattrs   string
	// shares is the first path of the same file, for a file that has several.
	shares string
}

type lookout struct {
	t     testing.TB
	found map[string]Seen
	first map[uint64]string
}

// Look returns all that is in a folder. Times of folders count, sizes in blocks and times of use do not.
func Look(t testing.TB, dir string) map[string]Seen {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	l := &lookout{t, map[string]Seen{}, map[uint64]string{}}
	l.one(root, ".", "")
	l.folder(root, "")
	return l.found
}

func (l *lookout) folder(root *os.Root, prefix string) {
	listing, err := root.Open(".")
	if err != nil {
		l.t.Fatal(err)
	}
	names, err := listing.Readdirnames(-1)
	_ = listing.Close()
	if err != nil {
		l.t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		if !l.one(root, name, prefix+name) {
			continue
		}
		below, err := root.OpenRoot(name)
		if err != nil {
			l.t.Fatal(err)
		}
		l.folder(below, prefix+name+"/")
		_ = below.Close()
	}
}

// one adds what has a name, and returns whether that is a folder.
func (l *lookout) one(root *os.Root, name, path string) bool {
	info, err := root.Lstat(name)
	if err != nil {
		l.t.Fatal(err)
	}
	raw := info.Sys().(*syscall.Stat_t)
	s := Seen{mode: info.Mode(), uid: raw.Uid, gid: raw.Gid, mtime: fmt.Sprint(raw.Mtim)}
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		if s.Content, err = root.Readlink(name); err != nil {
			l.t.Fatal(err)
		}
	case info.Mode().IsRegular():
		text, err := root.ReadFile(name)
		if err != nil {
			l.t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		s.Content = fmt.Sprintf("%d %s", len(text), hex.EncodeToString(sum[:]))
		if first, known := l.first[raw.Ino]; known && raw.Nlink > 1 {
			s.shares = first
		} else {
			l.first[raw.Ino] = path
		}
	}
	if info.Mode().IsRegular() || info.IsDir() {
		s.xattrs = l.xattrs(root, name)
	}
	l.found[path] = s
	return info.IsDir()
}

func (l *lookout) xattrs(root *os.Root, name string) string {
	file, err := root.Open(name)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	list := make([]byte, 65536)
	n, err := unix.Flistxattr(int(file.Fd()), list)
	if errors.Is(err, unix.ENOTSUP) {
		return ""
	}
	if err != nil {
		l.t.Fatal(err)
	}
	var lines []string
	for _, attribute := range strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 }) {
		value := make([]byte, 65536)
		size, err := unix.Fgetxattr(int(file.Fd()), attribute, value)
		if err != nil {
			l.t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%q=%q", attribute, value[:size]))
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

// Same fails where two trees differ, and says where.
func Same(t testing.TB, want, got map[string]Seen) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if have, is := got[path]; !is {
			t.Errorf("%.100q is missing", path)
		} else if have != want[path] {
			t.Errorf("%.100q is %+v, not %+v", path, have, want[path])
		}
	}
	for path := range got {
		if _, is := want[path]; !is {
			t.Errorf("%.100q is too much", path)
		}
	}
}

// Must fails the test if a step of its preparation failed.
func Must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func Write(t testing.TB, path string, content []byte) {
	t.Helper()
	Must(t, os.WriteFile(path, content, 0o644))
}

// Noise returns bytes that look random and are the same for the same seed.
func Noise(size int, seed uint64) []byte {
	content := make([]byte, size)
	for at := range content {
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		content[at] = byte(seed >> 32)
	}
	return content
}

// OddTree makes one of everything that a workspace can hold.
func OddTree(t testing.TB, dir string) {
	t.Helper()
	at := func(path string) string { return filepath.Join(dir, path) }
	for _, folder := range []string{"a", "a/x", "a b", "a-", "a-/x", "a0", "closed", "sticky", "empty"} {
		Must(t, os.Mkdir(at(folder), 0o755))
	}
	for _, file := range []string{"a/x/1", "a/-", "a b/z", "a-/x/y", "a0/0", "a!", "a.", "\n", "new\nline", "\xff\xfe", "%", strings.Repeat("n", 255), strings.Repeat("\xc3\x28", 127)} {
		Write(t, at(file), []byte("in "+file))
	}
	Write(t, at("nothing"), nil)
	Write(t, at("closed/inside"), []byte("x"))
	Write(t, at("exact"), Noise(256<<10, 1))
	Write(t, at("one more"), Noise(256<<10+1, 2))
	Write(t, at("large"), Noise(20<<20, 3))
	Write(t, at("zeros"), make([]byte, 1<<20))
	sparse(t, at("sparse"))
	Must(t, os.Truncate(at("nothing"), 0), os.WriteFile(at("all hole"), nil, 0o600), os.Truncate(at("all hole"), 300<<20))
	Must(t, os.Symlink("/anywhere", at("absolute")), os.Symlink("no such", at("dangling")), os.Symlink("..", at("up")), os.Symlink("\xff\n", at("a/odd")))
	Must(t, os.Link(at("exact"), at("a/same")), os.Link(at("exact"), at("zz")), os.Link(at("a0/0"), at("a/0")))
	Must(t, os.Chmod(at("exact"), 0), os.Chmod(at("closed"), 0), os.Chmod(at("sticky"), os.ModeSticky|os.ModeSetgid|0o777))
	if os.Geteuid() == 0 {
		Must(t, os.Lchown(at("a/x/1"), 1000, 2000), os.Lchown(at("up"), 7, 8), os.Lchown(at("empty"), 3, 4))
	}
	Must(t, os.Chmod(at("a!"), os.ModeSetuid|os.ModeSetgid|0o755))
	old := []unix.Timespec{{Sec: -100, Nsec: 5}, {Sec: -100, Nsec: 123456789}}
	Must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at("a."), old, 0), unix.UtimesNanoAt(unix.AT_FDCWD, at("dangling"), old, unix.AT_SYMLINK_NOFOLLOW), unix.UtimesNanoAt(unix.AT_FDCWD, at("empty"), old, 0))
	far := []unix.Timespec{{Sec: 1 << 33}, {Sec: 1 << 33, Nsec: 1}}
	Must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at("%"), far, 0))
}

// sparse makes a file with data, a hole, data, a hole too small to be told, data, and a hole at its end.
func sparse(t testing.TB, path string) {
	t.Helper()
	file, err := os.Create(path)
	Must(t, err)
	for _, at := range []int64{0, 5 << 20, 5<<20 + 40960, 9 << 20} {
		_, err := file.WriteAt(Noise(8192, uint64(at+1)), at)
		Must(t, err)
	}
	Must(t, file.Truncate(30<<20), file.Close())
}

// DeepTree makes paths of almost `most` bytes, of names of 1 and of 255 bytes, and one of exactly so many.
func DeepTree(t testing.TB, dir string, most int) {
	t.Helper()
	for _, name := range []string{"d", strings.Repeat("e", 255)} {
		folder, err := os.OpenRoot(dir)
		Must(t, err)
		path := name
		for len(path)+1+len(name) <= most {
			Must(t, folder.Mkdir(name, 0o755))
			below, err := folder.OpenRoot(name)
			Must(t, err, folder.Close())
			folder, path = below, path+"/"+name
		}
		Must(t, folder.WriteFile(name, []byte("deep"), 0o600))
		if len(path) < most && len(name) == 1 {
			Must(t, folder.WriteFile(name+name, []byte("deepest"), 0o600))
		}
		Must(t, folder.Close())
	}
}
