package service

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln/guest-agent/internal/cgroup"
	"kiln/guest-agent/internal/process"
	"kiln/guest-agent/internal/wire"
	"kiln/guest-agent/internal/workspace/record"
)

type noMachine struct{}

func (noMachine) Configure(Identity) error { return nil }
func (noMachine) SetClock(int64) error     { return nil }
func (noMachine) Settle()                  {}
func (noMachine) PowerOff()                {}
func (noMachine) Groups() *cgroup.Tree     { return nil }

// attached is a host that talks to an agent, one request at a time.
type attached struct {
	t      *testing.T
	to     io.Writer
	from   io.Reader
	hello  hello
	stream uint32
}

// testReaper is the only one of this process: a second would take the exits of its children.
var testReaper = process.NewReaper()

func attach(t *testing.T) (*attached, *process.Registry) {
	t.Helper()
	registry := process.NewRegistry(testReaper, []string{"PATH=/usr/bin:/bin"}, nil)
	agentIn, to := io.Pipe()
	from, agentOut := io.Pipe()
	go func() { _ = New("test", noMachine{}, registry, nil).Serve(agentIn, agentOut) }()
	t.Cleanup(func() { _, _ = to.Close(), from.Close() })
	h := &attached{t: t, to: to, from: from, stream: 1}
	h.write(wire.AttachRecord([wire.NonceBytes]byte{1}))
	_, _ = io.ReadFull(from, make([]byte, 36))
	if err := json.Unmarshal(h.read().Payload, &h.hello); err != nil {
		t.Fatal(err)
	}
	return h, registry
}

func (h *attached) write(frame []byte) {
	h.t.Helper()
	if _, err := h.to.Write(frame); err != nil {
		h.t.Fatal(err)
	}
}

func (h *attached) read() wire.Frame {
	h.t.Helper()
	var header [9]byte
	if _, err := io.ReadFull(h.from, header[:]); err != nil {
		h.t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(header[:])-5)
	if _, err := io.ReadFull(h.from, body); err != nil {
		h.t.Fatal(err)
	}
	return wire.Frame{Type: wire.Type(header[4]), Stream: binary.BigEndian.Uint32(header[5:]), Payload: body[:len(body)-1]}
}

// ask sends a request and its data, which must fit in the window of a stream. It returns all data of the answer, and the last frame.
func (h *attached) ask(data []byte, format string, values ...any) ([]byte, wire.Frame) {
	h.t.Helper()
	h.write(wire.Encode(wire.Open, h.stream, fmt.Appendf(nil, format, values...)))
	for piece := range slices.Chunk(data, wire.MaxPayload) {
		h.write(wire.Encode(wire.Data, h.stream, piece))
	}
	h.write(wire.Encode(wire.End, h.stream))
	h.stream += 2
	var answer bytes.Buffer
	for {
		frame := h.read()
		switch frame.Type {
		case wire.Data:
			answer.Write(frame.Payload)
			h.write(wire.Encode(wire.Credit, frame.Stream, binary.BigEndian.AppendUint32(nil, uint32(len(frame.Payload)))))
		case wire.Done, wire.Reset:
			return answer.Bytes(), frame
		case wire.Goodbye:
			h.t.Fatalf("the agent ended the session: %s", frame.Payload)
		}
	}
}

func TestAWorkspaceIsSavedAndRestored(t *testing.T) {
	h, registry := attach(t)
	if !slices.Contains(h.hello.Features, "workspace-save") {
		t.Errorf("%v", h.hello.Features)
	}
	dir, salt := t.TempDir(), strings.Repeat("ab", 32)
	file, content := filepath.Join(dir, "f"), make([]byte, 200_000)
	rand.NewChaCha8([32]byte{}).Read(content)
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	records, done := h.ask(nil, `{"kind":"save","path":%q,"saveId":"one","saltHex":%q}`, dir, salt)
	if done.Type != wire.Done || !strings.Contains(string(done.Payload), `"entries":2,"files":1,"bytes":200000`) {
		t.Fatalf("%s", done.Payload)
	}
	if _, reset := h.ask(nil, `{"kind":"save","path":"no","saveId":"one","saltHex":%q}`, salt); !strings.Contains(string(reset.Payload), "SPEC_INVALID") {
		t.Errorf("%s", reset.Payload)
	}
	exec, _, err := registry.Start("running", process.Spec{Argv: []string{"sleep", "1000"}, Output: "wait", Cwd: "/"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, reset := h.ask(nil, `{"kind":"restore","path":%q,"saveId":"two","saltHex":%q}`, dir, salt); !strings.Contains(string(reset.Payload), "CONFLICT") {
		t.Errorf("while a process runs: %s", reset.Payload)
	}
	if err := registry.Signal("running", 9); err != nil {
		t.Fatal(err)
	}
	<-exec.Ended()
	if err := os.WriteFile(file, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, done := h.ask(inRestoreOrder(records), `{"kind":"restore","path":%q,"saveId":"two","saltHex":%q}`, dir, salt); done.Type != wire.Done || string(done.Payload) != `{"entries":2,"bytes":200000}` {
		t.Errorf("%s", done.Payload)
	}
	if text, err := os.ReadFile(file); err != nil || !bytes.Equal(text, content) {
		t.Errorf("%d bytes were restored: %v", len(text), err)
	}
	records, done = h.ask(nil, `{"kind":"save","path":%q,"saveId":"three","baseSaveId":"two","saltHex":%q}`, dir, salt)
	if records = withoutProgress(records); len(records) != 5 || !strings.Contains(string(done.Payload), `"readFiles":0`) {
		t.Errorf("%d bytes of records, %s", len(records), done.Payload)
	}
}

// withoutProgress leaves out the records that say only that the agent still works: a slow machine gets some in any save.
func withoutProgress(records []byte) (rest []byte) {
	for len(records) > 0 {
		size := 5 + binary.BigEndian.Uint32(records[1:])
		if record.Kind(records[0]) != record.Progress {
			rest = append(rest, records[:size]...)
		}
		records = records[size:]
	}
	return rest
}

// inRestoreOrder takes the save of a folder with one file: chunks come after their entry.
func inRestoreOrder(records []byte) []byte {
	var chunks, others []byte
	for data := withoutProgress(records); len(data) > 0; {
		size := 5 + binary.BigEndian.Uint32(data[1:])
		if data[0] == 1 {
			chunks = append(chunks, data[:size]...)
		} else {
			others = append(others, data[:size]...)
		}
		data = data[size:]
	}
	last := len(others) - 5
	return slices.Concat(others[:last], chunks, others[last:])
}
