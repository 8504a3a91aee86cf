package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"kiln/guest-agent/internal/mux"
)

func archiveOf(headers ...tar.Header) []byte {
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, header := range headers {
		content := make([]byte, min(header.Size, 1024))
		if writer.WriteHeader(&header) == nil && header.Typeflag == tar.TypeReg {
			_, _ = writer.Write(content)
		}
	}
	_ = writer.Close()
	return out.Bytes()
}

// FuzzUnpack: whatever the bytes, nothing is written outside the target, and every refusal has a code.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte{})
	f.Add(archiveOf(tar.Header{Typeflag: tar.TypeReg, Name: "a/b", Size: 3, Mode: 0o644}))
	f.Add(archiveOf(tar.Header{Typeflag: tar.TypeDir, Name: "a/", Mode: 0o7777}, tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "a"}))
	f.Add(archiveOf(tar.Header{Typeflag: tar.TypeReg, Name: "../outside", Size: 1}))
	f.Add(archiveOf(tar.Header{Typeflag: tar.TypeSymlink, Name: "up", Linkname: ".."}, tar.Header{Typeflag: tar.TypeReg, Name: "up/outside", Size: 1}))
	f.Add(archiveOf(tar.Header{Typeflag: tar.TypeLink, Name: "x", Linkname: "../kept"}))
	f.Add(archiveOf(tar.Header{Typeflag: tar.TypeFifo, Name: "pipe"}, tar.Header{Typeflag: tar.TypeChar, Name: "dev"}))
	f.Add(archiveOf(tar.Header{Typeflag: tar.TypeReg, Name: "huge", Size: 1 << 40})[:512])
	f.Fuzz(func(t *testing.T, bytesOfTar []byte) {
		top := t.TempDir()
		if err := os.WriteFile(filepath.Join(top, "kept"), []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Unpack(filepath.Join(top, "in"), bytes.NewReader(bytesOfTar), Limits{Entries: 100, Bytes: 1 << 20})
		var failure *mux.Failure
		if err != nil && !errors.As(err, &failure) {
			t.Fatalf("a refusal without a code: %v", err)
		}
		entries, err := os.ReadDir(top)
		if err != nil || len(entries) > 2 {
			t.Fatalf("something lies beside the target: %v %v", entries, err)
		}
		kept, err := os.ReadFile(filepath.Join(top, "kept"))
		if err != nil || string(kept) != "kept" {
			t.Fatalf("the file beside the target was touched: %q %v", kept, err)
		}
		// Folders without permissions would be in the way of whoever removes the directory of the test.
		_ = filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				_ = os.Chmod(path, 0o700)
			}
			return nil
		})
	})
}
