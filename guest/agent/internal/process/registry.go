package process

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"syscall"

	"kiln/guest-agent/internal/cgroup"
	"kiln/guest-agent/internal/mux"
)

const (
	maxLive     = 1024
	maxFinished = 1024
	maxID       = 256
)

// Registry holds every process that a host started, running or ended, by the id that the host chose.
type Registry struct {
	reaper *Reaper
	env    []string
	groups *cgroup.Tree
	// starting is held while a process is started; mu only while the table is read or changed.
	starting sync.Mutex
	mu       sync.Mutex
	byID     map[string]*Exec
	order    []string
}

// NewRegistry makes an empty registry. env is the default environment of processes. Their control groups are made in
// groups, which is nil if there can be none.
func NewRegistry(reaper *Reaper, env []string, groups *cgroup.Tree) *Registry {
	return &Registry{reaper: reaper, env: env, groups: groups, byID: map[string]*Exec{}}
}

// HasGroups returns whether processes can have control groups of their own.
func (g *Registry) HasGroups() bool { return g.groups != nil }

// Find returns the process with this id, or nil.
func (g *Registry) Find(id string) *Exec {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byID[id]
}

// All returns every process, in the order in which they were started.
func (g *Registry) All() iter.Seq2[string, *Exec] {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids := slices.Clone(g.order)
	known := maps.Clone(g.byID)
	return func(yield func(string, *Exec) bool) {
		for _, id := range ids {
			if !yield(id, known[id]) {
				return
			}
		}
	}
}

// Acknowledge forgets the output of a process below an offset. It does nothing if the id is unknown.
func (g *Registry) Acknowledge(id string, offset uint64) {
	if exec := g.Find(id); exec != nil {
		exec.Output.Acknowledge(offset)
	}
}

// Start runs a command. If the id is known already, it returns the process that has it instead.
func (g *Registry) Start(id string, spec Spec, stdin []byte) (exec *Exec, existed bool, err error) {
	if id == "" || len(id) > maxID {
		return nil, false, mux.Fail("SPEC_INVALID", fmt.Sprintf("an exec id has 1 to %d bytes", maxID))
	}
	g.starting.Lock()
	defer g.starting.Unlock()
	if known := g.Find(id); known != nil {
		return known, true, nil
	}
	if err := g.makeRoom(); err != nil {
		return nil, false, err
	}
	exec, err = start(g.reaper, g.env, g.groups, spec, stdin)
	if err != nil {
		return nil, false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.byID[id] = exec
	g.order = append(g.order, id)
	return exec, false, nil
}

// makeRoom forgets the oldest ended process if too many are kept. It prefers one whose whole output the host has
// acknowledged.
func (g *Registry) makeRoom() error {
	g.mu.Lock()
	defer g.mu.Unlock()
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
	g.order = slices.DeleteFunc(g.order, func(id string) bool { return id == victim })
	return nil
}

// ForgetEnded forgets every process, or fails with CONFLICT while one still runs.
func (g *Registry) ForgetEnded() error {
	g.starting.Lock()
	defer g.starting.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.checkIdle(); err != nil {
		return err
	}
	for _, exec := range g.byID {
		exec.Output.Drop()
	}
	g.byID, g.order = map[string]*Exec{}, nil
	return nil
}

// CheckIdle fails with CONFLICT while a process runs.
func (g *Registry) CheckIdle() error {
	g.starting.Lock()
	defer g.starting.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.checkIdle()
}

// checkIdle is CheckIdle for callers that hold mu.
func (g *Registry) checkIdle() error {
	for id, exec := range g.byID {
		if !exec.hasEnded() {
			return mux.Fail("CONFLICT", "process "+id+" still runs")
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
