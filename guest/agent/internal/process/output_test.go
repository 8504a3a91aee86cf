package process

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func never() bool { return false }

// drain reads everything from cursor on, with a dot for each byte of a gap.
func drain(o *Output, cursor uint64) []byte {
	var seen []byte
	for {
		piece, more := o.Next(cursor, 1000, never)
		if !more {
			return seen
		}
		seen = append(seen, piece.Data...)
		seen = append(seen, bytes.Repeat([]byte{'.'}, int(piece.Gap))...)
		cursor += piece.Gap + uint64(len(piece.Data))
	}
}

func TestRingKeepsTheEndAndMarksTheGap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		o := NewOutput(minOutput, false)
		var all []byte
		for len(all) < 4*minOutput {
			part := bytes.Repeat([]byte{byte('a' + random.IntN(26))}, 1+random.IntN(5000))
			all = append(all, part...)
			o.Append(1+byte(random.IntN(2)), part)
			if random.IntN(10) == 0 {
				base, end := o.Range()
				o.Acknowledge(base + (end-base)/2)
			}
		}
		o.Finish()
		base, end := o.Range()
		if end != uint64(len(all)) || o.cost > o.limit || base == 0 {
			t.Fatalf("kept %d to %d of %d at a cost of %d", base, end, len(all), o.cost)
		}
		want := append(bytes.Repeat([]byte{'.'}, int(base)), all[base:]...)
		if !bytes.Equal(drain(o, 0), want) {
			t.Fatal("what was kept is not the end of what was written")
		}
	}
}

func TestTinyWritesAreBounded(t *testing.T) {
	o := NewOutput(minOutput, false)
	for i := range 200_000 {
		o.Append(1+byte(i%2), []byte{'x'})
	}
	if len(o.segments) > minOutput/segmentCost {
		t.Fatalf("%d segments are kept", len(o.segments))
	}
}

func TestWaitBlocksUntilAcknowledged(t *testing.T) {
	o := NewOutput(minOutput, true)
	want := make([]byte, 10*minOutput)
	for i := range want {
		want[i] = byte(i * 7)
	}
	go func() {
		o.Append(Stdout, want)
		o.Finish()
	}()
	var seen []byte
	for {
		piece, more := o.Next(uint64(len(seen)), 3000, never)
		if !more {
			break
		}
		if piece.Gap != 0 {
			t.Fatalf("a gap of %d", piece.Gap)
		}
		seen = append(seen, piece.Data...)
		if _, end := o.Range(); end > uint64(len(seen)+minOutput) {
			t.Fatalf("%d bytes are kept", end)
		}
		o.Acknowledge(uint64(len(seen)))
	}
	if !bytes.Equal(seen, want) {
		t.Fatal("bytes were lost or changed")
	}
}

func TestAcknowledgeBeyondTheEndForgetsOnlyWhatIsThere(t *testing.T) {
	o := NewOutput(minOutput, true)
	o.Append(Stdout, []byte("abc"))
	o.Acknowledge(1000)
	o.Append(Stderr, []byte("def"))
	o.Finish()
	if got := drain(o, 3); string(got) != "def" {
		t.Fatalf("got %q", got)
	}
}

func TestDropUnblocksTheWriter(t *testing.T) {
	o := NewOutput(minOutput, true)
	done := make(chan struct{})
	go func() {
		o.Append(Stdout, make([]byte, 10*minOutput))
		close(done)
	}()
	o.Drop()
	<-done
}
