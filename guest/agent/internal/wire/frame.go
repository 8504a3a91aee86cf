// Package wire holds the frame format that host and agent speak (docs/agent-protocol.md).
package wire

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	// MaxFrame is the size of the largest frame on the wire, everything included.
	MaxFrame = 32 * 1024
	// Overhead is the size of a frame without its payload: length, type, stream and end mark.
	Overhead = 4 + 1 + 4 + 1
	// MaxPayload is the largest payload of one frame.
	MaxPayload = MaxFrame - Overhead
	// Window is the credit that each side of a stream starts with, in payload bytes.
	Window = 256 * 1024
	// Version is the protocol version that the hello names.
	Version = 1

	// NonceBytes is the length of the value that ties a hello to one attach.
	NonceBytes = 16

	minLength = Overhead - 4
	maxLength = MaxFrame - 4
	// endMark is the last byte of every frame. It differs from the filler of an attach, so a half frame that filler has
	// completed is recognised and never delivered.
	endMark = 0x00
)

// Type says what a frame means.
type Type byte

// The frame types of protocol version 1.
const (
	Hello   Type = 1
	Ping    Type = 2
	Pong    Type = 3
	Open    Type = 4
	Opened  Type = 5
	Data    Type = 6
	Credit  Type = 7
	End     Type = 8
	Reset   Type = 9
	Done    Type = 10
	Output  Type = 11
	Gap     Type = 12
	Exit    Type = 13
	Ack     Type = 14
	Goodbye Type = 15
)

// Frame is one parsed frame.
type Frame struct {
	Type    Type
	Stream  uint32
	Payload []byte
}

var (
	attachMagic = []byte("KILN-ATTACH-v1\r\n")
	helloMagic  = []byte("KILN-HELLO-v1\r\n\x00")
)

// Encode returns the bytes of one frame made of the parts of a payload, which together must not exceed MaxPayload.
func Encode(kind Type, stream uint32, parts ...[]byte) []byte {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if size > MaxPayload {
		panic("wire: payload over the frame limit")
	}
	frame := make([]byte, 9, size+Overhead)
	binary.BigEndian.PutUint32(frame[0:], uint32(size+minLength))
	frame[4] = byte(kind)
	binary.BigEndian.PutUint32(frame[5:], stream)
	for _, part := range parts {
		frame = append(frame, part...)
	}
	return append(frame, endMark)
}

// HelloRecord is what the agent writes first after an attach. The host skips everything before it.
func HelloRecord(nonce [NonceBytes]byte) []byte {
	return sealed(helloMagic, nonce)
}

// AttachRecord is what a host writes after its filler. Only tests call it: the agent itself never writes one.
func AttachRecord(nonce [NonceBytes]byte) []byte {
	return sealed(attachMagic, nonce)
}

func sealed(magic []byte, nonce [NonceBytes]byte) []byte {
	record := append(append([]byte{}, magic...), nonce[:]...)
	return binary.BigEndian.AppendUint32(record, crc32.ChecksumIEEE(record))
}
