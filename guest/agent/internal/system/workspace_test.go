package system

import "testing"

func TestMountPointsAreTakenLiterally(t *testing.T) {
	table := "22 1 0:20 / / rw - overlay overlay rw\n" +
		"30 22 254:16 / /workspace rw,noatime shared:1 - ext4 /dev/vdb rw\n" +
		"31 22 0:30 /workspace /mnt rw - tmpfs none rw\n\n"
	for target, want := range map[string]bool{"/workspace": true, "/": true, "/work": false, "/tmp": false} {
		if hasMount(table, target) != want {
			t.Errorf("hasMount(%q) = %v", target, !want)
		}
	}
	if hasMount("", "/workspace") {
		t.Error("an empty table has a mount")
	}
}
