package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
)

// EventKind says what Reader.Next found.
type EventKind int

// What can come from the wire.
const (
	// Attached: a host began a new connection; everything of an earlier one no longer counts.
	Attached EventKind = iota + 1
	// Framed: one frame.
	Framed
	// Desynced: bytes that are not a frame. No frame follows until the next Attached.
	Desynced
)

// Event is one thing read from the wire.
type Event struct {
	Kind  EventKind
	Nonce [NonceBytes]byte
	Frame Frame
}

// Reader turns bytes from a host into events. It finds the beginning of an attach whatever was sent before.
type Reader struct {
	source  *bufio.Reader
	hunting bool
}

// NewReader makes a reader that waits for an attach.
func NewReader(source io.Reader) *Reader {
	return &Reader{source: bufio.NewReaderSize(source, 2*MaxFrame), hunting: true}
}

// Next blocks until the next event. Its errors are those of the source.
func (r *Reader) Next() (Event, error) {
	if r.hunting {
		nonce, err := r.hunt()
		if err != nil {
			return Event{}, err
		}
		r.hunting = false
		return Event{Kind: Attached, Nonce: nonce}, nil
	}
	frame, ok, err := r.frame()
	if err != nil {
		return Event{}, err
	}
	if !ok {
		r.hunting = true
		return Event{Kind: Desynced}, nil
	}
	return Event{Kind: Framed, Frame: frame}, nil
}

func (r *Reader) frame() (Frame, bool, error) {
	var header [9]byte
	if _, err := io.ReadFull(r.source, header[:4]); err != nil {
		return Frame{}, false, err
	}
	length := binary.BigEndian.Uint32(header[:4])
	if length < minLength || length > maxLength {
		return Frame{}, false, nil
	}
	if _, err := io.ReadFull(r.source, header[4:]); err != nil {
		return Frame{}, false, err
	}
	body := make([]byte, length-5)
	if _, err := io.ReadFull(r.source, body); err != nil {
		return Frame{}, false, err
	}
	last := len(body) - 1
	if body[last] != endMark {
		return Frame{}, false, nil
	}
	return Frame{Type: Type(header[4]), Stream: binary.BigEndian.Uint32(header[5:]), Payload: body[:last:last]}, true, nil
}

// hunt skips bytes up to the end of a complete attach record. The first byte of the magic occurs in it only once, so
// after a mismatch the search goes on at the byte that did not match.
func (r *Reader) hunt() ([NonceBytes]byte, error) {
	var nonce [NonceBytes]byte
	matched := 0
	for {
		b, err := r.source.ReadByte()
		if err != nil {
			return nonce, err
		}
		if b != attachMagic[matched] {
			matched = 0
			if b != attachMagic[0] {
				continue
			}
		}
		matched++
		if matched < len(attachMagic) {
			continue
		}
		matched = 0
		rest, err := r.source.Peek(NonceBytes + 4)
		if err != nil {
			return nonce, err
		}
		record := bytes.Join([][]byte{attachMagic, rest[:NonceBytes]}, nil)
		if crc32.ChecksumIEEE(record) != binary.BigEndian.Uint32(rest[NonceBytes:]) {
			continue
		}
		copy(nonce[:], rest)
		_, err = r.source.Discard(NonceBytes + 4)
		return nonce, err
	}
}

// Hunt makes the reader ignore everything up to the next attach.
func (r *Reader) Hunt() { r.hunting = true }
