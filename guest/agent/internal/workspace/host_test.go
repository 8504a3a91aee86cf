package workspace

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/workspace/workspacetest"
)

const salt = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// host plays the other side of one request.
type host struct {
	in     io.Reader
	out    bytes.Buffer
	gone   chan struct{}
	opened any
	done   any
	// breaksAt is after how many bytes of records the stream breaks; 0 = never.
	breaksAt int
	// onWrite is called before each write.
	onWrite func()
	// refuses is set if the answer cannot be sent.
	refuses bool
}

var errBroken = errors.New("the stream broke")

func (h *host) Read(p []byte) (int, error) { return h.in.Read(p) }

func (h *host) Write(p []byte) (int, error) {
	if h.onWrite != nil {
		h.onWrite()
	}
	if h.breaksAt > 0 && h.out.Len()+len(p) > h.breaksAt {
		return 0, errBroken
	}
	return h.out.Write(p)
}

func (h *host) Gone() <-chan struct{} { return h.gone }

func (h *host) Opened(value any) error {
	h.opened = value
	return nil
}

func (h *host) Done(value any) error {
	if h.refuses {
		return errBroken
	}
	h.done = value
	return nil
}

// later is a clock on which all that a test has done lies far back, so that nothing needs to wait.
func later() time.Time { return time.Now().Add(time.Hour) }

func newKeeper() *Keeper { return NewKeeper(DefaultLimits, later) }

func codeOf(err error) string {
	var failure *mux.Failure
	if errors.As(err, &failure) {
		return failure.Code
	}
	return ""
}

// rawEntry is an entry as the document has it.
type rawEntry struct {
	Path   []byte   `json:"path"`
	Type   string   `json:"type"`
	Size   int64    `json:"size"`
	Chunks [][2]any `json:"chunks"`
	raw    []byte
}

// stored is what a host keeps of a workspace: it knows the format from the document, not from the code.
type stored struct {
	t       testing.TB
	entries map[string]rawEntry
	chunks  map[string][]byte
}

func newStored(t testing.TB) *stored {
	return &stored{t, map[string]rawEntry{}, map[string][]byte{}}
}

// arrived is what one save sent.
type arrived struct {
	delta    bool
	summary  Summary
	entries  []string
	removed  []string
	skipped  map[string]string
	finished bool
	// progress counts the records that say only that the agent works.
	progress int
}

// save takes a save.
func (s *stored) save(k *Keeper, dir, id, base string) arrived {
	s.t.Helper()
	h := &host{}
	if err := k.Save(Request{Path: dir, SaveID: id, BaseSaveID: base, SaltHex: salt}, h); err != nil {
		s.t.Fatal(err)
	}
	return s.take(h)
}

func (s *stored) take(h *host) arrived {
	s.t.Helper()
	a := arrived{delta: h.opened.(map[string]bool)["delta"], summary: h.done.(Summary), skipped: map[string]string{}}
	if !a.delta {
		s.entries = map[string]rawEntry{}
	}
	sent, sentBytes, last, isFirst := 0, int64(0), "", true
	inOrder := func(path string) {
		if !isFirst && path <= last {
			s.t.Fatalf("%q after %q", path, last)
		}
		last, isFirst = path, false
	}
	for data := h.out.Bytes(); len(data) > 0; {
		kind, size := data[0], int(binary.BigEndian.Uint32(data[1:]))
		payload := data[5 : 5+size]
		data = data[5+size:]
		if a.finished {
			s.t.Fatal("something follows the finish record")
		}
		switch kind {
		case 1:
			sent, sentBytes = sent+1, sentBytes+int64(size)
			s.chunk(payload)
		case 2:
			entry := s.entry(payload)
			inOrder(string(entry.Path))
			a.entries = append(a.entries, string(entry.Path))
		case 3:
			inOrder(string(payload))
			if _, has := s.entries[string(payload)]; !has || !a.delta {
				s.t.Fatalf("%q is removed, and was not there", payload)
			}
			delete(s.entries, string(payload))
			a.removed = append(a.removed, string(payload))
		case 4:
			var skipped struct {
				Path []byte `json:"path"`
				Type string `json:"type"`
			}
			workspacetest.Must(s.t, json.Unmarshal(payload, &skipped))
			a.skipped[string(skipped.Path)] = skipped.Type
		case 6:
			a.progress++
		case 5:
			a.finished = size == 0
		default:
			s.t.Fatalf("a record of type %d", kind)
		}
	}
	if !a.finished || sent != a.summary.SentChunks || sentBytes != a.summary.SentBytes || a.summary.Entries != len(s.entries) {
		s.t.Fatalf("%d chunks, %d bytes, %d entries, finished %v: %+v", sent, sentBytes, len(s.entries), a.finished, a.summary)
	}
	return a
}

func (s *stored) chunk(content []byte) {
	s.t.Helper()
	prefix, _ := hex.DecodeString(salt)
	sum := sha256.Sum256(append(prefix, content...))
	id := hex.EncodeToString(sum[:])
	if _, has := s.chunks[id]; has || len(content) > 1<<20 {
		s.t.Fatalf("a chunk of %d bytes that is too large or was sent before", len(content))
	}
	s.chunks[id] = bytes.Clone(content)
}

func (s *stored) entry(payload []byte) rawEntry {
	s.t.Helper()
	entry := rawEntry{raw: bytes.Clone(payload)}
	workspacetest.Must(s.t, json.Unmarshal(payload, &entry))
	var size int64
	for _, piece := range entry.Chunks {
		id, bytes := piece[0].(string), int64(piece[1].(float64))
		if content, has := s.chunks[id]; id != "" && (!has || int64(len(content)) != bytes) {
			s.t.Fatalf("%q needs a chunk that has not come", entry.Path)
		}
		size += bytes
	}
	if size != entry.Size {
		s.t.Fatalf("%q has chunks of %d bytes, and a size of %d", entry.Path, size, entry.Size)
	}
	s.entries[string(entry.Path)] = entry
	return entry
}

// records returns the whole workspace as a host sends it.
func (s *stored) records() []byte {
	var all []byte
	for _, path := range slices.Sorted(maps.Keys(s.entries)) {
		entry := s.entries[path]
		all = append(all, rawRecord(2, entry.raw)...)
		for _, piece := range entry.Chunks {
			if id := piece[0].(string); id != "" {
				all = append(all, rawRecord(1, s.chunks[id])...)
			}
		}
	}
	return append(all, rawRecord(5, nil)...)
}

func rawRecord(kind byte, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload))), payload...)
}

// restore gives records to a keeper.
func restore(k *Keeper, dir, id string, records []byte) (Restored, error) {
	h := &host{in: bytes.NewReader(records)}
	err := k.Restore(Request{Path: dir, SaveID: id, SaltHex: salt}, h)
	answer, _ := h.done.(Restored)
	return answer, err
}
