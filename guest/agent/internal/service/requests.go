package service

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/archive"
	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/wire"
)

// request is the payload of an open frame. Which fields are used depends on the kind.
type request struct {
	Kind      string `json:"kind"`
	ExecID    string `json:"execId"`
	From      uint64 `json:"from"`
	BodyBytes int    `json:"bodyBytes"`
	Signal    string `json:"signal"`
	Path      string `json:"path"`
	Port      int    `json:"port"`
	saveFields
	Identity
}

type none struct{}

var handlers map[string]func(a *Agent, st *mux.Stream, request request) error

func init() {
	handlers = map[string]func(a *Agent, st *mux.Stream, request request) error{
		"configure":  (*Agent).configure,
		"exec":       (*Agent).exec,
		"attach":     (*Agent).attachExec,
		"list":       (*Agent).list,
		"signal":     (*Agent).signal,
		"tar-in":     (*Agent).tarIn,
		"tar-out":    (*Agent).tarOut,
		"save":       (*Agent).save,
		"restore":    (*Agent).restore,
		"tcp":        (*Agent).tcp,
		"usage":      (*Agent).usage,
		"exec-usage": (*Agent).execUsage,
		"clock":      (*Agent).clock,
		"quiesce":    (*Agent).quiesce,
		"shutdown":   (*Agent).shutdown,
	}
}

const maxBody = 1 << 20

// body reads the JSON that follows a request whose parameters may not fit in one frame.
func body(st *mux.Stream, size int, into any) error {
	if size < 0 || size > maxBody {
		return mux.Fail("SPEC_INVALID", "the request is larger than 1 MiB")
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(st, raw); err != nil {
		return mux.Fail("AGENT_PROTOCOL", "the request ended early")
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return mux.Fail("SPEC_INVALID", "the request is not understood: "+err.Error())
	}
	return nil
}

func (a *Agent) configure(st *mux.Stream, request request) error {
	a.mu.Lock()
	request.Cloned = a.cloned
	a.mu.Unlock()
	if err := a.machine.Configure(request.Identity); err != nil {
		return err
	}
	a.mu.Lock()
	a.cloned = false
	a.mu.Unlock()
	return st.Done(none{})
}

func (a *Agent) clock(st *mux.Stream, request request) error {
	if err := a.machine.SetClock(request.WallClockMs); err != nil {
		return err
	}
	return st.Done(none{})
}

// quiesce prepares the guest to be frozen as a template: no process of a host may run, ended ones are forgotten, and
// everything is written to the disks. The next host that attaches is assumed to have a clone.
func (a *Agent) quiesce(st *mux.Stream, _ request) error {
	if err := a.registry.ForgetEnded(); err != nil {
		return err
	}
	unix.Sync()
	// Memory that was used only during the boot would otherwise be in every clone.
	debug.FreeOSMemory()
	a.mu.Lock()
	a.frozen = true
	a.mu.Unlock()
	return st.Done(none{})
}

func (a *Agent) signal(st *mux.Stream, request request) error {
	number := unix.SignalNum(request.Signal)
	if number == 0 {
		return mux.Fail("SPEC_INVALID", "unknown signal "+request.Signal)
	}
	if err := a.registry.Signal(request.ExecID, number); err != nil {
		return err
	}
	return st.Done(none{})
}

func (a *Agent) tarIn(st *mux.Stream, request request) error {
	if request.Path == "" || request.Path[0] != '/' {
		return mux.Fail("SPEC_INVALID", "the target of an archive is an absolute path")
	}
	n, err := archive.Unpack(request.Path, st, archive.DefaultLimits)
	if err != nil {
		return err
	}
	return st.Done(map[string]int64{"bytes": n})
}

func (a *Agent) tarOut(st *mux.Stream, request request) error {
	var list struct {
		Paths   []string `json:"paths"`
		Exclude []string `json:"exclude"`
	}
	if err := body(st, request.BodyBytes, &list); err != nil {
		return err
	}
	if err := archive.Pack(request.Path, list.Paths, list.Exclude, st); err != nil {
		return err
	}
	return st.Done(none{})
}

func (a *Agent) tcp(st *mux.Stream, request request) error {
	if request.Port < 1 || request.Port > 65535 || slices.Contains(a.egress, request.Port) {
		return mux.Fail("NOT_FOUND", fmt.Sprintf("port %d is not a service port", request.Port))
	}
	conn, err := dialLoopback(strconv.Itoa(request.Port))
	if err != nil {
		return mux.Fail("NOT_FOUND", fmt.Sprintf("nobody listens on port %d", request.Port))
	}
	if err := st.SendJSON(wire.Opened, none{}); err != nil {
		_ = conn.Close()
		return err
	}
	mux.Splice(st, conn)
	return nil
}

func dialLoopback(port string) (*net.TCPConn, error) {
	var last error
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
			return tcp, nil
		}
		last = err
	}
	return nil, last
}

func (a *Agent) shutdown(st *mux.Stream, _ request) error {
	a.machine.Settle()
	session := a.session()
	if err := st.Done(none{}); err == nil && session != nil {
		session.Flush()
	}
	a.machine.PowerOff()
	return nil
}
