// Package cgrouptest gives tests a tree of control groups on this machine.
package cgrouptest

import (
	"crypto/rand"
	"os"
	"testing"

	"kiln/guest-agent/internal/cgroup"
)

// Tree makes a tree, and returns the folder of its groups, too. It skips the test for an ordinary user, who may make
// none.
func Tree(t *testing.T) (*cgroup.Tree, *os.Root) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("control groups take root")
	}
	root, err := cgroup.Mount()
	if err != nil {
		t.Fatal(err)
	}
	name := "kiln-test-" + rand.Text()
	if err := root.Mkdir(name, 0o755); err != nil {
		t.Fatal(err)
	}
	folder, err := root.OpenRoot(name)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := cgroup.NewTree(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = folder.WriteFile("cgroup.kill", []byte("1"), 0)
		for populated := true; populated; {
			populated, err = cgroup.Populated(folder, ".")
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := cgroup.RemoveAll(root, name); err != nil {
			t.Error(err)
		}
	})
	return tree, folder
}

// Names lists the groups in a folder.
func Names(t *testing.T, folder *os.Root) []string {
	t.Helper()
	directory, err := folder.Open(".")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = directory.Close() }()
	entries, err := directory.ReadDir(-1)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}
