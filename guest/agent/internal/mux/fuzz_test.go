package mux

import (
	"bytes"
	"io"
	"testing"

	"kiln/guest-agent/internal/wire"
)

// FuzzSession: whatever frames arrive, a session accepts each or reports that the protocol is broken. It neither blocks
// nor panics, and no stream holds more than the window.
func FuzzSession(f *testing.F) {
	frames := func(list ...[]byte) []byte { return bytes.Join(list, nil) }
	f.Add([]byte{})
	f.Add(frames(wire.Encode(wire.Open, 1, []byte("{}")), wire.Encode(wire.Data, 1, []byte("x")), wire.Encode(wire.End, 1)))
	f.Add(frames(wire.Encode(wire.Open, 1, []byte("{}")), wire.Encode(wire.Reset, 1, []byte(`{"code":"A","message":""}`))))
	f.Add(frames(wire.Encode(wire.Ack, 0, make([]byte, 8)), wire.Encode(wire.Ping, 0, []byte("x")), wire.Encode(wire.Credit, 2, []byte{0, 0, 0, 1})))
	f.Fuzz(func(t *testing.T, input []byte) {
		session, err := NewSession([wire.NonceBytes]byte{}, map[string]int{}, func(st *Stream, _ []byte) {
			_, _ = io.Copy(io.Discard, st)
			st.Abort(Fail("CONFLICT", "over"))
		}, func(string, uint64) {})
		if err != nil {
			t.Fatal(err)
		}
		defer session.End()
		go func() { _ = session.Drain(io.Discard) }()
		attach := wire.AttachRecord([wire.NonceBytes]byte{})
		reader := wire.NewReader(bytes.NewReader(append(attach, input...)))
		for {
			event, err := reader.Next()
			if err != nil || event.Kind == wire.Desynced {
				return
			}
			if event.Kind == wire.Framed && !session.Handle(event.Frame) {
				return
			}
		}
	})
}
