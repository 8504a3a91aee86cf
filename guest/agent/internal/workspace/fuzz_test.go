package workspace

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/workspacetest"
)

// FuzzRestore: whatever the bytes, nothing outside of the workspace is touched, every refusal has a code, and what was
// taken can be saved again.
func FuzzRestore(f *testing.F) {
	root := folderEntry("")
	f.Add([]byte{})
	f.Add(join(root, finish))
	f.Add(join(root, fileRecords("a", "x"), hardlinkEntry("b", "a"), symlinkEntry("c", ".."), folderEntry("d"), fileRecords("d/x", "y"), finish))
	f.Add(join(root, symlinkEntry("a", ".."), fileRecords("a/outside", "x"), finish))
	f.Add(join(root, symlinkEntry("a", "../kept"), hardlinkEntry("b", "a"), finish))
	f.Add(join(root, hardlinkEntry("b", "../kept"), finish))
	f.Add(join(root, fileRecords("../outside", "x"), finish))
	f.Add(join(root, folderEntry("b"), folderEntry("a"), finish))
	f.Add(join(root, fileEntry("a", "x", `,"xattrs":{"user.a":"MQ==","security.capability":"AQ=="}`), rawRecord(1, []byte("x")), finish))
	f.Add(join(root, entryRecord(`{"path":"YQ==","type":"file","mode":4095,"uid":7,"gid":8,"mtimeNs":"-99999999999999999999","size":1000,"chunks":[["",1000]]}`), finish))
	f.Add(join(root, header(2, 1<<31)))
	f.Fuzz(func(t *testing.T, records []byte) {
		top := t.TempDir()
		workspacetest.Write(t, filepath.Join(top, "kept"), []byte("kept"))
		dir := filepath.Join(top, "dir")
		workspacetest.Must(t, os.Mkdir(dir, 0o755))
		keeper := NewKeeper(Limits{Entries: 100, Bytes: 1 << 20}, later)
		_, err := restore(keeper, dir, "one", records)
		var failure *mux.Failure
		if err != nil && !errors.As(err, &failure) {
			t.Fatalf("a refusal without a code: %v", err)
		}
		beside, readErr := os.ReadDir(top)
		if readErr != nil || len(beside) != 2 {
			t.Fatalf("something lies beside the workspace: %v %v", beside, readErr)
		}
		info, statErr := os.Stat(filepath.Join(top, "kept"))
		kept, readErr := os.ReadFile(filepath.Join(top, "kept"))
		if statErr != nil || readErr != nil || string(kept) != "kept" || info.Mode() != 0o644 {
			t.Fatalf("the file beside the workspace was touched: %q %v", kept, info)
		}
		if err == nil {
			h := &host{}
			workspacetest.Must(t, keeper.Save(Request{Path: dir, SaveID: "two", BaseSaveID: "one", SaltHex: salt}, h))
			if !h.opened.(map[string]bool)["delta"] || !bytes.Equal(h.out.Bytes(), finish) || h.done.(Summary).ReadFiles > 0 {
				t.Fatalf("the save after a restore is %+v: %q", h.done, h.out.Bytes())
			}
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
