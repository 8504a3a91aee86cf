package process

import (
	"fmt"
	"sync"
	"syscall"

	"kiln/guest-agent/internal/mux"
)

const (
	maxLive     = 1024
	maxFinished = 1024
)

// Registry knows every process that a host started, also the ended ones, by the id that the host chose.
type Registry struct {
	reaper *Reaper
	env    []string
	mu     sync.Mutex
	byID   map[string]*Exec
	order  []string
}

// NewRegistry makes an empty registry; env is the default environment of processes.
func NewRegistry(reaper *Reaper, env []string) *Registry {
	return &Registry{reaper: reaper, env: env, byID: map[string]*Exec{}}
}

// Find returns the process with an id, or nil.
func (g *Registry) Find(id string) *Exec {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byID[id]
}

// Start runs a command once: a known id gives the process that has it.
func (g *Registry) Start(id string, spec Spec, stdin []byte) (*Exec, bool, error) {
	if id == "" || len(id) > 256 {
		return nil, false, mux.Fail("SPEC_INVALID", "an exec id has 1 to 256 bytes")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if known := g.byID[id]; known != nil {
		return known, true, nil
	}
	if err := g.makeRoom(); err != nil {
		return nil, false, err
	}
	exec, err := start(g.reaper, g.env, spec, stdin)
	if err != nil {
		return nil, false, err
	}
	g.byID[id] = exec
	g.order = append(g.order, id)
	return exec, false, nil
}

// makeRoom forgets the oldest ended processes where too many are kept, those first whose output the host has.
func (g *Registry) makeRoom() error {
	var ended, heard []string
	for _, id := range g.order {
		if exec := g.byID[id]; exec.hasEnded() {
			ended = append(ended, id)
			if base, end := exec.Output.Range(); base == end {
				heard = append(heard, id)
			}
		}
	}
	if len(g.order)-len(ended) >= maxLive {
		return mux.Fail("QUEUE_FULL", fmt.Sprintf("%d processes are running already", maxLive))
	}
	if len(ended) < maxFinished {
		return nil
	}
	victim := ended[0]
	if len(heard) > 0 {
		victim = heard[0]
	}
	g.byID[victim].Output.Drop()
	delete(g.byID, victim)
	for i, id := range g.order {
		if id == victim {
			g.order = append(g.order[:i], g.order[i+1:]...)
			break
		}
	}
	return nil
}

// Signal sends a signal to the process group of an id.
func (g *Registry) Signal(id string, sig syscall.Signal) error {
	exec := g.Find(id)
	if exec == nil {
		return mux.Fail("NOT_FOUND", "no such exec")
	}
	return exec.signal(sig)
}
