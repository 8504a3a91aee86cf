package workspace

import (
	"bytes"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/workspace/beneath"
	"kiln/guest-agent/internal/workspace/workspacetest"
)

func TestWhatIsNoFileIsSkipped(t *testing.T) {
	mount := mounting(t)
	dir := t.TempDir()
	at := func(path string) string { return filepath.Join(dir, path) }
	workspacetest.Must(t, os.Mkdir(at("d"), 0o755))
	workspacetest.Write(t, at("d/file"), []byte("x"))
	socket, err := net.Listen("unix", at("d/socket"))
	workspacetest.Must(t, err)
	defer func() { _ = socket.Close() }()
	workspacetest.Must(t, unix.Mkfifo(at("pipe"), 0o600), unix.Mknod(at("null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))), unix.Mknod(at("disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200))))
	mount("tmpfs", "", at("mounted"))
	workspacetest.Write(t, at("mounted/inside"), []byte("x"))
	// The same file system at another place, and a file on a file.
	workspacetest.Must(t, os.Mkdir(at("bound"), 0o755), unix.Mount(at("d"), at("bound"), "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(at("bound"), unix.MNT_DETACH) })
	workspacetest.Write(t, at("over"), nil)
	workspacetest.Must(t, unix.Mount(at("d/file"), at("over"), "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(at("over"), unix.MNT_DETACH) })
	keeper, s := newKeeper(), newStored(t)
	want := map[string]string{"d/socket": "socket", "pipe": "pipe", "null": "device", "disk": "device", "mounted": "mount", "bound": "mount", "over": "mount"}
	a := s.save(keeper, dir, "one", "")
	if !slices.Equal(a.entries, []string{"", "d", "d/file"}) || !maps.Equal(a.skipped, want) || a.summary.Skipped != len(want) {
		t.Errorf("%q %v", a.entries, a.skipped)
	}
	if a := s.save(keeper, dir, "two", "one"); !a.delta || len(a.entries) > 0 || !maps.Equal(a.skipped, want) {
		t.Errorf("%q %v", a.entries, a.skipped)
	}
	// A restore does not remove what is on another file system.
	if _, err := restore(keeper, dir, "x", join(folderEntry(""), finish)); codeOf(err) != "CONFLICT" {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(at("mounted/inside")); err != nil {
		t.Errorf("a file on another file system was removed: %v", err)
	}
}

func TestWhatIsMountedDuringAWalkIsLeftOut(t *testing.T) {
	mount := mounting(t)
	saveWhileAFolderChanges(t, func(folder string) {
		mount("tmpfs", "", folder)
		workspacetest.Write(t, filepath.Join(folder, "inside"), []byte("x"))
	})
}

func TestWhatBecomesNoFileIsRemoved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	workspacetest.Write(t, path, nil)
	keeper, s := newKeeper(), newStored(t)
	s.save(keeper, dir, "one", "")
	workspacetest.Must(t, os.Remove(path), unix.Mkfifo(path, 0o600))
	if a := s.save(keeper, dir, "two", "one"); !slices.Equal(a.removed, []string{"f"}) || a.skipped["f"] != "pipe" {
		t.Errorf("%q %v", a.removed, a.skipped)
	}
}

func TestOnlyTheFirstSkippedPathsAreListed(t *testing.T) {
	dir := t.TempDir()
	for i := range maxSkipped + 5 {
		workspacetest.Must(t, unix.Mkfifo(filepath.Join(dir, strconv.Itoa(i)), 0o600))
	}
	if a := newStored(t).save(newKeeper(), dir, "one", ""); len(a.skipped) != maxSkipped || a.summary.Skipped != maxSkipped+5 {
		t.Errorf("%d listed of %d", len(a.skipped), a.summary.Skipped)
	}
}

func TestAnUnusedLostAndFoundIsLeftOut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a folder of root takes root")
	}
	dir := t.TempDir()
	folder := filepath.Join(dir, "lost+found")
	has := func() bool {
		s := newStored(t)
		s.save(newKeeper(), dir, "one", "")
		_, is := s.entries["lost+found"]
		return is
	}
	workspacetest.Must(t, os.Mkdir(folder, 0o700), os.MkdirAll(filepath.Join(dir, "d"), 0o755))
	if has() {
		t.Error("it is saved")
	}
	workspacetest.Must(t, os.Chmod(folder, 0o755))
	if !has() {
		t.Error("another mode is left out")
	}
	workspacetest.Must(t, os.Chmod(folder, 0o700), os.Lchown(folder, 1, 0))
	if !has() {
		t.Error("one of another user is left out")
	}
	workspacetest.Must(t, os.Lchown(folder, 0, 0), os.WriteFile(filepath.Join(folder, "#1"), nil, 0o600))
	if !has() {
		t.Error("one that holds something is left out")
	}
}

func TestAttributesAreKept(t *testing.T) {
	dir := t.TempDir()
	file, folder := filepath.Join(dir, "file"), filepath.Join(dir, "folder")
	workspacetest.Write(t, file, []byte("x"))
	workspacetest.Must(t, os.Mkdir(folder, 0o755))
	err := unix.Lsetxattr(file, "user.one", []byte("1\x00\xff"), 0)
	if errors.Is(err, unix.ENOTSUP) {
		t.Logf("the file system of %s has no extended attributes: only that they are refused is tested", dir)
		_, err := restore(newKeeper(), dir, "one", join(folderEntry(""), fileEntry("f", "x", `,"xattrs":{"user.one":"MQ=="}`), rawRecord(1, []byte("x")), finish))
		if codeOf(err) != "UNSUPPORTED" {
			t.Errorf("%v", err)
		}
		return
	}
	workspacetest.Must(t, err, unix.Lsetxattr(file, "user.empty", nil, 0), unix.Lsetxattr(folder, "user.two", workspacetest.Noise(3000, 1), 0))
	if os.Geteuid() == 0 {
		// cap_net_bind_service, permitted and effective: version 2 of the form.
		capability := append([]byte{1, 0, 0, 2, 0, 4}, make([]byte, 14)...)
		workspacetest.Must(t, unix.Lsetxattr(file, "security.capability", capability, 0), os.Lchown(folder, 5, 6), unix.Lsetxattr(dir, "user.root", []byte("r"), 0))
	}
	roundTrip(t, dir)
	keeper, s := newKeeper(), newStored(t)
	s.save(keeper, dir, "one", "")
	workspacetest.Must(t, unix.Lsetxattr(file, "user.one", []byte("2"), 0), unix.Lremovexattr(folder, "user.two"))
	if a := s.save(keeper, dir, "two", "one"); !slices.Equal(a.entries, []string{"file", "folder"}) || a.summary.SentChunks > 0 {
		t.Errorf("%q", a.entries)
	}
}

// acl gives user 1000 all rights, and others none: version 2 of the form.
var acl = []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 232, 3, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}

// attributed gives a file or folder attributes, or skips the test where the file system or the user may not.
func attributed(t *testing.T, folder string, attributes ...string) {
	t.Helper()
	for _, name := range attributes {
		if err := unix.Lsetxattr(folder, name, acl, 0); err != nil {
			t.Skipf("%s cannot have the attribute %s: %v", folder, name, err)
		}
	}
}

func TestOtherAttributesAreNotKept(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	workspacetest.Write(t, filepath.Join(dir, "f"), []byte("x"))
	before := workspacetest.Look(t, dir)
	attributed(t, filepath.Join(dir, "f"), "trusted.x", "system.posix_acl_access")
	s := newStored(t)
	s.save(newKeeper(), dir, "one", "")
	_, err := restore(newKeeper(), other, "one", s.records())
	workspacetest.Must(t, err, os.Chmod(filepath.Join(other, "f"), 0o644))
	workspacetest.Same(t, before, workspacetest.Look(t, other))
}

// The folder of the workspace stays, and what was said of it does not: it is as if it had been made anew.
func TestARestoredFolderLosesItsAttributes(t *testing.T) {
	dir, fresh := t.TempDir(), t.TempDir()
	attributed(t, dir, "user.old", "system.posix_acl_access", "system.posix_acl_default")
	records := join(folderEntry(""), folderEntry("d"), fileRecords("f", "x"), finish)
	keeper := newKeeper()
	for folder, keeper := range map[string]*Keeper{dir: keeper, fresh: newKeeper()} {
		_, err := restore(keeper, folder, "one", records)
		workspacetest.Must(t, err)
	}
	workspacetest.Same(t, workspacetest.Look(t, fresh), workspacetest.Look(t, dir))
	h := &host{}
	workspacetest.Must(t, keeper.Save(Request{Path: dir, SaveID: "two", BaseSaveID: "one", SaltHex: salt}, h))
	if !bytes.Equal(h.out.Bytes(), finish) {
		t.Errorf("the save after a restore sends %q", h.out.Bytes())
	}
}

func TestNothingIsRemovedWhereSomethingIsMounted(t *testing.T) {
	mount := mounting(t)
	dir := t.TempDir()
	workspacetest.OddTree(t, dir)
	mount("tmpfs", "", filepath.Join(dir, "zzz/mounted"))
	before := workspacetest.Look(t, dir)
	if _, err := restore(newKeeper(), dir, "one", join(folderEntry(""), finish)); codeOf(err) != "CONFLICT" {
		t.Errorf("%v", err)
	}
	workspacetest.Same(t, before, workspacetest.Look(t, dir))
}

// A memory file system lists a file again that is made again meanwhile.
func TestNoNameComesTwice(t *testing.T) {
	mount := mounting(t)
	dir := t.TempDir()
	mount("tmpfs", "", dir)
	const count = 3000
	again := func() {
		for i := range count {
			path := filepath.Join(dir, strconv.Itoa(i))
			_ = os.Remove(path)
			workspacetest.Write(t, path, nil)
		}
	}
	again()
	root, err := open(dir)
	workspacetest.Must(t, err)
	defer func() { _ = unix.Close(root) }()
	checks := 0
	names, err := beneath.Names(root, "", 10*count, func() error {
		if checks++; checks == 2 {
			again()
		}
		return nil
	})
	if err != nil || len(names) != count {
		t.Errorf("%d names of %d files: %v", len(names), count, err)
	}
}

func TestAttributesThatCannotBeKeptAreRefused(t *testing.T) {
	mount := mounting(t)
	dir := t.TempDir()
	// It has no extended attributes.
	mount("ramfs", "", dir)
	for _, entry := range [][]byte{
		join(fileEntry("f", "x", `,"xattrs":{"user.one":"MQ=="}`), rawRecord(1, []byte("x"))),
		entryRecord(`{"path":"ZA==","type":"folder","mode":1,"uid":0,"gid":0,"mtimeNs":"1","xattrs":{"user.one":"MQ=="}}`),
	} {
		if _, err := restore(newKeeper(), dir, "one", join(folderEntry(""), entry, finish)); codeOf(err) != "UNSUPPORTED" {
			t.Errorf("%v", err)
		}
	}
	workspacetest.Write(t, filepath.Join(dir, "plain"), []byte("x"))
	if a := newStored(t).save(newKeeper(), dir, "one", ""); len(a.entries) < 2 {
		t.Errorf("without attributes, %q is saved", a.entries)
	}
}

func TestAFullDiskIsTold(t *testing.T) {
	mount := mounting(t)
	dir := t.TempDir()
	mount("tmpfs", "size=64k", dir)
	content := string(workspacetest.Noise(1<<20, 1))
	if _, err := restore(newKeeper(), dir, "one", join(folderEntry(""), fileRecords("f", content), finish)); codeOf(err) != "DISK_FULL" {
		t.Errorf("%v", err)
	}
}

// A memory file system: other times, other holes, no syncfs to speak of.
func TestOtherFileSystemsAreRestored(t *testing.T) {
	mount := mounting(t)
	dir := t.TempDir()
	mount("tmpfs", "", dir)
	workspacetest.OddTree(t, dir)
	roundTrip(t, dir)
}
