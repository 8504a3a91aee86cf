package mux

import (
	"errors"
	"io"
	"net"

	"kiln/guest-agent/internal/wire"
)

// Splice moves bytes between a stream and a connection until both directions have ended or one side failed. An end is
// passed on as an end, a reset as a reset.
func Splice(st *Stream, conn *net.TCPConn) {
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		if err := toConn(st, conn); err != nil {
			_ = conn.SetLinger(0)
			_ = conn.Close()
		}
	}()
	if err := toStream(st, conn); err != nil {
		st.Abort(Fail("ECONNRESET", err.Error()))
	}
	<-finished
	_ = conn.Close()
	st.Release()
}

func toConn(st *Stream, conn *net.TCPConn) error {
	buffer := make([]byte, wire.MaxFrame)
	for {
		n, err := st.Read(buffer)
		if errors.Is(err, io.EOF) {
			return conn.CloseWrite()
		}
		if err != nil {
			return err
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			st.Abort(Fail("ECONNRESET", err.Error()))
			return err
		}
	}
}

func toStream(st *Stream, conn *net.TCPConn) error {
	buffer := make([]byte, wire.MaxPayload)
	for {
		n, err := conn.Read(buffer)
		if n > 0 {
			if _, err := st.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return st.CloseWrite()
		}
		if err != nil {
			return err
		}
	}
}
