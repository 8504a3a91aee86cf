// Package mux carries many streams over the one connection between a host and the agent.
package mux

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"sync"

	"kiln/guest-agent/internal/wire"
)

const (
	maxStreams = 4096
	// maxControl bounds the answers that are queued while the host does not read. Above it, the session ends.
	maxControl = 16384
	maxOrdered = 16
)

// Opener handles a stream that the host opens. Each call runs in a goroutine of its own.
type Opener func(st *Stream, request []byte)

// Acknowledger takes the acknowledged output offset of a process. It must not block.
type Acknowledger func(execID string, offset uint64)

// Session is one attach of a host. It ends with the connection; the processes that it started run on.
type Session struct {
	open Opener
	ack  Acknowledger

	mu      sync.Mutex
	streams map[uint32]*Stream
	nextID  uint32
	// Held from choosing a stream's id until its open frame is queued: the host accepts ids in rising order only.
	openMu sync.Mutex
	ended  bool
	done   chan struct{}

	outMu   sync.Mutex
	outCond sync.Cond
	urgent  [][]byte
	queue   [][]byte
	busy    bool
}

// NewSession makes a session whose first bytes are the hello record for nonce and the hello frame.
func NewSession(nonce [wire.NonceBytes]byte, hello any, open Opener, ack Acknowledger) (*Session, error) {
	payload, err := json.Marshal(hello)
	if err != nil {
		return nil, err
	}
	s := &Session{open: open, ack: ack, streams: map[uint32]*Stream{}, nextID: 2, done: make(chan struct{})}
	s.outCond.L = &s.outMu
	s.urgent = [][]byte{append(wire.HelloRecord(nonce), wire.Encode(wire.Hello, 0, payload)...)}
	return s, nil
}

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// End ends every stream. Processes run on.
func (s *Session) End() {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.ended = true
	streams := s.streams
	s.streams = map[uint32]*Stream{}
	close(s.done)
	s.mu.Unlock()
	for _, st := range streams {
		st.finish(ErrGone)
	}
	s.outMu.Lock()
	s.outCond.Broadcast()
	s.outMu.Unlock()
}

// Goodbye ends the session and tells the host why, if it still listens.
func (s *Session) Goodbye(reason *Failure) {
	payload, err := json.Marshal(reason)
	if err == nil {
		s.control(wire.Encode(wire.Goodbye, 0, payload))
	}
	s.End()
}

// OpenStream opens a stream towards the host.
func (s *Session) OpenStream(request any) (*Stream, error) {
	payload, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	s.openMu.Lock()
	defer s.openMu.Unlock()
	s.mu.Lock()
	if s.ended || len(s.streams) >= maxStreams {
		s.mu.Unlock()
		return nil, ErrGone
	}
	st := newStream(s.nextID, s)
	s.nextID += 2
	s.streams[st.ID] = st
	s.mu.Unlock()
	return st, s.ordered(wire.Encode(wire.Open, st.ID, payload))
}

// Handle processes one frame of the host. It never blocks. It returns false if the host broke the protocol.
func (s *Session) Handle(frame wire.Frame) bool {
	switch frame.Type {
	case wire.Ping:
		if len(frame.Payload) > 64 {
			return false
		}
		s.control(wire.Encode(wire.Pong, 0, frame.Payload))
		return true
	case wire.Open:
		return s.accept(frame)
	case wire.Ack:
		if len(frame.Payload) < 8 {
			return false
		}
		s.ack(string(frame.Payload[8:]), binary.BigEndian.Uint64(frame.Payload))
		return true
	}
	s.mu.Lock()
	st := s.streams[frame.Stream]
	s.mu.Unlock()
	// The host may have sent a frame before it knew that the stream had ended.
	return st == nil || st.deliver(frame)
}

func (s *Session) accept(frame wire.Frame) bool {
	s.mu.Lock()
	_, known := s.streams[frame.Stream]
	if frame.Stream%2 == 0 || known {
		s.mu.Unlock()
		return false
	}
	if s.ended {
		s.mu.Unlock()
		return true
	}
	if len(s.streams) >= maxStreams {
		s.mu.Unlock()
		s.control(resetFrame(frame.Stream, Fail("QUEUE_FULL", "too many open streams")))
		return true
	}
	st := newStream(frame.Stream, s)
	s.streams[st.ID] = st
	s.mu.Unlock()
	go s.open(st, frame.Payload)
	return true
}

func (s *Session) forget(id uint32) {
	s.mu.Lock()
	delete(s.streams, id)
	s.mu.Unlock()
}

// control queues a frame that may be sent before frames queued earlier. It never blocks.
func (s *Session) control(frame []byte) {
	s.outMu.Lock()
	full := len(s.urgent) >= maxControl
	if !full {
		s.urgent = append(s.urgent, frame)
		s.outCond.Broadcast()
	}
	s.outMu.Unlock()
	if full {
		go s.End()
	}
}

// ordered queues a frame behind all earlier ordered frames. It waits while the queue is full.
func (s *Session) ordered(frame []byte) error {
	s.outMu.Lock()
	defer s.outMu.Unlock()
	for len(s.queue) >= maxOrdered && !s.isDone() {
		s.outCond.Wait()
	}
	if s.isDone() {
		return ErrGone
	}
	s.queue = append(s.queue, frame)
	s.outCond.Broadcast()
	return nil
}

func (s *Session) isDone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Flush waits until everything queued has been written, or the session has ended.
func (s *Session) Flush() {
	s.outMu.Lock()
	defer s.outMu.Unlock()
	for (len(s.urgent) > 0 || len(s.queue) > 0 || s.busy) && !s.isDone() {
		s.outCond.Wait()
	}
}

// Drain writes frames until the session ends or the connection fails. Only one session may write at a time.
func (s *Session) Drain(out io.Writer) error {
	for {
		frame := s.next()
		if frame == nil {
			return nil
		}
		if _, err := out.Write(frame); err != nil {
			return err
		}
	}
}

// next returns the next frame to write. After the end of the session it returns only urgent frames that were queued
// before; the last of them may be a goodbye.
func (s *Session) next() []byte {
	s.outMu.Lock()
	defer s.outMu.Unlock()
	s.busy = false
	s.outCond.Broadcast()
	for len(s.urgent) == 0 && len(s.queue) == 0 && !s.isDone() {
		s.outCond.Wait()
	}
	if len(s.urgent) > 0 {
		frame := s.urgent[0]
		s.urgent = s.urgent[1:]
		s.busy = true
		return frame
	}
	if s.isDone() {
		return nil
	}
	frame := s.queue[0]
	s.queue = s.queue[1:]
	s.busy = true
	s.outCond.Broadcast()
	return frame
}
