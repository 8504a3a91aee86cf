package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kiln/guest-agent/internal/cgroup/cgrouptest"
)

// grace makes a value of KillLeftoversAfterMs.
func grace(ms int64) *int64 { return &ms }

// alive returns whether a process of this machine runs.
func alive(pid string) bool {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(text), ") Z ")
}

// daemon is a script that starts a process outside the session, the process group and the output of its exec. It prints
// the pid.
const daemon = `(setsid sh -c 'sleep 1000 >/dev/null 2>&1 </dev/null & echo $!')`

func TestADaemonIsKilledAfterTheGrace(t *testing.T) {
	tree, folder := cgrouptest.Tree(t)
	registry := NewRegistry(testReaper, testEnv, tree)
	out, exit := run(t, registry, "a", Spec{Argv: []string{"sh", "-c", daemon + "; exit 3"}, KillLeftoversAfterMs: grace(20)}, nil)
	if exit.Code == nil || *exit.Code != 3 || exit.TimedOut {
		t.Fatalf("got %+v", exit)
	}
	if pid := strings.TrimSpace(out); pid == "" || alive(pid) {
		t.Fatalf("the daemon %q lives", pid)
	}
	if left := cgrouptest.Names(t, folder); len(left) > 0 {
		t.Fatal("left:", left)
	}
}

func TestWithoutTheFieldADaemonLives(t *testing.T) {
	tree, folder := cgrouptest.Tree(t)
	registry := NewRegistry(testReaper, testEnv, tree)
	out, _ := run(t, registry, "a", Spec{Argv: []string{"sh", "-c", daemon}}, nil)
	pid := strings.TrimSpace(out)
	if !alive(pid) {
		t.Fatal("the daemon is dead")
	}
	if left := cgrouptest.Names(t, folder); len(left) > 0 {
		t.Fatal("a group that nobody asked for:", left)
	}
	if err := registry.Signal("a", syscall.SIGKILL); err != nil || !alive(pid) {
		t.Fatal("a signal reached more than the process group:", err)
	}
	var number int
	_, _ = fmt.Sscan(pid, &number)
	_ = syscall.Kill(number, syscall.SIGKILL)
}

func TestProcessesThatForkForEverAreCaught(t *testing.T) {
	tree, folder := cgrouptest.Tree(t)
	registry := NewRegistry(testReaper, testEnv, tree)
	dir := t.TempDir()
	script := filepath.Join(dir, "fork")
	// Each process starts the next one and ends, so killing them one by one is always too late.
	text := fmt.Sprintf("#!/bin/sh\n[ -e %s/stop ] || setsid %s &\n", dir, script)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(filepath.Join(dir, "stop"), nil, 0o644) })
	start := strings.Repeat(script+" & ", 4) + "exit 0"
	_, exit := run(t, registry, "a", Spec{Argv: []string{"sh", "-c", start}, KillLeftoversAfterMs: grace(50)}, nil)
	if exit.Code == nil || *exit.Code != 0 {
		t.Fatalf("got %+v", exit)
	}
	if left := cgrouptest.Names(t, folder); len(left) > 0 {
		t.Fatal("left:", left)
	}
}

func TestLeftoversAreReadUntilTheyAreKilled(t *testing.T) {
	tree, _ := cgrouptest.Tree(t)
	registry := NewRegistry(testReaper, testEnv, tree)
	// More than fits in a pipe, from a process that outlives the first one.
	late := `(setsid sh -c 'sleep 0.1; head -c 300000 /dev/zero; echo last') & exit 0`
	out, _ := run(t, registry, "a", Spec{Argv: []string{"sh", "-c", late}, KillLeftoversAfterMs: grace(60_000), DrainMs: 1}, nil)
	if len(out) != 300005 || !strings.HasSuffix(out, "last\n") {
		t.Fatalf("%d bytes", len(out))
	}
}

func TestKillReachesEverythingOfTheExec(t *testing.T) {
	tree, folder := cgrouptest.Tree(t)
	registry := NewRegistry(testReaper, testEnv, tree)
	for name, script := range map[string]string{"running": daemon + "; sleep 1000", "in its grace": daemon} {
		spec := Spec{Argv: []string{"sh", "-c", script}, Output: "wait", Cwd: "/", KillLeftoversAfterMs: grace(60_000)}
		exec, _, err := registry.Start(name, spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		piece, _ := exec.Output.Next(0, 100, never)
		if err := registry.Signal(name, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-exec.Ended()
		if pid := strings.TrimSpace(string(piece.Data)); alive(pid) {
			t.Fatalf("%s: the daemon %q lives", name, pid)
		}
		// The group is gone: there is nothing left to kill.
		if err := registry.Signal(name, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if left := cgrouptest.Names(t, folder); len(left) > 0 {
		t.Fatal("left:", left)
	}
}

func TestATimeoutReachesEverythingOfTheExec(t *testing.T) {
	tree, _ := cgrouptest.Tree(t)
	registry := NewRegistry(testReaper, testEnv, tree)
	argv := []string{"sh", "-c", daemon + "; sleep 1000"}
	spec := Spec{Argv: argv, Output: "wait", Cwd: "/", KillLeftoversAfterMs: grace(60_000)}
	exec, _, err := registry.Start("a", spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	piece, _ := exec.Output.Next(0, 100, never)
	exec.expire()
	<-exec.Ended()
	exit := exec.Exit()
	if exit.Signal == nil || *exit.Signal != "SIGKILL" || !exit.TimedOut || alive(strings.TrimSpace(string(piece.Data))) {
		t.Fatalf("got %q %+v", piece.Data, exit)
	}
}

func TestAProcessThatCannotStartLeavesNoGroup(t *testing.T) {
	tree, folder := cgrouptest.Tree(t)
	registry := NewRegistry(testReaper, testEnv, tree)
	_, exit := run(t, registry, "a", Spec{Argv: []string{"/etc"}, KillLeftoversAfterMs: grace(0)}, nil)
	if exit.Code == nil || *exit.Code != 126 {
		t.Fatalf("got %+v", exit)
	}
	if left := cgrouptest.Names(t, folder); len(left) > 0 {
		t.Fatal("left:", left)
	}
}

func TestLeftoversAreRefusedWhereNothingCanKillThem(t *testing.T) {
	registry := NewRegistry(testReaper, testEnv, nil)
	spec := Spec{Argv: []string{"true"}, Output: "wait", Cwd: "/", KillLeftoversAfterMs: grace(0)}
	if _, _, err := registry.Start("a", spec, nil); err == nil || !strings.HasPrefix(err.Error(), "UNSUPPORTED") {
		t.Fatal(err)
	}
	if registry.Find("a") != nil {
		t.Fatal("a refused process is known")
	}
}

func TestUsageOutlivesTheGroup(t *testing.T) {
	tree, _ := cgrouptest.Tree(t)
	registry := NewRegistry(testReaper, testEnv, tree)
	busy := "n=0; while [ $n -lt 100000 ]; do n=$((n+1)); done; echo; sleep 1000"
	spec := Spec{Argv: []string{"sh", "-c", busy}, Output: "wait", Cwd: "/", KillLeftoversAfterMs: grace(0)}
	exec, _, err := registry.Start("a", spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	exec.Output.Next(0, 1, never)
	during, err := exec.Usage()
	if err != nil || during.CPUMs == 0 || during.Processes == 0 {
		t.Fatalf("%+v %v", during, err)
	}
	_ = registry.Signal("a", syscall.SIGKILL)
	<-exec.Ended()
	if after, err := exec.Usage(); err != nil || after.CPUMs < during.CPUMs || after.Processes != 0 {
		t.Fatalf("%+v after %+v, %v", after, during, err)
	}
	run(t, registry, "fails", Spec{Argv: []string{"/etc"}, KillLeftoversAfterMs: grace(0)}, nil)
	if _, err := registry.Find("fails").Usage(); err != nil {
		t.Fatal(err)
	}
	run(t, registry, "no group", Spec{Argv: []string{"true"}}, nil)
	if _, err := registry.Find("no group").Usage(); err == nil || !strings.HasPrefix(err.Error(), "UNSUPPORTED") {
		t.Fatal(err)
	}
}
