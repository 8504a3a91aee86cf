package mux

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"sync"

	"kiln/guest-agent/internal/wire"
)

// ErrGone is the error of reads and writes on a stream that was released or whose session has ended.
var ErrGone = errors.New("stream is gone")

// Failure is a typed error that travels as the payload of a reset.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (f *Failure) Error() string { return f.Code + ": " + f.Message }

// Fail makes a typed error with a code of the host's failure table.
func Fail(code, message string) *Failure { return &Failure{Code: code, Message: message} }

// Stream is one of the streams of a session. Reads take from a queue that never holds more than the window; writes wait
// for credit from the host.
type Stream struct {
	ID      uint32
	session *Session

	mu       sync.Mutex
	changed  sync.Cond
	inbox    [][]byte
	buffered int
	consumed int
	inEnded  bool
	outEnded bool
	credit   int
	opened   bool
	err      error
	gone     chan struct{}
}

func newStream(id uint32, session *Session) *Stream {
	st := &Stream{ID: id, session: session, credit: wire.Window, gone: make(chan struct{})}
	st.changed.L = &st.mu
	return st
}

// Gone is closed once the stream is over: answered, reset, released, or its session has ended.
func (st *Stream) Gone() <-chan struct{} { return st.gone }

// Read returns bytes of the host's data frames, io.EOF after its end, a *Failure after its reset.
func (st *Stream) Read(p []byte) (int, error) {
	st.mu.Lock()
	for len(st.inbox) == 0 && !st.inEnded && st.err == nil {
		st.changed.Wait()
	}
	if st.err != nil {
		defer st.mu.Unlock()
		return 0, st.err
	}
	if len(st.inbox) == 0 {
		defer st.mu.Unlock()
		return 0, io.EOF
	}
	n := copy(p, st.inbox[0])
	if n == len(st.inbox[0]) {
		st.inbox = st.inbox[1:]
	} else {
		st.inbox[0] = st.inbox[0][n:]
	}
	st.buffered -= n
	st.consumed += n
	grant := 0
	if st.consumed >= wire.Window/4 {
		grant, st.consumed = st.consumed, 0
	}
	st.mu.Unlock()
	if grant > 0 {
		st.session.control(wire.Encode(wire.Credit, st.ID, binary.BigEndian.AppendUint32(nil, uint32(grant))))
	}
	return n, nil
}

// Write sends bytes as data frames.
func (st *Stream) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		n := min(len(p)-sent, wire.MaxPayload)
		if err := st.SendCounted(wire.Data, p[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

// SendCounted sends one frame whose payload costs credit.
func (st *Stream) SendCounted(kind wire.Type, parts ...[]byte) error {
	cost := 0
	for _, part := range parts {
		cost += len(part)
	}
	st.mu.Lock()
	for st.credit < cost && st.err == nil && !st.outEnded {
		st.changed.Wait()
	}
	if st.err != nil || st.outEnded {
		defer st.mu.Unlock()
		return errors.Join(ErrGone, st.err)
	}
	st.credit -= cost
	st.mu.Unlock()
	return st.session.ordered(wire.Encode(kind, st.ID, parts...))
}

// Send sends one frame that costs no credit, after all that was sent before.
func (st *Stream) Send(kind wire.Type, parts ...[]byte) error {
	st.mu.Lock()
	err := st.err
	st.mu.Unlock()
	if err != nil {
		return errors.Join(ErrGone, err)
	}
	return st.session.ordered(wire.Encode(kind, st.ID, parts...))
}

// SendJSON sends one small frame whose payload is JSON.
func (st *Stream) SendJSON(kind wire.Type, value any) error {
	payload, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return st.Send(kind, payload)
}

// Done sends the answer of a request. The stream is then over.
func (st *Stream) Done(value any) error {
	err := st.SendJSON(wire.Done, value)
	st.finish(ErrGone)
	return err
}

// CloseWrite tells the host that no more data comes.
func (st *Stream) CloseWrite() error {
	st.mu.Lock()
	if st.outEnded || st.err != nil {
		st.mu.Unlock()
		return nil
	}
	st.outEnded = true
	over := st.inEnded
	st.mu.Unlock()
	err := st.session.ordered(wire.Encode(wire.End, st.ID))
	if over {
		st.session.forget(st.ID)
	}
	return err
}

// Abort tells the host that the stream failed. The stream is then over. It does nothing on a stream that is over
// already.
func (st *Stream) Abort(reason error) {
	select {
	case <-st.gone:
		return
	default:
	}
	st.session.control(resetFrame(st.ID, reason))
	st.finish(reason)
}

// Release ends the stream without telling the host.
func (st *Stream) Release() { st.finish(ErrGone) }

func resetFrame(id uint32, reason error) []byte {
	var failure *Failure
	if !errors.As(reason, &failure) {
		failure = Fail("INTERNAL", reason.Error())
	}
	if len(failure.Message) > 4000 {
		failure = Fail(failure.Code, failure.Message[:4000])
	}
	payload, err := json.Marshal(failure)
	if err != nil {
		payload = []byte(`{"code":"INTERNAL","message":"unprintable"}`)
	}
	return wire.Encode(wire.Reset, id, payload)
}

func (st *Stream) finish(reason error) {
	st.mu.Lock()
	if st.err == nil {
		st.err = reason
		st.inbox, st.buffered = nil, 0
		close(st.gone)
		st.changed.Broadcast()
	}
	st.mu.Unlock()
	st.session.forget(st.ID)
}

// WaitOpened blocks until the host has accepted (nil) or refused a stream that the guest opened.
func (st *Stream) WaitOpened() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	for !st.opened && st.err == nil {
		st.changed.Wait()
	}
	if st.opened {
		return nil
	}
	return st.err
}

// deliver processes one frame of the host. It never blocks. It returns false if the host broke the protocol.
func (st *Stream) deliver(frame wire.Frame) bool {
	switch frame.Type {
	case wire.Data:
		return st.enqueue(frame.Payload)
	case wire.Credit:
		return st.addCredit(frame.Payload)
	case wire.End:
		st.mu.Lock()
		st.inEnded = true
		over := st.outEnded
		st.changed.Broadcast()
		st.mu.Unlock()
		if over {
			// Queued data can still be read, but no frame of this stream follows.
			st.session.forget(st.ID)
		}
	case wire.Opened:
		st.mu.Lock()
		st.opened = true
		st.changed.Broadcast()
		st.mu.Unlock()
	case wire.Reset:
		failure := &Failure{}
		if json.Unmarshal(frame.Payload, failure) != nil {
			failure = Fail("INTERNAL", "reset by the host")
		}
		st.finish(failure)
	default:
		return false
	}
	return true
}

func (st *Stream) enqueue(payload []byte) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.inEnded || st.buffered+len(payload) > wire.Window {
		return false
	}
	if st.err == nil && len(payload) > 0 {
		st.inbox = append(st.inbox, payload)
		st.buffered += len(payload)
		st.changed.Broadcast()
	}
	return true
}

func (st *Stream) addCredit(payload []byte) bool {
	if len(payload) != 4 {
		return false
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.credit += int(binary.BigEndian.Uint32(payload))
	st.changed.Broadcast()
	return st.credit <= wire.Window
}
