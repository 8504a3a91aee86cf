package service

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync/atomic"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/process"
	"kiln/guest-agent/internal/wire"
)

const (
	maxStdin = 8 << 20
	// pieceHeader is the size of what comes before the bytes in an output frame: stream number and offset.
	pieceHeader = 9
)

// exec starts a process once the whole request has arrived: if the host is lost in the middle of stdin, no process runs
// with half of its input.
func (a *Agent) exec(st *mux.Stream, request request) error {
	var spec process.Spec
	if err := body(st, request.BodyBytes, &spec); err != nil {
		return err
	}
	stdin, err := io.ReadAll(io.LimitReader(st, maxStdin+1))
	if err != nil {
		return err
	}
	if len(stdin) > maxStdin {
		return mux.Fail("PAYLOAD_TOO_LARGE", fmt.Sprintf("stdin is larger than %d bytes", maxStdin))
	}
	exec, existed, err := a.registry.Start(request.ExecID, spec, stdin)
	if err != nil {
		return err
	}
	return follow(st, exec, existed, request.From)
}

func (a *Agent) attachExec(st *mux.Stream, request request) error {
	exec := a.registry.Find(request.ExecID)
	if exec == nil {
		return mux.Fail("NOT_FOUND", "no such exec")
	}
	return follow(st, exec, true, request.From)
}

// follow sends the output from an offset on, then the exit, which ends the stream.
func follow(st *mux.Stream, exec *process.Exec, existed bool, from uint64) error {
	if _, end := exec.Output.Range(); from > end {
		return mux.Fail("CONFLICT", fmt.Sprintf("output ends at %d, before the wanted offset %d", end, from))
	}
	var stopped atomic.Bool
	go func() {
		<-st.Gone()
		stopped.Store(true)
		exec.Output.Wake()
	}()
	if err := st.SendJSON(wire.Opened, map[string]any{"pid": exec.Pid, "existed": existed}); err != nil {
		return err
	}
	cursor := from
	for {
		piece, more := exec.Output.Next(cursor, wire.MaxPayload-pieceHeader, stopped.Load)
		if !more {
			break
		}
		if err := offer(st, piece); err != nil {
			return err
		}
		cursor += piece.Gap + uint64(len(piece.Data))
	}
	if stopped.Load() {
		return nil
	}
	<-exec.Ended()
	err := st.SendJSON(wire.Exit, exec.Exit())
	st.Release()
	return err
}

type summary struct {
	ExecID string        `json:"execId"`
	Pid    int           `json:"pid"`
	Exit   *process.Exit `json:"exit,omitempty"`
}

// list sends all known execs, as JSON in data frames because they may not fit in one frame.
func (a *Agent) list(st *mux.Stream, _ request) error {
	all := []summary{}
	for id, exec := range a.registry.All() {
		entry := summary{ExecID: id, Pid: exec.Pid}
		select {
		case <-exec.Ended():
			exit := exec.Exit()
			entry.Exit = &exit
		default:
		}
		all = append(all, entry)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if _, err := st.Write(text); err != nil {
		return err
	}
	return st.Done(none{})
}

// execUsage answers with what the control group of an exec uses.
func (a *Agent) execUsage(st *mux.Stream, request request) error {
	exec := a.registry.Find(request.ExecID)
	if exec == nil {
		return mux.Fail("NOT_FOUND", "no such exec")
	}
	usage, err := exec.Usage()
	if err != nil {
		return err
	}
	return st.Done(usage)
}

func offer(st *mux.Stream, piece process.Piece) error {
	if piece.Gap > 0 {
		header := binary.BigEndian.AppendUint64(nil, piece.Offset)
		return st.SendCounted(wire.Gap, binary.BigEndian.AppendUint64(header, piece.Gap))
	}
	header := binary.BigEndian.AppendUint64([]byte{piece.Stream}, piece.Offset)
	return st.SendCounted(wire.Output, header, piece.Data)
}
