package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/cgroup"
	"kiln/guest-agent/internal/mux"
)

const (
	// Stdout and Stderr are the stream numbers of output.
	Stdout byte = 1
	Stderr byte = 2

	defaultBuffer = 1 << 20
	maxBuffer     = 64 << 20
	// defaultDrain is how long output of a process's children is still read after it has exited.
	defaultDrain = 500 * time.Millisecond
	defaultCwd   = "/workspace"
	maxGrace     = 60 * time.Second
	// Leftovers are killed up to killTries times, killWait apart. The kernel cannot kill a process that waits for a
	// file system that does not answer; the exit must not wait for it for ever.
	killWait  = time.Second
	killTries = 10
)

// Spec is a host's request for a process.
type Spec struct {
	Argv        []string          `json:"argv"`
	Env         map[string]string `json:"env"`
	Cwd         string            `json:"cwd"`
	UID         *uint32           `json:"uid"`
	GID         *uint32           `json:"gid"`
	TimeoutMs   int64             `json:"timeoutMs"`
	DrainMs     int64             `json:"drainMs"`
	Output      string            `json:"output"`
	BufferBytes int               `json:"bufferBytes"`
	// KillLeftoversAfterMs asks for a control group: what still runs in it this long after the exit is killed.
	KillLeftoversAfterMs *int64 `json:"killLeftoversAfterMs"`
}

// Exit is how a process ended.
type Exit struct {
	Code     *int    `json:"code"`
	Signal   *string `json:"signal"`
	TimedOut bool    `json:"timedOut"`
}

// Exec is one process that a host started.
type Exec struct {
	Pid    int
	Output *Output

	reaper *Reaper
	// group contains the process and everything that it starts; nil if the host did not ask for one.
	group    *cgroup.Group
	mu       sync.Mutex
	exit     Exit
	timedOut bool
	left     bool
	// lastUsage is the total use of the group, set when the group is removed.
	lastUsage *cgroup.Usage
	ended     chan struct{}
}

// Ended is closed when the exit is known, all output is in the buffer and no leftover runs.
func (e *Exec) Ended() <-chan struct{} { return e.ended }

// Exit is valid once Ended is closed.
func (e *Exec) Exit() Exit {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.exit
}

func (e *Exec) hasEnded() bool {
	select {
	case <-e.ended:
		return true
	default:
		return false
	}
}

// signal sends a signal to the process group, or SIGKILL to the whole control group if there is one.
func (e *Exec) signal(sig syscall.Signal) error {
	if e.Pid == 0 {
		return nil
	}
	if e.group != nil && sig == syscall.SIGKILL {
		if err := e.group.Kill(); err != nil {
			return mux.Fail("INTERNAL", "kill: "+err.Error())
		}
		return nil
	}
	err := e.reaper.KillGroup(e.Pid, sig)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return mux.Fail("INTERNAL", "kill: "+err.Error())
	}
	return nil
}

// check returns an error if no process can be started from this request.
func (spec Spec) check() error {
	if len(spec.Argv) == 0 || spec.Argv[0] == "" {
		return mux.Fail("SPEC_INVALID", "argv is empty")
	}
	if spec.Output != "ring" && spec.Output != "wait" {
		return mux.Fail("SPEC_INVALID", "output is ring or wait")
	}
	if grace := spec.KillLeftoversAfterMs; grace != nil && (*grace < 0 || *grace > maxGrace.Milliseconds()) {
		return mux.Fail("SPEC_INVALID", fmt.Sprintf("killLeftoversAfterMs is 0 to %d", maxGrace.Milliseconds()))
	}
	return nil
}

func start(reaper *Reaper, env []string, groups *cgroup.Tree, spec Spec, stdin []byte) (*Exec, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	limit := spec.BufferBytes
	if limit <= 0 {
		limit = defaultBuffer
	}
	exec := &Exec{
		Output: NewOutput(min(limit, maxBuffer), spec.Output == "wait"),
		reaper: reaper,
		ended:  make(chan struct{}),
	}
	full := environment(env, spec.Env)
	path, err := lookPath(spec.Argv[0], full)
	if err != nil {
		exec.neverStarted(spec.Argv[0], err)
		return exec, nil
	}
	if spec.KillLeftoversAfterMs != nil {
		if groups == nil {
			return nil, mux.Fail("UNSUPPORTED", "this guest has no control groups")
		}
		if exec.group, err = groups.Make(); err != nil {
			return nil, err
		}
	}
	if err := exec.run(path, full, spec, stdin); err != nil {
		if exec.group != nil {
			exec.removeGroup()
		}
		exec.neverStarted(spec.Argv[0], err)
	}
	return exec, nil
}

// neverStarted ends a process that could not be run, as a shell reports it: a message on stderr and code 127 or 126.
func (e *Exec) neverStarted(name string, err error) {
	code := 126
	if errors.Is(err, fs.ErrNotExist) {
		code = 127
	}
	e.exit = Exit{Code: &code}
	go func() {
		e.Output.Append(Stderr, fmt.Appendf(nil, "kiln-agent: cannot run %s: %v\n", name, err))
		e.Output.Finish()
		close(e.ended)
	}()
}

func (e *Exec) run(path string, env []string, spec Spec, stdin []byte) error {
	pipes, err := openPipes(len(stdin) > 0)
	if err != nil {
		return err
	}
	defer pipes.closeChildEnds()
	attr := &syscall.ProcAttr{Dir: spec.Cwd, Env: env, Files: pipes.childFiles(), Sys: &syscall.SysProcAttr{Setsid: true}}
	if attr.Dir == "" {
		attr.Dir = defaultCwd
	}
	if info, err := os.Stat(attr.Dir); err != nil || !info.IsDir() {
		pipes.closeOurEnds()
		return fmt.Errorf("working directory %s is missing", attr.Dir)
	}
	if spec.UID != nil || spec.GID != nil {
		attr.Sys.Credential = credential(spec)
	}
	if e.group != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, e.group.Descriptor()
	}
	pid, status, err := e.reaper.Start(path, spec.Argv, attr)
	if err != nil {
		pipes.closeOurEnds()
		return err
	}
	e.Pid = pid
	if pipes.stdin != nil {
		go func() {
			_, _ = pipes.stdin.Write(stdin)
			_ = pipes.stdin.Close()
		}()
	}
	go e.follow(status, pipes, spec)
	return nil
}

func credential(spec Spec) *syscall.Credential {
	wanted := &syscall.Credential{}
	if spec.UID != nil {
		wanted.Uid = *spec.UID
	}
	if spec.GID != nil {
		wanted.Gid = *spec.GID
	}
	allowed, err := os.ReadFile("/proc/self/setgroups")
	wanted.NoSetGroups = err == nil && strings.TrimSpace(string(allowed)) == "deny"
	return wanted
}

// follow reads the output and waits for the exit; it ends the exec when both are complete.
func (e *Exec) follow(status <-chan syscall.WaitStatus, pipes *pipes, spec Spec) {
	var readers sync.WaitGroup
	out := newPump(pipes.stdout, Stdout, e.Output)
	bad := newPump(pipes.stderr, Stderr, e.Output)
	for _, p := range []*pump{out, bad} {
		readers.Go(p.run)
	}
	var alarm *time.Timer
	if spec.TimeoutMs > 0 {
		alarm = time.AfterFunc(time.Duration(spec.TimeoutMs)*time.Millisecond, e.expire)
	}
	result := <-status
	e.mu.Lock()
	e.left = true
	e.exit = exitOf(result, e.timedOut)
	e.mu.Unlock()
	if alarm != nil {
		alarm.Stop()
	}
	if e.group != nil {
		e.endLeftovers(time.Duration(*spec.KillLeftoversAfterMs) * time.Millisecond)
	}
	drain := defaultDrain
	if spec.DrainMs > 0 {
		drain = time.Duration(spec.DrainMs) * time.Millisecond
	}
	out.stopAfter(drain)
	bad.stopAfter(drain)
	readers.Wait()
	e.Output.Finish()
	close(e.ended)
}

// endLeftovers waits until nothing of the exec runs any more, and kills what still runs after the grace.
func (e *Exec) endLeftovers(grace time.Duration) {
	empty := e.group.WaitEmpty(grace)
	for try := 0; !empty && try < killTries; try++ {
		_ = e.group.Kill()
		empty = e.group.WaitEmpty(killWait)
	}
	e.removeGroup()
}

func (e *Exec) removeGroup() {
	usage, _ := e.group.Usage()
	e.mu.Lock()
	e.lastUsage = &usage
	e.mu.Unlock()
	e.group.Remove()
}

// Usage returns what the control group of the exec uses; once the exec has ended, what it used in total.
func (e *Exec) Usage() (cgroup.Usage, error) {
	if e.group == nil {
		return cgroup.Usage{}, mux.Fail("UNSUPPORTED", "this exec was started without a control group")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lastUsage != nil {
		return *e.lastUsage, nil
	}
	usage, err := e.group.Usage()
	if err != nil {
		return usage, mux.Fail("INTERNAL", "usage: "+err.Error())
	}
	return usage, nil
}

func (e *Exec) expire() {
	e.mu.Lock()
	e.timedOut = !e.left
	late := e.left
	e.mu.Unlock()
	if !late {
		_ = e.signal(syscall.SIGKILL)
	}
}

func exitOf(status syscall.WaitStatus, timedOut bool) Exit {
	if status.Signaled() {
		name := signalName(status.Signal())
		return Exit{Signal: &name, TimedOut: timedOut}
	}
	code := status.ExitStatus()
	return Exit{Code: &code, TimedOut: timedOut}
}

// signalName returns SIG and the number for a real-time signal, because its name differs between systems.
func signalName(signal syscall.Signal) string {
	if name := unix.SignalName(signal); name != "" {
		return name
	}
	return fmt.Sprintf("SIG%d", int(signal))
}

func environment(defaults []string, wanted map[string]string) []string {
	var env []string
	for _, entry := range defaults {
		if name, _, _ := strings.Cut(entry, "="); !has(wanted, name) {
			env = append(env, entry)
		}
	}
	for name, value := range wanted {
		env = append(env, name+"="+value)
	}
	return env
}

func has(set map[string]string, name string) bool {
	_, found := set[name]
	return found
}

func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, entry := range env {
		list, isPath := strings.CutPrefix(entry, "PATH=")
		if !isPath {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			candidate := filepath.Join(dir, name)
			if info, err := os.Stat(candidate); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
				return candidate, nil
			}
		}
	}
	return "", fs.ErrNotExist
}
