package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

var nonce = [NonceBytes]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func attach() []byte {
	return append(bytes.Repeat([]byte{0xff}, MaxFrame+4096), AttachRecord(nonce)...)
}

func next(t *testing.T, reader *Reader, want EventKind) Event {
	t.Helper()
	event, err := reader.Next()
	if err != nil || event.Kind != want {
		t.Fatalf("got %v %v, want event %v", event.Kind, err, want)
	}
	return event
}

func TestFramesComeBackWhole(t *testing.T) {
	payloads := [][]byte{nil, {0}, bytes.Repeat([]byte{0xff}, MaxPayload)}
	wire := attach()
	for i, payload := range payloads {
		wire = append(wire, Encode(Data, uint32(i), payload)...)
	}
	reader := NewReader(iotest.OneByteReader(bytes.NewReader(wire)))
	if got := next(t, reader, Attached); got.Nonce != nonce {
		t.Fatalf("nonce %v", got.Nonce)
	}
	for i, payload := range payloads {
		got := next(t, reader, Framed).Frame
		if got.Type != Data || got.Stream != uint32(i) || !bytes.Equal(got.Payload, payload) {
			t.Fatalf("frame %d came back as %v", i, got)
		}
	}
	if _, err := reader.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v after the last frame", err)
	}
}

// A half frame of any length, which the filler of an attach completes, must neither be delivered nor hide the attach.
func TestAttachIsFoundAfterHalfAFrame(t *testing.T) {
	for _, size := range []int{0, 1, 1000, MaxPayload} {
		frame := Encode(Data, 7, bytes.Repeat([]byte{0x55}, size))
		for cut := 1; cut < len(frame); cut += max(1, len(frame)/50) {
			reader := NewReader(bytes.NewReader(append(append(attach(), frame[:cut]...), attach()...)))
			next(t, reader, Attached)
			next(t, reader, Desynced)
			next(t, reader, Attached)
		}
	}
}

func TestAttachIsFoundAfterNoise(t *testing.T) {
	record := AttachRecord(nonce)
	broken := bytes.Clone(record)
	broken[len(broken)-1]++
	for name, noise := range map[string][]byte{
		"nothing": nil, "text": []byte("GET / HTTP/1.1\r\n"), "half a magic": record[:7],
		"a broken record": broken, "a magic twice": append([]byte("KILN-ATTACH-"), record[:20]...),
	} {
		reader := NewReader(bytes.NewReader(append(noise, attach()...)))
		if event, err := reader.Next(); err != nil || event.Nonce != nonce {
			t.Errorf("after %s: %v %v", name, event, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(attach(), Encode(Open, 1, []byte(`{"kind":"usage"}`))...))
	f.Add(append(attach(), 0, 0, 0x7f, 0xff, 6))
	f.Fuzz(func(t *testing.T, noise []byte) {
		reader := NewReader(bytes.NewReader(append(noise, attach()...)))
		for {
			event, err := reader.Next()
			if err != nil {
				t.Fatalf("the attach after the noise was not found: %v", err)
			}
			if event.Kind == Framed && len(event.Frame.Payload) > MaxPayload {
				t.Fatalf("payload of %d bytes", len(event.Frame.Payload))
			}
			if event.Kind == Attached && event.Nonce == nonce {
				return
			}
		}
	})
}
