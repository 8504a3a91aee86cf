// Package service answers the requests of a host, one session at a time.
package service

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"sync"
	"time"

	"kiln/guest-agent/internal/cgroup"
	"kiln/guest-agent/internal/egress"
	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/process"
	"kiln/guest-agent/internal/wire"
	"kiln/guest-agent/internal/workspace"
)

// Machine is what a VM and a plain process do differently.
type Machine interface {
	// Configure gives this guest the identity that the host chose.
	Configure(identity Identity) error
	// SetClock sets the wall clock, which stands still while the machine is paused.
	SetClock(wallClockMs int64) error
	// Settle kills every other process and writes everything to the disks.
	Settle()
	// PowerOff ends the machine; it does not return.
	PowerOff()
	// Groups returns where control groups of execs are made; nil if there can be none.
	Groups() *cgroup.Tree
}

// Identity is what the host gives a guest before any user code runs.
type Identity struct {
	Hostname    string `json:"hostname"`
	SeedHex     string `json:"seedHex"`
	MachineID   string `json:"machineId"`
	WallClockMs int64  `json:"wallClockMs"`
	// Cloned is set if this guest continues from the memory of another one, whose identity it must not keep.
	Cloned bool `json:"-"`
}

type hello struct {
	AgentVersion string   `json:"agentVersion"`
	Protocol     int      `json:"protocol"`
	BootID       string   `json:"bootId"`
	Features     []string `json:"features"`
}

// Agent serves hosts. Processes outlive the sessions in which they were started.
type Agent struct {
	machine  Machine
	registry *process.Registry
	keeper   *workspace.Keeper
	egress   []int
	hello    hello

	mu      sync.Mutex
	current *mux.Session
	// frozen is set once the memory of this machine is about to become a template.
	frozen bool
	// cloned is set in a guest that continues from a template and has no identity of its own yet.
	cloned bool
}

// New makes an agent. version is sent in the hello; egressPorts are the ports on which the agent itself listens.
func New(version string, machine Machine, registry *process.Registry, egressPorts []int) *Agent {
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	features := []string{"exec", "tar", "tcp", "egress", "usage", "clock", "quiesce", "workspace-save"}
	if registry.HasGroups() {
		features = append(features, "exec-cgroup", "exec-usage")
	}
	keeper := workspace.NewKeeper(workspace.DefaultLimits, time.Now)
	return &Agent{machine: machine, registry: registry, keeper: keeper, egress: egressPorts, hello: hello{
		AgentVersion: version,
		Protocol:     wire.Version,
		BootID:       hex.EncodeToString(id),
		Features:     features,
	}}
}

// DialHost opens a stream to the attached host.
func (a *Agent) DialHost(request egress.Request) (*mux.Stream, error) {
	a.mu.Lock()
	session := a.current
	a.mu.Unlock()
	if session == nil {
		return nil, mux.ErrGone
	}
	return session.OpenStream(request)
}

// Serve serves hosts over one connection until reading from it fails. A new attach ends the session before it.
func (a *Agent) Serve(in io.Reader, out io.Writer) error {
	reader := wire.NewReader(in)
	var writing sync.Mutex
	defer a.Detach()
	for {
		event, err := reader.Next()
		if err != nil {
			return err
		}
		switch event.Kind {
		case wire.Attached:
			if err := a.attach(event.Nonce, out, &writing); err != nil {
				return err
			}
		case wire.Framed:
			if session := a.session(); session != nil && !session.Handle(event.Frame) {
				a.part("a frame that the protocol does not allow")
				reader.Hunt()
			}
		case wire.Desynced:
			a.part("bytes that are no frame")
		}
	}
}

// thaw gives a guest that continues from a template a boot id of its own. It is derived from the host's nonce, the only
// thing that differs between clones at this point.
func (a *Agent) thaw(nonce [wire.NonceBytes]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.frozen {
		return
	}
	a.frozen, a.cloned = false, true
	id := sha256.Sum256(append([]byte(a.hello.BootID), nonce[:]...))
	a.hello.BootID = hex.EncodeToString(id[:16])
}

func (a *Agent) session() *mux.Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current
}

func (a *Agent) attach(nonce [wire.NonceBytes]byte, out io.Writer, writing *sync.Mutex) error {
	a.thaw(nonce)
	session, err := mux.NewSession(nonce, a.hello, a.open, a.registry.Acknowledge)
	if err != nil {
		return err
	}
	a.Detach()
	a.mu.Lock()
	a.current = session
	a.mu.Unlock()
	go func() {
		// The writer of the previous session may still be writing a frame. The host skips that frame.
		writing.Lock()
		defer writing.Unlock()
		if session.Drain(out) != nil {
			session.End()
		}
	}()
	return nil
}

// Detach ends the session of the attached host, if there is one. Processes run on.
func (a *Agent) Detach() {
	a.mu.Lock()
	session := a.current
	a.current = nil
	a.mu.Unlock()
	if session != nil {
		session.End()
	}
}

func (a *Agent) part(reason string) {
	a.mu.Lock()
	session := a.current
	a.current = nil
	a.mu.Unlock()
	if session != nil {
		session.Goodbye(mux.Fail("AGENT_PROTOCOL", reason))
	}
}

// open handles one stream that the host opened.
func (a *Agent) open(st *mux.Stream, payload []byte) {
	var request request
	if err := json.Unmarshal(payload, &request); err != nil {
		st.Abort(mux.Fail("AGENT_PROTOCOL", "request is not JSON"))
		return
	}
	handle, known := handlers[request.Kind]
	if !known {
		st.Abort(mux.Fail("UNSUPPORTED", "unknown request "+request.Kind))
		return
	}
	if err := handle(a, st, request); err != nil {
		st.Abort(err)
	}
}
