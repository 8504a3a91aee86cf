package workspace

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/workspacetest"
)

func base(path string) string { return base64.StdEncoding.EncodeToString([]byte(path)) }

func entryRecord(format string, values ...any) []byte {
	return rawRecord(2, fmt.Appendf(nil, format, values...))
}

func folderEntry(path string) []byte {
	return entryRecord(`{"path":"%s","type":"folder","mode":493,"uid":0,"gid":0,"mtimeNs":"1"}`, base(path))
}

func symlinkEntry(path, target string) []byte {
	return entryRecord(`{"path":"%s","type":"symlink","uid":0,"gid":0,"mtimeNs":"1","target":"%s"}`, base(path), base(target))
}

func hardlinkEntry(path, target string) []byte {
	return entryRecord(`{"path":"%s","type":"hardlink","target":"%s"}`, base(path), base(target))
}

func idOf(content string) string {
	prefix, _ := hex.DecodeString(salt)
	id := newIdentifier([saltBytes]byte(prefix)).of([]byte(content))
	return hex.EncodeToString(id[:])
}

// fileEntry returns the entry of a file of one chunk, without the chunk.
func fileEntry(path, content, more string) []byte {
	return entryRecord(`{"path":"%s","type":"file","mode":420,"uid":0,"gid":0,"mtimeNs":"1","size":%d,"chunks":[["%s",%d]]%s}`,
		base(path), len(content), idOf(content), len(content), more)
}

func fileRecords(path, content string) []byte {
	return join(fileEntry(path, content, ""), rawRecord(1, []byte(content)))
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

var finish = rawRecord(5, nil)

func header(kind byte, size uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, size)
}

func TestWhatIsMalformedIsRefused(t *testing.T) {
	root := folderEntry("")
	plain := func(fields string) []byte { return join(root, entryRecord("{%s}", fields), finish) }
	named := func(path string) []byte { return join(root, fileRecords(path, "x"), finish) }
	const owner = `"uid":0,"gid":0,"mtimeNs":"1"`
	for name, c := range map[string]struct {
		code    string
		records []byte
	}{
		"nothing":               {"AGENT_PROTOCOL", nil},
		"no root":               {"AGENT_PROTOCOL", join(folderEntry("a"), finish)},
		"only a finish":         {"AGENT_PROTOCOL", finish},
		"no finish":             {"AGENT_PROTOCOL", root},
		"the root twice":        {"AGENT_PROTOCOL", join(root, root, finish)},
		"more after the finish": {"AGENT_PROTOCOL", join(root, finish, finish)},
		"half a record":         {"AGENT_PROTOCOL", join(root, finish)[:len(root)+3]},
		"half a payload":        {"AGENT_PROTOCOL", root[:20]},
		"an unknown type":       {"AGENT_PROTOCOL", join(root, rawRecord(9, nil))},
		"a finish with content": {"AGENT_PROTOCOL", join(root, rawRecord(5, []byte("x")))},
		"an empty entry":        {"AGENT_PROTOCOL", join(root, rawRecord(2, nil))},
		"a huge entry":          {"AGENT_PROTOCOL", join(root, header(2, 4<<20+1))},
		"the hugest entry":      {"AGENT_PROTOCOL", join(root, header(2, math.MaxUint32))},
		"a huge chunk":          {"AGENT_PROTOCOL", join(root, fileEntry("a", "x", ""), header(1, 1<<20+1))},
		"an empty chunk":        {"AGENT_PROTOCOL", join(root, fileEntry("a", "x", ""), rawRecord(1, nil))},
		"removed":               {"AGENT_PROTOCOL", join(root, rawRecord(3, []byte("a")), finish)},
		"skipped":               {"AGENT_PROTOCOL", join(root, rawRecord(4, []byte("{}")), finish)},
		"wrong order":           {"AGENT_PROTOCOL", join(root, folderEntry("b"), folderEntry("a"), finish)},
		"a path twice":          {"AGENT_PROTOCOL", join(root, folderEntry("a"), folderEntry("a"), finish)},
		"order by names":        {"AGENT_PROTOCOL", join(root, folderEntry("a"), folderEntry("a/x"), folderEntry("a-"), finish)},
		"a chunk too many":      {"AGENT_PROTOCOL", join(root, fileRecords("a", "x"), rawRecord(1, []byte("x")), finish)},
		"a chunk for nothing":   {"AGENT_PROTOCOL", join(root, rawRecord(1, []byte("x")), finish)},
		"a chunk too few":       {"AGENT_PROTOCOL", join(root, fileEntry("a", "x", ""), finish)},
		"another chunk":         {"AGENT_PROTOCOL", join(root, fileEntry("a", "x", ""), rawRecord(1, []byte("y")), finish)},
		"a longer chunk":        {"AGENT_PROTOCOL", join(root, fileEntry("a", "x", ""), rawRecord(1, []byte("xx")), finish)},

		"no parent":             {"SPEC_INVALID", join(root, folderEntry("a/b"), finish)},
		"a file as parent":      {"SPEC_INVALID", join(root, fileRecords("a", "x"), folderEntry("a/b"), finish)},
		"a symlink as parent":   {"SPEC_INVALID", join(root, symlinkEntry("a", ".."), folderEntry("a/b"), finish)},
		"a symlink within":      {"SPEC_INVALID", join(root, folderEntry("a"), symlinkEntry("b", "a"), fileEntry("b/c", "x", ""), finish)},
		"a symlink for a link":  {"SPEC_INVALID", join(root, symlinkEntry("a", ".."), hardlinkEntry("a/kept", "a"), finish)},
		"a parent after":        {"SPEC_INVALID", join(root, folderEntry("a/b"), folderEntry("a"), finish)},
		"the root as a file":    {"SPEC_INVALID", join(fileRecords("", "x"), finish)},
		"the root as a symlink": {"SPEC_INVALID", join(symlinkEntry("", "x"), finish)},
		"a link to later":       {"SPEC_INVALID", join(root, hardlinkEntry("a", "b"), fileRecords("b", "x"), finish)},
		"a link to itself":      {"SPEC_INVALID", join(root, hardlinkEntry("a", "a"), finish)},
		"a link to nothing":     {"SPEC_INVALID", join(root, hardlinkEntry("b", "a"), finish)},
		"a link to a folder":    {"SPEC_INVALID", join(root, folderEntry("a"), hardlinkEntry("b", "a"), finish)},
		"a link to a symlink":   {"SPEC_INVALID", join(root, symlinkEntry("a", "../kept"), hardlinkEntry("b", "a"), finish)},
		"a link to a link":      {"SPEC_INVALID", join(root, fileRecords("a", "x"), hardlinkEntry("b", "a"), hardlinkEntry("c", "b"), finish)},
		"a link outside":        {"SPEC_INVALID", join(root, hardlinkEntry("b", "../kept"), finish)},
		"a link to the root":    {"SPEC_INVALID", join(root, hardlinkEntry("b", ""), finish)},
		"up":                    {"SPEC_INVALID", named("../x")},
		"up at the end":         {"SPEC_INVALID", named("a/..")},
		"only up":               {"SPEC_INVALID", named("..")},
		"here":                  {"SPEC_INVALID", named("./x")},
		"absolute":              {"SPEC_INVALID", named("/x")},
		"a slash at the end":    {"SPEC_INVALID", named("x/")},
		"two slashes":           {"SPEC_INVALID", named("a//x")},
		"a NUL":                 {"SPEC_INVALID", named("a\x00b")},
		"a long name":           {"SPEC_INVALID", named(strings.Repeat("n", 256))},
		"a long path":           {"SPEC_INVALID", named(strings.Repeat("n/", 2048) + "n")},
		"a NUL in a target":     {"SPEC_INVALID", join(root, symlinkEntry("a", "b\x00"), finish)},
		"an empty target":       {"SPEC_INVALID", join(root, symlinkEntry("a", ""), finish)},
		"a long target":         {"SPEC_INVALID", join(root, symlinkEntry("a", strings.Repeat("x", 4097)), finish)},
		"a target too long":     {"SPEC_INVALID", join(root, symlinkEntry("a", strings.Repeat("x", 4096)), finish)},

		"no JSON":               {"SPEC_INVALID", join(root, rawRecord(2, []byte("{")), finish)},
		"another JSON":          {"SPEC_INVALID", join(root, rawRecord(2, []byte("null")), finish)},
		"two JSONs":             {"SPEC_INVALID", join(root, rawRecord(2, []byte("{}{}")), finish)},
		"an unknown field":      {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder","mode":1,` + owner + `,"more":1`)},
		"no path":               {"SPEC_INVALID", plain(`"type":"folder","mode":1,` + owner)},
		"no base64":             {"SPEC_INVALID", plain(`"path":"a","type":"folder","mode":1,` + owner)},
		"no type":               {"SPEC_INVALID", plain(`"path":"YQ==","mode":1,` + owner)},
		"a device":              {"SPEC_INVALID", plain(`"path":"YQ==","type":"device","mode":1,` + owner)},
		"no mode":               {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder",` + owner)},
		"a large mode":          {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder","mode":4096,` + owner)},
		"a negative mode":       {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder","mode":-1,` + owner)},
		"a broken mode":         {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder","mode":1.5,` + owner)},
		"no owner":              {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder","mode":1,"mtimeNs":"1"`)},
		"an owner that is -1":   {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder","mode":1,"uid":4294967295,"gid":0,"mtimeNs":"1"`)},
		"a time in words":       {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder","mode":1,"uid":0,"gid":0,"mtimeNs":"now"`)},
		"a time of a fraction":  {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder","mode":1,"uid":0,"gid":0,"mtimeNs":"1.5"`)},
		"a time too long":       {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder","mode":1,"uid":0,"gid":0,"mtimeNs":"123456789012345678901"`)},
		"a folder with a size":  {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder","mode":1,"size":0,` + owner)},
		"a symlink with mode":   {"SPEC_INVALID", plain(`"path":"YQ==","type":"symlink","mode":1,"target":"YQ==",` + owner)},
		"a link with an owner":  {"SPEC_INVALID", plain(`"path":"Yg==","type":"hardlink","target":"YQ==",` + owner)},
		"a file and target":     {"SPEC_INVALID", plain(`"path":"YQ==","type":"file","mode":1,"size":0,"chunks":[],"target":"YQ==",` + owner)},
		"a file without chunks": {"SPEC_INVALID", plain(`"path":"YQ==","type":"file","mode":1,"size":0,` + owner)},
		"a wrong size":          {"SPEC_INVALID", plain(`"path":"YQ==","type":"file","mode":1,"size":5,"chunks":[["",4]],` + owner)},
		"a negative size":       {"SPEC_INVALID", plain(`"path":"YQ==","type":"file","mode":1,"size":-1,"chunks":[],` + owner)},
		"a negative hole":       {"SPEC_INVALID", plain(`"path":"YQ==","type":"file","mode":1,"size":0,"chunks":[["",-1],["",1]],` + owner)},
		"an empty hole":         {"SPEC_INVALID", plain(`"path":"YQ==","type":"file","mode":1,"size":0,"chunks":[["",0]],` + owner)},
		"a sum that overflows":  {"SPEC_INVALID", plain(`"path":"YQ==","type":"file","mode":1,"size":0,"chunks":[["",9223372036854775807],["",9223372036854775807],["",2]],` + owner)},
		"a large chunk":         {"SPEC_INVALID", plain(`"path":"YQ==","type":"file","mode":1,"size":1048577,"chunks":[["` + idOf("x") + `",1048577]],` + owner)},
		"a short id":            {"SPEC_INVALID", plain(`"path":"YQ==","type":"file","mode":1,"size":1,"chunks":[["00",1]],` + owner)},
		"an id in capitals":     {"SPEC_INVALID", plain(`"path":"YQ==","type":"file","mode":1,"size":1,"chunks":[["` + strings.ToUpper(idOf("x")) + `",1]],` + owner)},
		"a chunk of three":      {"SPEC_INVALID", plain(`"path":"YQ==","type":"file","mode":1,"size":1,"chunks":[["",1,1]],` + owner)},
		"an attribute":          {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder","mode":1,"xattrs":{"trusted.x":""},` + owner)},
		"a nameless attribute":  {"SPEC_INVALID", plain(`"path":"YQ==","type":"folder","mode":1,"xattrs":{"user.":""},` + owner)},

		"too many entries": {"PAYLOAD_TOO_LARGE", join(root, folderEntry("a"), folderEntry("b"), folderEntry("c"), folderEntry("d"), finish)},
		"too many bytes":   {"PAYLOAD_TOO_LARGE", plain(`"path":"YQ==","type":"file","mode":1,"size":1048577,"chunks":[["",1048577]],` + owner)},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.code, c.records) })
	}
}

// refused restores records that no host may send. Nothing outside of the workspace is touched, and no index is left.
func refused(t *testing.T, code string, records []byte) {
	top := t.TempDir()
	workspacetest.Write(t, filepath.Join(top, "kept"), []byte("kept"))
	dir := filepath.Join(top, "dir")
	workspacetest.Must(t, os.Mkdir(dir, 0o755))
	before := workspacetest.Look(t, top)
	keeper := NewKeeper(Limits{Entries: 4, Bytes: 1 << 20}, later)
	newStored(t).save(keeper, dir, "one", "")
	if _, err := restore(keeper, dir, "two", records); codeOf(err) != code {
		t.Errorf("%v", err)
	}
	workspacetest.Must(t, os.RemoveAll(dir), os.Mkdir(dir, 0o755))
	after := workspacetest.Look(t, top)
	for _, tree := range []map[string]workspacetest.Seen{before, after} {
		delete(tree, "")
		delete(tree, "dir")
	}
	workspacetest.Same(t, before, after)
	for _, id := range []string{"one", "two"} {
		if newStored(t).save(keeper, dir, "three", id).delta {
			t.Errorf("the index of save %s is still there", id)
		}
	}
}

func TestARestoreRemovesWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	outside := t.TempDir()
	workspacetest.Write(t, filepath.Join(outside, "kept"), []byte("kept"))
	workspacetest.OddTree(t, dir)
	workspacetest.DeepTree(t, dir, 4096)
	workspacetest.Must(t, os.Symlink(outside, filepath.Join(dir, "out")))
	records := join(folderEntry(""), fileRecords("f", "new"), finish)
	if _, err := restore(newKeeper(), dir, "one", records); err != nil {
		t.Fatal(err)
	}
	if found := workspacetest.Look(t, dir); len(found) != 2 || found["f"].Content == "" {
		t.Errorf("left: %v", found)
	}
	if text, err := os.ReadFile(filepath.Join(outside, "kept")); err != nil || string(text) != "kept" {
		t.Errorf("what a symlink points at was removed: %v", err)
	}
}

// A change right after a restore must get another time than what was restored, or the next save would not read it.
func TestTheClockHasGoneOnAtTheEndOfARestore(t *testing.T) {
	dir := t.TempDir()
	keeper := NewKeeper(DefaultLimits, time.Now)
	records := join(folderEntry(""), folderEntry("d"), fileRecords("d/f", "new"), symlinkEntry("s", "d"), finish)
	if _, err := restore(keeper, dir, "one", records); err != nil {
		t.Fatal(err)
	}
	root, others := keeper.index.paths[0], keeper.index.paths[1:]
	for _, other := range others {
		if !root.tuple.Ctime.After(other.tuple.Ctime) || !other.settled {
			t.Errorf("%q was changed at %+v, the end is %+v", other.node.Path, other.tuple.Ctime, root.tuple.Ctime)
		}
	}
	workspacetest.Write(t, filepath.Join(dir, "d/f"), []byte("NEW"))
	h := &host{}
	workspacetest.Must(t, keeper.Save(Request{Path: dir, SaveID: "two", BaseSaveID: "one", SaltHex: salt}, h))
	if summary := h.done.(Summary); summary.ReadFiles != 1 || summary.SentBytes != 3 {
		t.Errorf("%+v", summary)
	}
}

func TestAHostThatIsLostEndsARestore(t *testing.T) {
	keeper := newKeeper()
	dir := t.TempDir()
	broken := &host{in: &breaking{folderEntry("")}}
	if err := keeper.Restore(Request{Path: dir, SaveID: "one", SaltHex: salt}, broken); !errors.Is(err, mux.ErrGone) {
		t.Errorf("%v", err)
	}
	if newStored(t).save(keeper, dir, "two", "one").delta {
		t.Error("half a restore left an index")
	}
}

// breaking is a stream that is lost in the middle.
type breaking struct{ left []byte }

func (b *breaking) Read(p []byte) (int, error) {
	if len(b.left) == 0 {
		return 0, mux.ErrGone
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}
