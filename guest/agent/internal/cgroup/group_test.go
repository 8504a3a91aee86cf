package cgroup_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"kiln/guest-agent/internal/cgroup"
	"kiln/guest-agent/internal/cgroup/cgrouptest"
)

func sleeper(t *testing.T, descriptor int) *exec.Cmd {
	t.Helper()
	command := exec.Command("sleep", "1000")
	command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: descriptor}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command
}

func TestAGroupIsKilledWithTheGroupsThatItsProcessesMade(t *testing.T) {
	tree, folder := cgrouptest.Tree(t)
	group, err := tree.Make()
	if err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(cgrouptest.Names(t, folder)[0], "a", "b")
	if err := folder.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	directory, err := folder.Open(inner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = directory.Close() }()
	inside := sleeper(t, int(directory.Fd()))
	if group.WaitEmpty(10 * time.Millisecond) {
		t.Fatal("empty beside a process")
	}
	if err := group.Kill(); err != nil {
		t.Fatal(err)
	}
	if !group.WaitEmpty(time.Hour) {
		t.Fatal("the wait is over beside a process")
	}
	if _ = inside.Wait(); inside.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatal(inside.ProcessState)
	}
	group.Remove()
	if left := cgrouptest.Names(t, folder); len(left) > 0 {
		t.Fatal("left:", left)
	}
	// On a group that is gone, nothing is to be killed or waited for.
	if err := group.Kill(); err != nil || !group.WaitEmpty(0) {
		t.Fatal("a group that is gone is in the way:", err)
	}
}

func TestUsageCountsWhatLivesAndWhatHasEnded(t *testing.T) {
	tree, folder := cgrouptest.Tree(t)
	group, err := tree.Make()
	if err != nil {
		t.Fatal(err)
	}
	if usage, err := group.Usage(); err != nil || usage != (cgroup.Usage{}) {
		t.Fatal("a new group:", usage, err)
	}
	busy := exec.Command("sh", "-c", "n=0; while [ $n -lt 100000 ]; do n=$((n+1)); done")
	busy.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: group.Descriptor()}
	if err := busy.Run(); err != nil {
		t.Fatal(err)
	}
	after, err := group.Usage()
	if err != nil || after.CPUMs == 0 || after.Processes != 0 {
		t.Fatal("after a process:", after, err)
	}
	inner := filepath.Join(cgrouptest.Names(t, folder)[0], "inner")
	if err := folder.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	below, err := folder.Open(inner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = below.Close() }()
	sleepers := []*exec.Cmd{sleeper(t, group.Descriptor()), sleeper(t, int(below.Fd()))}
	if usage, err := group.Usage(); err != nil || usage.Processes != 2 || usage.CPUMs < after.CPUMs {
		t.Fatal("beside two processes:", usage, err)
	}
	_ = group.Kill()
	for _, each := range sleepers {
		_ = each.Wait()
	}
	group.Remove()
}

func TestAGroupInUseIsRemovedLater(t *testing.T) {
	tree, folder := cgrouptest.Tree(t)
	group, err := tree.Make()
	if err != nil {
		t.Fatal(err)
	}
	inside := sleeper(t, group.Descriptor())
	group.Remove()
	if left := cgrouptest.Names(t, folder); len(left) != 1 {
		t.Fatal("a group with a process went:", left)
	}
	_ = inside.Process.Kill()
	_ = inside.Wait()
	next, err := tree.Make()
	if err != nil {
		t.Fatal(err)
	}
	if left := cgrouptest.Names(t, folder); len(left) != 1 || left[0] == "exec-1" {
		t.Fatal("left:", left)
	}
	next.Remove()
}

func TestGroupsThatCannotBeRemovedAreBounded(t *testing.T) {
	tree, folder := cgrouptest.Tree(t)
	var sleepers []*exec.Cmd
	refused := error(nil)
	for range 100 {
		group, err := tree.Make()
		if err != nil {
			refused = err
			break
		}
		sleepers = append(sleepers, sleeper(t, group.Descriptor()))
		group.Remove()
	}
	if refused == nil || len(sleepers) != 64 {
		t.Fatalf("%d groups, then %v", len(sleepers), refused)
	}
	_ = folder.WriteFile("cgroup.kill", []byte("1"), 0)
	for _, each := range sleepers {
		_ = each.Wait()
	}
	group, err := tree.Make()
	if err != nil {
		t.Fatal(err)
	}
	group.Remove()
	if left := cgrouptest.Names(t, folder); len(left) > 0 {
		t.Fatal("left:", left)
	}
}

func TestAFolderOfAnotherKindIsNoTree(t *testing.T) {
	folder, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	if _, err := cgroup.NewTree(folder); err == nil {
		t.Fatal("control groups in an ordinary folder")
	}
}
