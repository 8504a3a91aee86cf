package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// testReaper is the only reaper: a second one would take the exits of the first one's processes.
var testReaper = NewReaper()

var testEnv = []string{"PATH=/usr/bin:/bin", "HOME=/", "KEEP=old"}

func run(t *testing.T, registry *Registry, id string, spec Spec, stdin []byte) (string, Exit) {
	t.Helper()
	spec.Output, spec.Cwd = "wait", "/"
	exec, _, err := registry.Start(id, spec, stdin)
	if err != nil {
		t.Fatal(err)
	}
	out := drain(exec.Output, 0)
	<-exec.Ended()
	return string(out), exec.Exit()
}

func TestExitsAndOutput(t *testing.T) {
	registry := NewRegistry(testReaper, testEnv, nil)
	out, exit := run(t, registry, "a", Spec{Argv: []string{"sh", "-c", "echo $KEEP $HOME; cat; exit 3"}, Env: map[string]string{"KEEP": "new"}}, []byte("in"))
	if out != "new /\nin" || exit.Code == nil || *exit.Code != 3 {
		t.Fatalf("got %q %+v", out, exit)
	}
	_, exit = run(t, registry, "b", Spec{Argv: []string{"sh", "-c", "kill -9 $$"}}, nil)
	if exit.Signal == nil || *exit.Signal != "SIGKILL" || exit.TimedOut {
		t.Fatalf("got %+v", exit)
	}
	_, exit = run(t, registry, "c", Spec{Argv: []string{"sleep", "1000"}, TimeoutMs: 50}, nil)
	if exit.Signal == nil || !exit.TimedOut {
		t.Fatalf("got %+v", exit)
	}
	out, exit = run(t, registry, "d", Spec{Argv: []string{"no-such-program"}}, nil)
	if exit.Code == nil || *exit.Code != 127 || out == "" {
		t.Fatalf("got %q %+v", out, exit)
	}
}

func TestARealTimeSignalIsNamedByItsNumber(t *testing.T) {
	registry := NewRegistry(testReaper, testEnv, nil)
	for number, name := range map[int]string{15: "SIGTERM", 32: "SIG32", 34: "SIG34", 64: "SIG64"} {
		kill := fmt.Sprintf("kill -%d $$; exec sleep 1000", number)
		_, exit := run(t, registry, name, Spec{Argv: []string{"sh", "-c", kill}}, nil)
		if exit.Signal == nil || *exit.Signal != name || exit.Code != nil {
			t.Errorf("signal %d: %+v", number, exit)
		}
	}
}

func TestAnIdRunsOnce(t *testing.T) {
	registry := NewRegistry(testReaper, testEnv, nil)
	mark := filepath.Join(t.TempDir(), "mark")
	for range 5 {
		run(t, registry, "same", Spec{Argv: []string{"sh", "-c", "echo x >> " + mark}}, nil)
	}
	if text, err := os.ReadFile(mark); err != nil || string(text) != "x\n" {
		t.Fatalf("%q %v", text, err)
	}
}

func TestEndedProcessesAreForgottenAtLast(t *testing.T) {
	registry := NewRegistry(testReaper, testEnv, nil)
	ended := make(chan struct{})
	close(ended)
	for i := range maxFinished {
		id := string(rune('a'+i%26)) + string(rune(0x100+i))
		registry.byID[id] = &Exec{Output: NewOutput(0, false), ended: ended}
		registry.order = append(registry.order, id)
	}
	first := registry.order[0]
	registry.byID[first].Output.Append(Stdout, []byte("unheard"))
	second := registry.order[1]
	run(t, registry, "new", Spec{Argv: []string{"true"}}, nil)
	if registry.Find(first) == nil || registry.Find(second) != nil || registry.Find("new") == nil {
		t.Fatal("the wrong process was forgotten")
	}
}

func TestSignalsReachTheGroup(t *testing.T) {
	registry := NewRegistry(testReaper, testEnv, nil)
	spec := Spec{Argv: []string{"sh", "-c", "sleep 1000 & wait"}, Output: "wait", Cwd: "/"}
	exec, _, err := registry.Start("group", spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := registry.Signal("group", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The output ends only when the child, which holds the pipe, is gone too.
	drain(exec.Output, 0)
	<-exec.Ended()
	if err := registry.Signal("unknown", syscall.SIGKILL); err == nil {
		t.Fatal("an unknown id was signalled")
	}
}

func TestBadSpecsAreRefused(t *testing.T) {
	registry := NewRegistry(testReaper, testEnv, nil)
	for name, spec := range map[string]Spec{
		"no argv":          {Output: "wait"},
		"no mode":          {Argv: []string{"true"}},
		"a negative grace": {Argv: []string{"true"}, Output: "wait", KillLeftoversAfterMs: grace(-1)},
		"an endless grace": {Argv: []string{"true"}, Output: "wait", KillLeftoversAfterMs: grace(60_001)},
	} {
		if _, _, err := registry.Start("x", spec, nil); err == nil || !strings.HasPrefix(err.Error(), "SPEC_INVALID") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := registry.Start("", Spec{Argv: []string{"true"}, Output: "wait"}, nil); err == nil {
		t.Error("an empty id was accepted")
	}
}
