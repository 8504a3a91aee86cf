package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Serial numbers by which the drives are found.
const (
	rootSerial    = "kiln-root"
	scratchSerial = "kiln-scratch"
	spaceSerial   = "kiln-workspace"
)

// Mount points in the initial memory file system. They cannot be reached once the root has been switched.
const (
	lowerRoot = "/lower"
	scratch   = "/scratch"
)

// mountRoot mounts the root file system at target. That is the root drive; or, if the drive is read-only because many
// guests share it, an overlay over it whose writable layer is on the scratch drive.
func mountRoot(target string) error {
	device, err := driveOf(rootSerial)
	if err != nil {
		return err
	}
	readOnly, err := isReadOnly(device)
	if err != nil {
		return err
	}
	if !readOnly {
		return mount{device, target, "ext4", unix.MS_NOATIME, ""}.do()
	}
	layer, err := driveOf(scratchSerial)
	if err != nil {
		return err
	}
	upper, work := filepath.Join(scratch, "upper"), filepath.Join(scratch, "work")
	below := []mount{
		{device, lowerRoot, "ext4", unix.MS_RDONLY | unix.MS_NOATIME, ""},
		{layer, scratch, "ext4", unix.MS_NOATIME, ""},
	}
	if err := mountAll(below); err != nil {
		return err
	}
	// The guest's root folder has the mode of the upper folder.
	if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755), os.Chmod(upper, 0o755)); err != nil {
		return err
	}
	return mount{"overlay", target, "overlay", unix.MS_NOATIME, layers(lowerRoot, upper, work)}.do()
}

// isReadOnly returns whether a drive cannot be written.
func isReadOnly(device string) (bool, error) {
	text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "ro"))
	return strings.TrimSpace(string(text)) == "1", err
}

// mountWorkspaceDrive first drops the kernel's cache of the drive: this guest may be a clone of one that had another
// disk in its place.
func mountWorkspaceDrive() error {
	device, err := driveOf(spaceSerial)
	if err != nil {
		return err
	}
	if err := forgetBlocks(device); err != nil {
		return err
	}
	return mount{device, workspace, "ext4", unix.MS_NOATIME | hidden, ""}.do()
}

func forgetBlocks(device string) error {
	file, err := os.Open(device)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := unix.IoctlSetInt(int(file.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return fmt.Errorf("flush %s: %w", device, err)
	}
	return nil
}

func findByContent(pattern, wanted string) (string, bool) {
	files, _ := filepath.Glob(pattern)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(text)) == wanted {
			return filepath.Base(filepath.Dir(file)), true
		}
	}
	return "", false
}

func driveOf(serial string) (string, error) {
	name, err := waitFor("drive "+serial, func() (string, bool) {
		return findByContent("/sys/block/vd*/serial", serial)
	})
	return "/dev/" + name, err
}
