package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"kiln/guest-agent/internal/mux"
)

// Request asks the host for a connection.
type Request struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Port int    `json:"port"`
}

// Dial opens a stream to the host. It fails if no host is attached.
type Dial func(request Request) (*mux.Stream, error)

// Listen accepts connections to these ports on every local address. It forwards each to the host with the name to which
// its address belongs.
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
			// The agent may have no file descriptor left, because a program holds too many connections. Later it has.
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

// refuse resets a connection. The kernel accepted it before the agent could ask the host.
func refuse(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
