package mux

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"kiln/guest-agent/internal/wire"
)

type harness struct {
	session *Session
	opened  chan *Stream
	frames  chan wire.Frame
}

func start(t *testing.T) *harness {
	t.Helper()
	h := &harness{opened: make(chan *Stream, 8), frames: make(chan wire.Frame)}
	session, err := NewSession([wire.NonceBytes]byte{}, map[string]int{}, func(st *Stream, _ []byte) { h.opened <- st }, func(string, uint64) {})
	if err != nil {
		t.Fatal(err)
	}
	h.session = session
	reading, writing := io.Pipe()
	go func() { _ = session.Drain(writing) }()
	go h.read(reading)
	t.Cleanup(session.End)
	return h
}

// read plays the host: it skips the hello record and passes on every frame.
func (h *harness) read(from io.Reader) {
	_, _ = io.ReadFull(from, make([]byte, 36))
	for {
		var header [9]byte
		if _, err := io.ReadFull(from, header[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(header[:])-5)
		_, _ = io.ReadFull(from, body)
		h.frames <- wire.Frame{Type: wire.Type(header[4]), Stream: binary.BigEndian.Uint32(header[5:]), Payload: body[:len(body)-1]}
	}
}

func (h *harness) want(t *testing.T, kind wire.Type) wire.Frame {
	t.Helper()
	if frame := <-h.frames; frame.Type != kind {
		t.Fatalf("got frame type %d, want %d", frame.Type, kind)
	} else {
		return frame
	}
	return wire.Frame{}
}

func (h *harness) send(kind wire.Type, id uint32, payload []byte) bool {
	return h.session.Handle(wire.Frame{Type: kind, Stream: id, Payload: payload})
}

func TestMoreThanTheWindowBreaksTheProtocol(t *testing.T) {
	h := start(t)
	h.want(t, wire.Hello)
	h.send(wire.Open, 1, []byte("{}"))
	<-h.opened
	sent := 0
	for h.send(wire.Data, 1, make([]byte, 16*1024)) {
		sent += 16 * 1024
	}
	if sent != wire.Window {
		t.Fatalf("%d bytes were taken", sent)
	}
}

func TestReadingGrantsCreditAndWritingWaitsForIt(t *testing.T) {
	h := start(t)
	h.want(t, wire.Hello)
	h.send(wire.Open, 1, []byte("{}"))
	st := <-h.opened
	h.send(wire.Data, 1, bytes.Repeat([]byte{7}, wire.Window/4))
	if _, err := io.ReadFull(st, make([]byte, wire.Window/4)); err != nil {
		t.Fatal(err)
	}
	if granted := binary.BigEndian.Uint32(h.want(t, wire.Credit).Payload); granted != wire.Window/4 {
		t.Fatalf("granted %d", granted)
	}
	const piece = 16 * 1024
	written := make(chan error, 1)
	go func() {
		_, err := io.Copy(plain{st}, io.LimitReader(zeros{}, wire.Window+piece))
		written <- err
	}()
	for got := 0; got < wire.Window; {
		got += len(h.want(t, wire.Data).Payload)
	}
	select {
	case frame := <-h.frames:
		t.Fatalf("frame %d without credit", frame.Type)
	case <-written:
		t.Fatal("written without credit")
	default:
	}
	h.send(wire.Credit, 1, binary.BigEndian.AppendUint32(nil, piece))
	if rest := h.want(t, wire.Data).Payload; len(rest) != piece {
		t.Fatalf("%d bytes for credit of %d", len(rest), piece)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

// plain writes pieces of 16 KiB; the window is a multiple of that.
type plain struct{ io.Writer }

func (p plain) Write(data []byte) (int, error) {
	for at := 0; at < len(data); at += 16 * 1024 {
		if _, err := p.Writer.Write(data[at:min(at+16*1024, len(data))]); err != nil {
			return at, err
		}
	}
	return len(data), nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestQueuedBytesOutliveTheEndOfBothDirections(t *testing.T) {
	h := start(t)
	h.want(t, wire.Hello)
	h.send(wire.Open, 1, []byte("{}"))
	st := <-h.opened
	h.send(wire.Data, 1, []byte("rest"))
	h.send(wire.End, 1, nil)
	if err := st.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(st); err != nil || string(text) != "rest" {
		t.Fatalf("%q %v", text, err)
	}
}

func TestWhatNoHostMaySend(t *testing.T) {
	for name, frames := range map[string][]wire.Frame{
		"an even id":         {{Type: wire.Open, Stream: 2}},
		"an id twice":        {{Type: wire.Open, Stream: 1}, {Type: wire.Open, Stream: 1}},
		"data after the end": {{Type: wire.Open, Stream: 1}, {Type: wire.End, Stream: 1}, {Type: wire.Data, Stream: 1, Payload: []byte{1}}},
		"odd credit":         {{Type: wire.Open, Stream: 1}, {Type: wire.Credit, Stream: 1, Payload: []byte{1}}},
		"too much credit":    {{Type: wire.Open, Stream: 1}, {Type: wire.Credit, Stream: 1, Payload: []byte{1, 0, 0, 0}}},
		"an unknown type":    {{Type: wire.Open, Stream: 1}, {Type: 200, Stream: 1}},
		"a short ack":        {{Type: wire.Ack, Payload: []byte{1}}},
	} {
		h := start(t)
		h.want(t, wire.Hello)
		accepted := true
		for _, frame := range frames {
			accepted = h.session.Handle(frame)
		}
		if accepted {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestTheEndOfASessionWakesEverybody(t *testing.T) {
	h := start(t)
	h.want(t, wire.Hello)
	h.send(wire.Open, 1, []byte("{}"))
	st := <-h.opened
	failed := make(chan error, 2)
	go func() {
		_, err := st.Read(make([]byte, 1))
		failed <- err
	}()
	go func() {
		for {
			if _, err := st.Write(make([]byte, 1000)); err != nil {
				failed <- err
				return
			}
		}
	}()
	go func() {
		for range h.frames {
		}
	}()
	h.session.End()
	for range 2 {
		if err := <-failed; err == nil {
			t.Fatal("went on after the end")
		}
	}
}

// The host accepts the ids of new streams in rising order only, however many connections a guest opens at once.
func TestStreamsOpenedAtOnceReachTheHostInRisingOrder(t *testing.T) {
	h := start(t)
	h.want(t, wire.Hello)
	const openers, each = 16, 8
	for range openers {
		go func() {
			for range each {
				_, _ = h.session.OpenStream(map[string]string{"kind": "egress"})
			}
		}()
	}
	var last uint32
	for range openers * each {
		frame := h.want(t, wire.Open)
		if frame.Stream <= last {
			t.Fatalf("stream %d came after stream %d", frame.Stream, last)
		}
		last = frame.Stream
	}
}
