// Package record holds the wire form of a saved workspace (docs/agent-workspace.md).
package record

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"kiln/guest-agent/internal/mux"
)

// Kind says what a record holds.
type Kind byte

// The kinds of records.
const (
	Chunk   Kind = 1
	Entry   Kind = 2
	Removed Kind = 3
	Skipped Kind = 4
	Finish  Kind = 5
	// Progress says only that the agent still works.
	Progress Kind = 6
)

const (
	// MaxChunk is the size of the largest chunk of a file.
	MaxChunk = 1 << 20
	// MaxEntry is the size of the largest entry, in bytes of JSON.
	MaxEntry = 4 << 20
	// maxSkipped is far above the JSON of the longest path.
	maxSkipped = 16 << 10

	headerBytes = 5
	// bufferBytes is how much is collected before it is written: otherwise each record would be frames of its own.
	bufferBytes = 32 << 10
)

// bounds returns the least and the largest size of a payload; known is false for a kind that does not exist.
func (k Kind) bounds() (least, most uint32, known bool) {
	switch k {
	case Chunk:
		return 1, MaxChunk, true
	case Entry:
		return 1, MaxEntry, true
	case Removed:
		return 1, MaxPath, true
	case Skipped:
		return 1, maxSkipped, true
	case Finish, Progress:
		return 0, 0, true
	}
	return 0, 0, false
}

// Writer writes records. What it was given is written at the latest with Flush.
type Writer struct {
	mu  sync.Mutex
	out *bufio.Writer
	// last is when a record was written last.
	last time.Time
}

// NewWriter makes a writer of records.
func NewWriter(out io.Writer) *Writer {
	return &Writer{out: bufio.NewWriterSize(out, bufferBytes), last: time.Now()}
}

// Write adds one record. It fails with PAYLOAD_TOO_LARGE if no reader would take its payload.
func (w *Writer) Write(kind Kind, payload []byte) error {
	if _, most, _ := kind.bounds(); uint64(len(payload)) > uint64(most) {
		return mux.Fail("PAYLOAD_TOO_LARGE", fmt.Sprintf("a record of %d bytes; %d are allowed", len(payload), most))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.write(kind, payload)
}

func (w *Writer) write(kind Kind, payload []byte) error {
	w.last = time.Now()
	header := binary.BigEndian.AppendUint32([]byte{byte(kind)}, uint32(len(payload)))
	if _, err := w.out.Write(header); err != nil {
		return err
	}
	_, err := w.out.Write(payload)
	return err
}

// Flush writes what is still collected.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Flush()
}

// TellProgress writes a record of progress whenever nothing else was written for so long, until stop is called: the host
// takes a stream without a byte for one that stands still. When stop returns, nothing more is written.
func (w *Writer) TellProgress(every time.Duration) (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-over:
				return
			case <-ticker.C:
				if w.tell(every) != nil {
					return
				}
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(over)
		<-ended
	})
}

func (w *Writer) tell(every time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.last) < every {
		return nil
	}
	if err := w.write(Progress, nil); err != nil {
		return err
	}
	return w.out.Flush()
}

// Reader reads records.
type Reader struct {
	source  *bufio.Reader
	payload []byte
}

// NewReader makes a reader of records.
func NewReader(source io.Reader) *Reader {
	return &Reader{source: bufio.NewReaderSize(source, bufferBytes)}
}

// Next returns the next record; its payload is valid until the next call. It returns io.EOF where the source ends
// between two records. A kind or size that the format does not have, or an end within a record, is AGENT_PROTOCOL; other
// errors are those of the source.
func (r *Reader) Next() (Kind, []byte, error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(r.source, header[:]); err != nil {
		return 0, nil, early(err)
	}
	kind, size := Kind(header[0]), binary.BigEndian.Uint32(header[1:])
	least, most, known := kind.bounds()
	if !known || size < least || size > most {
		return 0, nil, mux.Fail("AGENT_PROTOCOL", fmt.Sprintf("a record of type %d with %d bytes", kind, size))
	}
	if cap(r.payload) < int(size) {
		r.payload = make([]byte, size)
	}
	r.payload = r.payload[:size]
	if _, err := io.ReadFull(r.source, r.payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, early(err)
	}
	return kind, r.payload, nil
}

func early(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return mux.Fail("AGENT_PROTOCOL", "the data ends within a record")
	}
	return err
}
