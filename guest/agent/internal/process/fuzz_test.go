package process

import (
	"encoding/json"
	"testing"
)

// FuzzSpec: a request that is not refused has a command, a known kind of output, and a grace within its bounds.
func FuzzSpec(f *testing.F) {
	f.Add([]byte(`{"argv":["true"],"output":"wait","killLeftoversAfterMs":1000}`))
	f.Add([]byte(`{"argv":["true"],"output":"ring","killLeftoversAfterMs":0,"timeoutMs":1,"drainMs":1}`))
	f.Add([]byte(`{"argv":["true"],"output":"wait","killLeftoversAfterMs":-9223372036854775808}`))
	f.Add([]byte(`{"argv":["true"],"output":"wait","killLeftoversAfterMs":9223372036854775807}`))
	f.Add([]byte(`{"argv":["true"],"output":"wait","killLeftoversAfterMs":null}`))
	f.Add([]byte(`{"argv":["true"],"output":"wait","killLeftoversAfterMs":"1"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var spec Spec
		if json.Unmarshal(text, &spec) != nil || spec.check() != nil {
			return
		}
		grace := spec.KillLeftoversAfterMs
		if len(spec.Argv) == 0 || (spec.Output != "wait" && spec.Output != "ring") || (grace != nil && (*grace < 0 || *grace > 60_000)) {
			t.Fatalf("accepted %s", text)
		}
	})
}

// FuzzOutput: in whatever order output is written, acknowledged and read, offsets never go back, a ring never holds
// more than its limit, and what is read is what was written.
func FuzzOutput(f *testing.F) {
	f.Add([]byte{0, 200, 1, 50, 2, 10, 3, 0})
	f.Add([]byte{0, 255, 0, 255, 0, 255, 2, 255, 3, 1})
	f.Fuzz(func(t *testing.T, steps []byte) {
		output := NewOutput(minOutput, false)
		var written uint64
		cursor := uint64(0)
		never := func() bool { return true }
		for at := 0; at+1 < len(steps) && at < 400; at += 2 {
			size := int(steps[at+1]) * 97
			switch steps[at] % 4 {
			case 0, 1:
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(written + uint64(i))
				}
				output.Append(1+steps[at]%2, data)
				written += uint64(size)
			case 2:
				output.Acknowledge(uint64(size) * 7)
			case 3:
				base, end := output.Range()
				if cursor >= end {
					continue
				}
				stop := func() bool { return cursor >= end && never() }
				piece, more := output.Next(cursor, 1+size, stop)
				if !more || piece.Offset != cursor {
					t.Fatalf("asked at %d of %d..%d, got %+v", cursor, base, end, piece.Offset)
				}
				for i, b := range piece.Data {
					if b != byte(piece.Offset+uint64(i)) {
						t.Fatalf("byte %d is not the one that was written", i)
					}
				}
				cursor += piece.Gap + uint64(len(piece.Data))
			}
			base, end := output.Range()
			if end != written || base > end || end-base > minOutput {
				t.Fatalf("holds %d..%d of %d", base, end, written)
			}
		}
	})
}
