package workspace

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/guest-agent/internal/workspace/workspacetest"
)

// roundTrip saves a folder, restores it elsewhere, and compares the two.
func roundTrip(t *testing.T, dir string) (*stored, arrived) {
	t.Helper()
	s := newStored(t)
	before := workspacetest.Look(t, dir)
	a := s.save(newKeeper(), dir, "one", "")
	other := t.TempDir()
	workspacetest.Write(t, filepath.Join(other, "old"), []byte("old"))
	keeper := newKeeper()
	answer, err := restore(keeper, other, "one", s.records())
	if err != nil {
		t.Fatal(err)
	}
	if answer.Entries != a.summary.Entries || answer.Bytes != a.summary.Bytes {
		t.Errorf("restored %+v of %+v", answer, a.summary)
	}
	workspacetest.Same(t, before, workspacetest.Look(t, other))
	again := s.save(keeper, other, "two", "one")
	if !again.delta || len(again.entries)+len(again.removed) > 0 || again.summary.ReadFiles > 0 {
		t.Errorf("the save after a restore sends %q and %q, and reads %d files", again.entries, again.removed, again.summary.ReadFiles)
	}
	return s, a
}

func TestWhatIsSavedIsRestored(t *testing.T) {
	dir := t.TempDir()
	workspacetest.OddTree(t, dir)
	s, _ := roundTrip(t, dir)
	// What lies between is told from data, so that no space is taken, and nothing is sent.
	if hole := s.entries["all hole"]; len(hole.Chunks) != 1 || hole.Chunks[0][0] != "" {
		t.Errorf("a hole of 300 MiB: %v", hole.Chunks)
	}
	if pieces := s.entries["exact"].Chunks; pieces != nil {
		t.Errorf("the second path of a file has chunks")
	}
	if pieces := s.entries["a/same"].Chunks; len(pieces) != 1 {
		t.Errorf("256 KiB are %d chunks", len(pieces))
	}
	if pieces := s.entries["large"].Chunks; len(pieces) < 20 || len(pieces) > 320 {
		t.Errorf("20 MiB are %d chunks", len(pieces))
	}
	if holes := strings.Count(string(s.entries["sparse"].raw), `["",`); holes != 3 {
		t.Errorf("%d holes: %s", holes, s.entries["sparse"].raw)
	}
}

func TestTheDeepestPathsAreSaved(t *testing.T) {
	dir := t.TempDir()
	workspacetest.DeepTree(t, dir, 4096)
	_, a := roundTrip(t, dir)
	longest := 0
	for _, path := range a.entries {
		longest = max(longest, len(path))
	}
	if longest != 4096 {
		t.Errorf("the longest path has %d bytes", longest)
	}
}

func TestADeltaHoldsWhatHasChanged(t *testing.T) {
	dir := t.TempDir()
	workspacetest.OddTree(t, dir)
	at := func(path string) string { return filepath.Join(dir, path) }
	keeper, s := newKeeper(), newStored(t)
	s.save(keeper, dir, "0", "")
	base := "0"
	step := func(name string, change func(), entries, removed []string, reads, chunks int) {
		t.Helper()
		change()
		a := s.save(keeper, dir, name, base)
		base = name
		if !a.delta || !slices.Equal(a.entries, entries) || !slices.Equal(a.removed, removed) {
			t.Errorf("%s: delta %v, entries %q, removed %q", name, a.delta, a.entries, a.removed)
		}
		if a.summary.ReadFiles != reads || a.summary.SentChunks != chunks {
			t.Errorf("%s: %d files read, %d chunks sent", name, a.summary.ReadFiles, a.summary.SentChunks)
		}
	}
	step("nothing", func() {}, nil, nil, 0, 0)
	step("content", func() { workspacetest.Write(t, at("a/x/1"), []byte("other")) }, []string{"a/x/1"}, nil, 1, 1)
	step("same-size-and-time", func() {
		info, err := os.Stat(at("a/-"))
		workspacetest.Must(t, err)
		workspacetest.Write(t, at("a/-"), []byte("IN a/-"))
		workspacetest.Must(t, os.Chtimes(at("a/-"), info.ModTime(), info.ModTime()))
	}, []string{"a/-"}, nil, 1, 1)
	step("rename", func() { workspacetest.Must(t, os.Rename(at("a b/z"), at("a0/z"))) }, []string{"a b", "a0", "a0/z"}, []string{"a b/z"}, 1, 0)
	step("mode", func() { workspacetest.Must(t, os.Chmod(at("large"), 0o600)) }, []string{"large"}, nil, 1, 0)
	step("first-link", func() { workspacetest.Must(t, os.Remove(at("a/same"))) }, []string{"a", "exact", "zz"}, []string{"a/same"}, 1, 0)
	step("one-byte", func() {
		file, err := os.OpenFile(at("large"), os.O_WRONLY, 0)
		workspacetest.Must(t, err)
		_, err = file.WriteAt([]byte("!"), 10<<20)
		workspacetest.Must(t, err, file.Close())
	}, []string{"large"}, nil, 1, 1)
	step("folder-to-file", func() {
		workspacetest.Must(t, os.RemoveAll(at("a-")), os.WriteFile(at("a-"), nil, 0o600))
	}, []string{"", "a-"}, []string{"a-/x", "a-/x/y"}, 1, 0)
	step("symlink", func() {
		workspacetest.Must(t, os.Remove(at("up")), os.Symlink("elsewhere", at("up")))
	}, []string{"", "up"}, nil, 0, 0)
	other := t.TempDir()
	if _, err := restore(newKeeper(), other, "x", s.records()); err != nil {
		t.Fatal(err)
	}
	workspacetest.Same(t, workspacetest.Look(t, dir), workspacetest.Look(t, other))
}

func TestAnotherBaseIsSentWhole(t *testing.T) {
	dir := t.TempDir()
	workspacetest.Write(t, filepath.Join(dir, "f"), []byte("f"))
	keeper := newKeeper()
	newStored(t).save(keeper, dir, "one", "")
	if a := newStored(t).save(keeper, dir, "two", "other"); a.delta || len(a.entries) != 2 || a.summary.SentChunks != 1 {
		t.Errorf("another base: %+v", a)
	}
	if a := newStored(t).save(keeper, dir, "three", "one"); a.delta {
		t.Error("an index that was dropped was used")
	}
	h := &host{}
	request := Request{Path: dir, SaveID: "four", BaseSaveID: "three", SaltHex: strings.Repeat("f", 64)}
	if err := keeper.Save(request, h); err != nil || h.opened.(map[string]bool)["delta"] {
		t.Errorf("an index of another salt was used: %v", err)
	}
}

func TestALongSaveThatSendsNothingSaysThatItWorks(t *testing.T) {
	dir := t.TempDir()
	workspacetest.Must(t, os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789abcdef"), 2<<20), 0o600))
	keeper, kept := newKeeper(), newStored(t)
	kept.save(keeper, dir, "one", "")
	workspacetest.Must(t, os.Chtimes(filepath.Join(dir, "big"), time.Unix(1, 0), time.Unix(1, 0)))
	keeper.tellEvery = time.Millisecond
	again := kept.save(keeper, dir, "two", "one")
	if again.progress == 0 || again.summary.SentChunks != 0 || again.summary.ReadFiles != 1 {
		t.Fatalf("%d records of progress: %+v", again.progress, again.summary)
	}
}

func TestALongRestoreSaysThatItWorks(t *testing.T) {
	dir := t.TempDir()
	workspacetest.Must(t, os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789abcdef"), 2<<20), 0o600))
	keeper, kept := newKeeper(), newStored(t)
	kept.save(keeper, dir, "one", "")
	keeper.tellEvery = time.Millisecond
	h := &host{in: bytes.NewReader(kept.records())}
	workspacetest.Must(t, keeper.Restore(Request{Path: t.TempDir(), SaveID: "two", SaltHex: salt}, h))
	if h.out.Len() == 0 || !bytes.Equal(h.out.Bytes(), bytes.Repeat(rawRecord(6, nil), h.out.Len()/5)) {
		t.Fatalf("%d bytes that are no progress: %v", h.out.Len(), h.out.Bytes()[:min(h.out.Len(), 20)])
	}
}
