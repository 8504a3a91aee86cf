// Package process runs commands for the host and keeps their output until the host has it.
package process

import (
	"sort"
	"sync"
)

const (
	segmentBytes = 16 * 1024
	// segmentCost is added to the size of each segment, so that the memory for many tiny writes is bounded, too.
	segmentCost = 32
	minOutput   = 64 * 1024
)

// Output keeps what a process wrote until the host acknowledges it. Offsets count the bytes of both streams together.
type Output struct {
	mu       sync.Mutex
	changed  sync.Cond
	limit    int
	wait     bool
	segments []segment
	cost     int
	base     uint64
	end      uint64
	finished bool
	dropped  bool
}

type segment struct {
	stream byte
	at     uint64
	data   []byte
}

// Piece is what a reader gets next: bytes of one stream, or a gap if Data is nil.
type Piece struct {
	Stream byte
	Offset uint64
	Data   []byte
	Gap    uint64
}

// NewOutput makes a buffer of limit bytes. While it is full, Append blocks if wait is set, and drops the oldest bytes
// if not.
func NewOutput(limit int, wait bool) *Output {
	o := &Output{limit: max(limit, minOutput), wait: wait}
	o.changed.L = &o.mu
	return o
}

// Append adds bytes of a stream, in pieces as there is room for them.
func (o *Output) Append(stream byte, data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(data) > 0 && !o.dropped {
		room := o.limit - o.cost - segmentCost
		if o.wait && room <= 0 {
			o.changed.Wait()
			continue
		}
		n := min(len(data), segmentBytes)
		if o.wait {
			n = min(n, room)
		}
		o.add(stream, data[:n])
		data = data[n:]
		for !o.wait && o.cost > o.limit {
			o.forget(min(uint64(len(o.segments[0].data)), uint64(max(o.cost-o.limit, 1))))
		}
		o.changed.Broadcast()
	}
}

func (o *Output) add(stream byte, data []byte) {
	last := len(o.segments) - 1
	if last >= 0 && o.segments[last].stream == stream && len(o.segments[last].data)+len(data) <= segmentBytes {
		o.segments[last].data = append(o.segments[last].data, data...)
	} else {
		o.segments = append(o.segments, segment{stream, o.end, append([]byte(nil), data...)})
		o.cost += segmentCost
	}
	o.cost += len(data)
	o.end += uint64(len(data))
}

// forget drops the first n bytes that are kept; there must be that many.
func (o *Output) forget(n uint64) {
	o.base += n
	for n > 0 {
		first := &o.segments[0]
		if n < uint64(len(first.data)) {
			first.data = first.data[n:]
			first.at += n
			o.cost -= int(n)
			return
		}
		n -= uint64(len(first.data))
		o.cost -= len(first.data) + segmentCost
		o.segments[0] = segment{}
		o.segments = o.segments[1:]
	}
}

// Acknowledge forgets everything below offset.
func (o *Output) Acknowledge(offset uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if offset = min(offset, o.end); offset > o.base {
		o.forget(offset - o.base)
		o.changed.Broadcast()
	}
}

// Finish marks the end of the output. Nothing is appended after it.
func (o *Output) Finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.finished = true
	o.changed.Broadcast()
}

// Drop throws away what is kept and all that is appended later. A blocked Append returns.
func (o *Output) Drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropped = true
	o.forget(o.end - o.base)
	o.changed.Broadcast()
}

// Wake makes blocked calls of Next check their stop condition again.
func (o *Output) Wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changed.Broadcast()
}

// Range returns the first kept offset and the end.
func (o *Output) Range() (base, end uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.base, o.end
}

// Next returns the piece at cursor, and blocks until there is one. It returns false if the output ends at cursor, or
// stop returns true.
func (o *Output) Next(cursor uint64, limit int, stop func() bool) (Piece, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for cursor >= o.end && !o.finished && !stop() {
		o.changed.Wait()
	}
	if stop() || cursor >= o.end {
		return Piece{}, false
	}
	if cursor < o.base {
		return Piece{Offset: cursor, Gap: o.base - cursor}, true
	}
	found := sort.Search(len(o.segments), func(i int) bool {
		return cursor < o.segments[i].at+uint64(len(o.segments[i].data))
	})
	data := o.segments[found].data[cursor-o.segments[found].at:]
	data = data[:min(len(data), limit)]
	return Piece{Stream: o.segments[found].stream, Offset: cursor, Data: append([]byte(nil), data...)}, true
}
