package egress

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	answerTTL   = 60
	maxQuestion = 4096
	// idleTCP is how long a TCP connection to the resolver may stay idle.
	idleTCP = 30 * time.Second
	// acceptPause is how long a listener waits after an error, e.g. because no file descriptor is left.
	acceptPause = 20 * time.Millisecond
)

// ServeDNS answers on the address (host:port) over UDP and TCP until the process ends. It returns once both listen.
func ServeDNS(address string, names *Names) error {
	packets, err := net.ListenPacket("udp4", address)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		_ = packets.Close()
		return err
	}
	go servePackets(packets, names)
	go func() {
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(acceptPause)
				continue
			}
			go serveTCP(conn, names)
		}
	}()
	return nil
}

func servePackets(packets net.PacketConn, names *Names) {
	buffer := make([]byte, maxQuestion)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause)
			continue
		}
		if reply := Answer(buffer[:n], names); reply != nil {
			_, _ = packets.WriteTo(reply, from)
		}
	}
}

func serveTCP(conn net.Conn, names *Names) {
	defer func() { _ = conn.Close() }()
	for {
		_ = conn.SetDeadline(time.Now().Add(idleTCP))
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, question); err != nil {
			return
		}
		reply := Answer(question, names)
		if reply == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

// Answer returns the reply to one DNS message; nil if it gets none. Every host name has one IPv4 address and no other
// record. Whether a name may be reached is decided by the host when a connection is opened.
func Answer(message []byte, names *Names) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil || header.Response {
		return nil
	}
	reply := dnsmessage.Header{
		ID: header.ID, Response: true, OpCode: header.OpCode, RecursionDesired: header.RecursionDesired,
		RecursionAvailable: true, Authoritative: true,
	}
	question, err := parser.Question()
	if err != nil || header.OpCode != 0 {
		reply.RCode = dnsmessage.RCodeNotImplemented
		return pack(reply, nil, nil)
	}
	addr, known := names.Address(question.Name.String())
	if !known {
		reply.RCode = dnsmessage.RCodeNameError
		return pack(reply, &question, nil)
	}
	if question.Type == dnsmessage.TypeA && question.Class == dnsmessage.ClassINET {
		return pack(reply, &question, &dnsmessage.AResource{A: addr.As4()})
	}
	return pack(reply, &question, nil)
}

func pack(header dnsmessage.Header, question *dnsmessage.Question, answer *dnsmessage.AResource) []byte {
	builder := dnsmessage.NewBuilder(nil, header)
	builder.EnableCompression()
	if question != nil {
		if builder.StartQuestions() != nil || builder.Question(*question) != nil {
			return nil
		}
		if answer != nil {
			resource := dnsmessage.ResourceHeader{Name: question.Name, Class: question.Class, TTL: answerTTL}
			if builder.StartAnswers() != nil || builder.AResource(resource, *answer) != nil {
				return nil
			}
		}
	}
	packed, err := builder.Finish()
	if err != nil {
		return nil
	}
	return packed
}
