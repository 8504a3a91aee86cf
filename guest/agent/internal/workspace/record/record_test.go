package record

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"kiln/guest-agent/internal/mux"
)

func codeOf(err error) string {
	var failure *mux.Failure
	if errors.As(err, &failure) {
		return failure.Code
	}
	return ""
}

func TestTimesComeBack(t *testing.T) {
	for text, want := range map[string]Time{
		"0":                     {},
		"1":                     {0, 1},
		"-1":                    {-1, 999_999_999},
		"-1000000000":           {-1, 0},
		"-1000000001":           {-2, 999_999_999},
		"1000000000":            {1, 0},
		"9223372036854775807":   {9_223_372_036, 854_775_807},
		"9223372036854775808":   {9_223_372_036, 854_775_808},
		"15032385535123456789":  {15_032_385_535, 123_456_789},
		"-15032385535123456789": {-15_032_385_536, 876_543_211},
		"99999999999999999999":  {99_999_999_999, 999_999_999},
		"-99999999999000000000": {-99_999_999_999, 0},
	} {
		if got, isTime := parseTime(text); !isTime || got != want || got.decimal() != text {
			t.Errorf("%s is %+v, %s", text, got, got.decimal())
		}
	}
	for _, text := range []string{"", "-", "+1", "1.0", "1e3", " 1", "0x1", "1_0", "--1", "123456789012345678901"} {
		if _, isTime := parseTime(text); isTime {
			t.Errorf("%q is a time", text)
		}
	}
	for _, sec := range []int64{1 << 62, -1 << 62} {
		clamped := Time{Sec: sec, Nsec: 5}.Clamped()
		if back, isTime := parseTime(clamped.decimal()); !isTime || back != clamped {
			t.Errorf("%d becomes %+v", sec, clamped)
		}
	}
}

func TestPathsAreSplit(t *testing.T) {
	for path, want := range map[string][2]string{"": {"", ""}, "a": {"", "a"}, "a/b": {"a", "b"}, "a/b/c": {"a/b", "c"}} {
		if folder, name := Split(path); folder != want[0] || name != want[1] {
			t.Errorf("%q is %q and %q", path, folder, name)
		}
	}
}

func TestARecordThatIsTooLargeIsNotWritten(t *testing.T) {
	w := NewWriter(io.Discard)
	for kind, most := range map[Kind]int{Chunk: 1 << 20, Entry: 4 << 20, Removed: 4096, Finish: 0} {
		if err := w.Write(kind, make([]byte, most)); err != nil {
			t.Errorf("%d bytes of type %d: %v", most, kind, err)
		}
		if err := w.Write(kind, make([]byte, most+1)); codeOf(err) != "PAYLOAD_TOO_LARGE" {
			t.Errorf("%d bytes of type %d: %v", most+1, kind, err)
		}
	}
}

func TestAHardLinkPointsBack(t *testing.T) {
	for target, code := range map[string]string{"a": "", "b": "SPEC_INVALID", "b/": "SPEC_INVALID", "c": "SPEC_INVALID"} {
		payload, err := Encode(&Node{Path: "b", Type: Hardlink, Target: target})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(payload); codeOf(err) != code {
			t.Errorf("%q: %v", target, err)
		}
	}
}

func TestErrorsOfTheSourceAreItsOwn(t *testing.T) {
	reset := mux.Fail("STOPPED", "by the host")
	for _, before := range []string{"", "\x02\x00", "\x02\x00\x00\x00\x05ab"} {
		source := io.MultiReader(strings.NewReader(before), iotest.ErrReader(reset))
		if _, _, err := NewReader(source).Next(); codeOf(err) != "STOPPED" {
			t.Errorf("after %q: %v", before, err)
		}
	}
}

// FuzzRecords: whatever the bytes, each is part of a record that is written the same again, or refused with a code; an
// entry that is accepted is written and read as the same entry again.
func FuzzRecords(f *testing.F) {
	records := func(parts ...string) []byte {
		var out bytes.Buffer
		w := NewWriter(&out)
		for _, part := range parts {
			if err := w.Write(Kind(part[0]), []byte(part[1:])); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			f.Fatal(err)
		}
		return out.Bytes()
	}
	id := strings.Repeat("0a", 32)
	f.Add([]byte{})
	f.Add(records("\x01chunk", "\x03path", "\x04{}", "\x05"))
	f.Add(records("\x02" + `{"path":"","type":"folder","mode":493,"uid":0,"gid":0,"mtimeNs":"-1"}`))
	f.Add(records("\x02" + `{"path":"YQ==","type":"file","mode":4095,"uid":1,"gid":2,"mtimeNs":"1","size":5,"chunks":[["` + id + `",2],["",3]],"xattrs":{"user.a":"MQ=="}}`))
	f.Add(records("\x02"+`{"path":"YQ==","type":"symlink","uid":1,"gid":2,"mtimeNs":"1","target":"Yg=="}`, "\x02"+`{"path":"Yg==","type":"hardlink","target":"YQ=="}`))
	f.Add([]byte{2, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{1, 0, 0, 0, 9, 1})
	f.Fuzz(func(t *testing.T, input []byte) {
		reader := NewReader(bytes.NewReader(input))
		var again bytes.Buffer
		w := NewWriter(&again)
		for {
			kind, payload, err := reader.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				if codeOf(err) != "AGENT_PROTOCOL" {
					t.Fatalf("a refusal without its code: %v", err)
				}
				return
			}
			if err := w.Write(kind, payload); err != nil {
				t.Fatal(err)
			}
			if kind == Entry {
				comesBack(t, payload)
			}
		}
		if err := w.Flush(); err != nil || !bytes.Equal(again.Bytes(), input) {
			t.Fatalf("%x became %x: %v", input, again.Bytes(), err)
		}
	})
}

func comesBack(t *testing.T, payload []byte) {
	t.Helper()
	node, err := Decode(payload)
	if err != nil {
		if codeOf(err) != "SPEC_INVALID" {
			t.Fatalf("a refusal without its code: %v", err)
		}
		return
	}
	if node.Path != "" && !ValidPath(node.Path) {
		t.Fatalf("accepted %q", node.Path)
	}
	text, err := Encode(&node)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(text)
	if err != nil || !back.Equal(&node) {
		t.Fatalf("%+v became %+v: %v", node, back, err)
	}
}
