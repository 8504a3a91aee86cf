package system

import (
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"kiln/guest-agent/internal/cgroup/cgrouptest"
)

func TestGroupsOfDeadGuestsAreSweptAndNoOthers(t *testing.T) {
	_, parent := cgrouptest.Tree(t)
	for _, name := range []string{"kiln-guest-dead/exec-1/inner", "kiln-guest-new", "kiln-guest-live/exec-1", "other"} {
		if err := parent.MkdirAll(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	live, err := parent.Open("kiln-guest-live")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = live.Close() }()
	guest := exec.Command("sleep", "1000")
	guest.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(live.Fd())}
	if err := guest.Start(); err != nil {
		t.Fatal(err)
	}
	removeDeadGuests(parent)
	left := cgrouptest.Names(t, parent)
	slices.Sort(left)
	if !slices.Equal(left, []string{"kiln-guest-live", "other"}) {
		t.Fatal("left:", left)
	}
	folder, err := parent.OpenRoot("kiln-guest-live")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	if below := cgrouptest.Names(t, folder); len(below) != 1 {
		t.Fatal("a living guest lost its groups")
	}
	_ = guest.Process.Kill()
	_ = guest.Wait()
}
