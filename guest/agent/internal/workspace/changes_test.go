package workspace

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/workspacetest"
)

func TestAFileThatChangesWhileItIsReadIsReadAgain(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"grows":   func(path string) error { return appendTo(path, workspacetest.Noise(1<<20, 9)) },
		"shrinks": func(path string) error { return os.Truncate(path, 0) },
		"is cut in the middle": func(path string) error {
			return os.Truncate(path, 3<<20)
		},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "log")
		workspacetest.Write(t, path, workspacetest.Noise(8<<20, 5))
		keeper, s := newKeeper(), newStored(t)
		isFirst := true
		h := &host{onWrite: func() {
			if isFirst {
				workspacetest.Must(t, change(path))
			}
			isFirst = false
		}}
		workspacetest.Must(t, keeper.Save(Request{Path: dir, SaveID: "one", SaltHex: salt}, h))
		if a := s.take(h); a.summary.Changed != 1 || a.summary.ReadBytes != s.entries["log"].Size || a.summary.Bytes != a.summary.ReadBytes {
			t.Errorf("%s: %+v", name, a.summary)
		}
		if a := s.save(keeper, dir, "two", "one"); !a.delta || a.summary.ReadFiles != 1 || a.summary.Changed != 0 {
			t.Errorf("%s: then %+v", name, a.summary)
		}
		if a := s.save(keeper, dir, "three", "two"); a.summary.ReadFiles != 0 {
			t.Errorf("%s: at last %+v", name, a.summary)
		}
		other := t.TempDir()
		if _, err := restore(newKeeper(), other, "x", s.records()); err != nil {
			t.Fatal(err)
		}
		workspacetest.Same(t, workspacetest.Look(t, dir), workspacetest.Look(t, other))
	}
}

func appendTo(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Close())
}

// What is swapped between the listing of a folder and a look into it neither fails the save nor leads out.
func TestWhatIsSwappedWhileItIsWalkedNeverLeadsOut(t *testing.T) {
	outside := t.TempDir()
	workspacetest.Write(t, filepath.Join(outside, "secret"), []byte("secret"))
	dir := t.TempDir()
	at := func(path string) string { return filepath.Join(dir, path) }
	workspacetest.Write(t, at("first"), workspacetest.Noise(1<<20, 1))
	workspacetest.Must(t, os.Mkdir(at("first-folder"), 0o755), os.Mkdir(at("folder"), 0o755), os.Mkdir(at("gone folder"), 0o755))
	for _, file := range []string{"first-folder/x", "folder/x", "further", "gone", "gone folder/x"} {
		workspacetest.Write(t, at(file), []byte("x"))
	}
	swapped := false
	h := &host{onWrite: func() {
		if swapped {
			return
		}
		swapped = true
		workspacetest.Must(t, os.RemoveAll(at("first-folder")), os.RemoveAll(at("folder")), os.RemoveAll(at("gone folder")), os.Remove(at("further")), os.Remove(at("gone")))
		workspacetest.Must(t, os.Symlink(outside, at("first-folder")), os.Symlink(outside, at("folder")), os.Symlink(filepath.Join(outside, "secret"), at("further")))
	}}
	workspacetest.Must(t, newKeeper().Save(Request{Path: dir, SaveID: "one", SaltHex: salt}, h))
	s := newStored(t)
	if a := s.take(h); !slices.Equal(a.entries, []string{"", "first", "first-folder", "folder", "further"}) {
		t.Errorf("%q", a.entries)
	}
	for path, entry := range s.entries {
		if path != "" && path != "first" && entry.Type != "symlink" {
			t.Errorf("%s is a %s", path, entry.Type)
		}
	}
}

// The same a moment later: the folder has been looked at, and is another one when it is opened.
func TestAFolderThatIsSwappedBeforeItIsOpenedNeverLeadsOut(t *testing.T) {
	outside := t.TempDir()
	workspacetest.Write(t, filepath.Join(outside, "secret"), []byte("secret"))
	saveWhileAFolderChanges(t, func(folder string) {
		workspacetest.Must(t, os.Remove(folder), os.Symlink(outside, folder))
	})
}

// saveWhileAFolderChanges saves an empty folder that is changed after it was looked at, and before it is opened. Nothing
// of what is in it then may be saved.
func saveWhileAFolderChanges(t *testing.T, change func(folder string)) {
	t.Helper()
	dir := t.TempDir()
	folder := filepath.Join(dir, "a")
	workspacetest.Must(t, os.Mkdir(folder, 0o755))
	// It comes between the folder and what is in the folder.
	workspacetest.Write(t, filepath.Join(dir, "a-"), workspacetest.Noise(1<<20, 1))
	h := &host{onWrite: sync.OnceFunc(func() { change(folder) })}
	workspacetest.Must(t, newKeeper().Save(Request{Path: dir, SaveID: "one", SaltHex: salt}, h))
	if a := newStored(t).take(h); !slices.Equal(a.entries, []string{"", "a", "a-"}) {
		t.Errorf("%q", a.entries)
	}
}

func TestASaveThatFailsLeavesTheOlderIndex(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	workspacetest.Write(t, path, workspacetest.Noise(1<<20, 1))
	keeper, s := newKeeper(), newStored(t)
	s.save(keeper, dir, "one", "")
	workspacetest.Write(t, path, workspacetest.Noise(1<<20, 2))
	gone := make(chan struct{})
	close(gone)
	for name, h := range map[string]*host{
		"the stream breaks":      {breaksAt: 100_000},
		"the host is lost":       {gone: gone},
		"the answer is not sent": {refuses: true},
	} {
		if err := keeper.Save(Request{Path: dir, SaveID: "two", BaseSaveID: "one", SaltHex: salt}, h); err == nil {
			t.Errorf("%s: the save succeeded", name)
		}
	}
	if a := s.save(keeper, dir, "three", "one"); !a.delta || !slices.Equal(a.entries, []string{"f"}) {
		t.Errorf("%+v", a)
	}
	if newStored(t).save(keeper, dir, "four", "two").delta {
		t.Error("a save that failed is a base")
	}
}

func TestARecentChangeIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	workspacetest.Write(t, filepath.Join(dir, "f"), []byte("f"))
	clock := time.Now
	keeper, s := NewKeeper(DefaultLimits, func() time.Time { return clock() }), newStored(t)
	s.save(keeper, dir, "1", "")
	reads := func(id, base string) int {
		a := s.save(keeper, dir, id, base)
		if !a.delta || len(a.entries) > 0 || a.summary.SentChunks > 0 {
			t.Errorf("%+v", a)
		}
		return a.summary.ReadFiles
	}
	// The clock of this machine: the file has changed a moment ago.
	if n := reads("2", "1"); n != 1 {
		t.Errorf("after a recent change, %d files were read", n)
	}
	// The file has a time of the future.
	clock = func() time.Time { return time.Now().Add(-time.Hour) }
	if n := reads("3", "2") + reads("4", "3"); n != 2 {
		t.Errorf("with a time of the future, %d of 2 files were read", n)
	}
	clock = later
	if n := reads("5", "4"); n != 1 {
		t.Errorf("the last time, %d files were read", n)
	}
	// It was settled when it was read, and has not changed since: no clock makes it change.
	clock = time.Now
	if n := reads("6", "5"); n != 0 {
		t.Errorf("without a change, %d files were read", n)
	}
}

func TestOneRequestAtATime(t *testing.T) {
	dir := t.TempDir()
	workspacetest.Write(t, filepath.Join(dir, "f"), workspacetest.Noise(1<<20, 1))
	keeper := newKeeper()
	request := Request{Path: dir, SaveID: "one", SaltHex: salt}
	began, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	isFirst := true
	first := &host{gone: make(chan struct{}), onWrite: func() {
		if isFirst {
			isFirst = false
			close(began)
			<-goOn
		}
	}}
	go func() { ended <- keeper.Save(request, first) }()
	<-began
	if err := keeper.Save(request, &host{}); codeOf(err) != "CONFLICT" {
		t.Errorf("a second save: %v", err)
	}
	if _, err := restore(keeper, dir, "two", nil); codeOf(err) != "CONFLICT" {
		t.Errorf("a restore: %v", err)
	}
	// Nobody waits for the first one any more: the next one waits until it is over.
	close(first.gone)
	impatient := &host{gone: make(chan struct{})}
	close(impatient.gone)
	if err := keeper.Save(request, impatient); !errors.Is(err, mux.ErrGone) {
		t.Errorf("a save that nobody waits for: %v", err)
	}
	second := make(chan error)
	go func() { second <- keeper.Save(request, &host{}) }()
	close(goOn)
	if err := <-ended; !errors.Is(err, mux.ErrGone) {
		t.Errorf("the first save: %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the next save: %v", err)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	workspacetest.Write(t, file, nil)
	good := Request{Path: dir, SaveID: "Az09._-", BaseSaveID: "x", SaltHex: salt}
	if err := newKeeper().Save(good, &host{}); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		code   string
		change func(r *Request)
	}{
		"no path":         {"SPEC_INVALID", func(r *Request) { r.Path = "" }},
		"a relative path": {"SPEC_INVALID", func(r *Request) { r.Path = "x" }},
		"a NUL":           {"SPEC_INVALID", func(r *Request) { r.Path = "/\x00" }},
		"a file":          {"SPEC_INVALID", func(r *Request) { r.Path = file }},
		"no folder":       {"NOT_FOUND", func(r *Request) { r.Path = file + "-not" }},
		"no id":           {"SPEC_INVALID", func(r *Request) { r.SaveID = "" }},
		"a long id":       {"SPEC_INVALID", func(r *Request) { r.SaveID = strings.Repeat("x", 101) }},
		"a slash":         {"SPEC_INVALID", func(r *Request) { r.SaveID = "a/b" }},
		"a bad base":      {"SPEC_INVALID", func(r *Request) { r.BaseSaveID = "a b" }},
		"no salt":         {"SPEC_INVALID", func(r *Request) { r.SaltHex = "" }},
		"a short salt":    {"SPEC_INVALID", func(r *Request) { r.SaltHex = salt[2:] }},
		"no hex":          {"SPEC_INVALID", func(r *Request) { r.SaltHex = strings.Repeat("x", 64) }},
	} {
		request := good
		c.change(&request)
		if err := newKeeper().Save(request, &host{}); codeOf(err) != c.code {
			t.Errorf("save, %s: %v", name, err)
		}
		request.BaseSaveID = ""
		if name == "a bad base" {
			continue
		}
		if err := newKeeper().Restore(request, &host{in: bytes.NewReader(nil)}); codeOf(err) != c.code {
			t.Errorf("restore, %s: %v", name, err)
		}
	}
}

func TestSavesHaveLimits(t *testing.T) {
	dir := t.TempDir()
	workspacetest.Write(t, filepath.Join(dir, "a"), []byte("12345"))
	workspacetest.Write(t, filepath.Join(dir, "b"), []byte("12345"))
	for _, limits := range []Limits{{Entries: 2, Bytes: 100}, {Entries: 10, Bytes: 9}} {
		err := NewKeeper(limits, later).Save(Request{Path: dir, SaveID: "one", SaltHex: salt}, &host{})
		if codeOf(err) != "PAYLOAD_TOO_LARGE" {
			t.Errorf("%+v: %v", limits, err)
		}
	}
	// Names count before it is known what they are of.
	many := t.TempDir()
	for i := range 3 {
		workspacetest.Must(t, unix.Mkfifo(filepath.Join(many, strconv.Itoa(i)), 0o600))
	}
	for most, code := range map[int]string{2: "PAYLOAD_TOO_LARGE", 3: ""} {
		err := NewKeeper(Limits{Entries: most}, later).Save(Request{Path: many, SaveID: "one", SaltHex: salt}, &host{})
		if codeOf(err) != code {
			t.Errorf("three pipes, where %d entries are allowed: %v", most, err)
		}
	}
	workspacetest.DeepTree(t, dir, 4098)
	if err := newKeeper().Save(Request{Path: dir, SaveID: "one", SaltHex: salt}, &host{}); codeOf(err) != "PAYLOAD_TOO_LARGE" {
		t.Errorf("a path that is too long: %v", err)
	}
}

// mounting puts this test in a mount namespace of its own, which ends with its thread. It takes root.
func mounting(t *testing.T) func(kind, options, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts take root")
	}
	// The thread is never given back, so it ends, and its mounts with it.
	runtime.LockOSThread()
	workspacetest.Must(t, unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	return func(kind, options, path string) {
		t.Helper()
		workspacetest.Must(t, os.MkdirAll(path, 0o755), unix.Mount("none", path, kind, 0, options))
		t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	}
}
