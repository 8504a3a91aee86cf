package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kiln/guest-agent/internal/mux"
)

type entry struct {
	header tar.Header
	text   string
}

func file(name, text string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o640, Size: int64(len(text)), ModTime: time.Unix(1e9, 0)}, text}
}

func build(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, e := range entries {
		if err := writer.WriteHeader(&e.header); err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func codeOf(err error) string {
	var failure *mux.Failure
	if errors.As(err, &failure) {
		return failure.Code
	}
	return ""
}

func TestWhatGoesInComesOut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "new")
	packed := build(t, file("a/b", "one"), file("c", "two"),
		entry{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/anywhere"}, ""},
		entry{tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "a/b"}, ""})
	n, err := Unpack(dir, bytes.NewReader(packed), DefaultLimits)
	if err != nil || n != int64(len(packed)) {
		t.Fatalf("%d of %d bytes: %v", n, len(packed), err)
	}
	info, err := os.Stat(filepath.Join(dir, "a/b"))
	if err != nil || info.Mode().Perm() != 0o640 || !info.ModTime().Equal(time.Unix(1e9, 0)) {
		t.Fatalf("%v %v", info, err)
	}
	var first, second bytes.Buffer
	if err := Pack(dir, nil, nil, &first); err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	if _, err := Unpack(again, bytes.NewReader(first.Bytes()), DefaultLimits); err != nil {
		t.Fatal(err)
	}
	if err := Pack(again, nil, nil, &second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Fatal("equal content gave different bytes")
	}
}

func TestUnpackReplacesWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := Unpack(dir, bytes.NewReader(build(t, file("f", "new"))), DefaultLimits); err != nil {
			t.Fatal(err)
		}
	}
	if text, _ := os.ReadFile(outside); string(text) != "mine" {
		t.Fatalf("a file outside was overwritten: %q", text)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "f")); string(text) != "new" {
		t.Fatalf("got %q", text)
	}
}

func TestEscapesAreRefused(t *testing.T) {
	link := func(name, target string) entry {
		return entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}, ""}
	}
	for name, entries := range map[string][]entry{
		"parent":       {file("../x", "")},
		"hidden":       {file("a/../../x", "")},
		"absolute":     {file("/x", "")},
		"by symlink":   {link("s", ".."), file("s/x", "")},
		"by symlinks":  {link("s", "t"), link("t", "../.."), file("s/t/x", "")},
		"by hard link": {entry{tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../x"}, ""}},
		"device":       {entry{tar.Header{Name: "d", Typeflag: tar.TypeChar}, ""}},
		"pipe":         {entry{tar.Header{Name: "p", Typeflag: tar.TypeFifo}, ""}},
	} {
		parent := t.TempDir()
		dir := filepath.Join(parent, "deep", "target")
		_, err := Unpack(dir, bytes.NewReader(build(t, entries...)), DefaultLimits)
		if codeOf(err) != "SPEC_INVALID" {
			t.Errorf("%s: %v", name, err)
		}
		if found := walk(t, parent, dir); len(found) != 0 {
			t.Errorf("%s left %v outside", name, found)
		}
	}
}

// walk lists files below parent that are not below dir.
func walk(t testing.TB, parent, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(parent, func(path string, entry fs.DirEntry, err error) error {
		if path == dir {
			return fs.SkipDir
		}
		if !entry.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestLimits(t *testing.T) {
	two := build(t, file("a", "12345"), file("b", "12345"))
	for _, limits := range []Limits{{Entries: 1, Bytes: 100}, {Entries: 10, Bytes: 9}} {
		if _, err := Unpack(t.TempDir(), bytes.NewReader(two), limits); codeOf(err) != "PAYLOAD_TOO_LARGE" {
			t.Errorf("%+v: %v", limits, err)
		}
	}
}

func TestPackNeverLeaves(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(dir, "etc")); err != nil {
		t.Fatal(err)
	}
	for _, wanted := range []string{"../x", "/etc", "etc/passwd"} {
		var out bytes.Buffer
		if err := Pack(dir, []string{wanted}, nil, &out); codeOf(err) != "SPEC_INVALID" {
			t.Errorf("%s: %v", wanted, err)
		}
	}
}
