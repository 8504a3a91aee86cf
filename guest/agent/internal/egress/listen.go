package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"kiln/guest-agent/internal/mux"
)

// Request is what the host is asked for a connection.
type Request struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Port int    `json:"port"`
}

// Dial opens a stream to the host; it fails where no host is attached.
type Dial func(request Request) (*mux.Stream, error)

// Listen accepts on every local address of the ports and passes each connection on by the name that its address has.
func Listen(ports []int, names *Names, dial Dial) error {
	for _, port := range ports {
		listener, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			return err
		}
		go accept(listener, port, names, dial)
	}
	return nil
}

func accept(listener net.Listener, port int, names *Names, dial Dial) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// A program that holds every file the agent may open must not end the way out for good.
			time.Sleep(acceptPause)
			continue
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			go forward(tcp, port, names, dial)
		}
	}
}

func forward(conn *net.TCPConn, port int, names *Names, dial Dial) {
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		refuse(conn)
		return
	}
	name, known := names.Name(local.Addr())
	if !known {
		refuse(conn)
		return
	}
	stream, err := dial(Request{Kind: "egress", Name: name, Port: port})
	if err != nil {
		refuse(conn)
		return
	}
	if err := stream.WaitOpened(); err != nil {
		stream.Release()
		refuse(conn)
		return
	}
	mux.Splice(stream, conn)
}

// refuse resets the connection: the kernel accepted it before anybody could ask the host.
func refuse(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
