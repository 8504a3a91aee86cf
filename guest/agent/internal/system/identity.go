package system

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/service"
)

const (
	seedBytes       = 32
	rndAddEntropy   = 0x40085203
	rndReseedCRNG   = 0x5207
	maxHostnameText = 63
)

var (
	hostnameText  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)
	machineIDText = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// applyIdentity sets the guest's host name and machine id. Clock and entropy belong to the whole kernel and are left to
// the caller.
func applyIdentity(identity service.Identity) error {
	if len(identity.Hostname) > maxHostnameText || !hostnameText.MatchString(identity.Hostname) {
		return mux.Fail("SPEC_INVALID", "hostname is not a host name of at most 63 characters")
	}
	if !machineIDText.MatchString(identity.MachineID) {
		return mux.Fail("SPEC_INVALID", "machineId is 32 hex digits")
	}
	if err := unix.Sethostname([]byte(identity.Hostname)); err != nil {
		return mux.Fail("INTERNAL", "sethostname: "+err.Error())
	}
	files := map[string]string{
		"/etc/hostname":   identity.Hostname + "\n",
		"/etc/machine-id": identity.MachineID + "\n",
		"/etc/hosts":      "127.0.0.1 localhost\n127.0.0.1 " + identity.Hostname + "\n",
	}
	for path, text := range files {
		if err := replaceFile(path, text); err != nil {
			return mux.Fail("INTERNAL", err.Error())
		}
	}
	return nil
}

// replaceFile removes a small file and writes a new one, so that a symlink with its name is not followed.
func replaceFile(path, text string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// seedKernel gives the kernel's random generator new bytes and makes it use them at once: clones of one memory image
// must not share random numbers.
func seedKernel(seedHex string) error {
	seed, err := hex.DecodeString(seedHex)
	if err != nil || len(seed) != seedBytes {
		return mux.Fail("SPEC_INVALID", "seedHex is 32 bytes in hex")
	}
	file, err := os.OpenFile("/dev/random", os.O_RDWR, 0)
	if err != nil {
		return mux.Fail("INTERNAL", err.Error())
	}
	defer func() { _ = file.Close() }()
	pool := struct {
		bits, size int32
		bytes      [seedBytes]byte
	}{bits: seedBytes * 8, size: seedBytes}
	copy(pool.bytes[:], seed)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), rndAddEntropy, uintptr(unsafe.Pointer(&pool))); errno != 0 {
		return mux.Fail("INTERNAL", "add entropy: "+errno.Error())
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), rndReseedCRNG, 0); errno != 0 {
		return mux.Fail("INTERNAL", "reseed: "+errno.Error())
	}
	return nil
}

// renewBootID hides the kernel's boot id, which is the same in all clones of one memory image, behind a new one.
func renewBootID(seedHex string) error {
	const ownID, kernelID = "/run/kiln-boot-id", "/proc/sys/kernel/random/boot_id"
	id := sha256.Sum256([]byte("boot id of " + seedHex))
	// A UUID of version 4 and variant 1, as the kernel's own is.
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	text := fmt.Sprintf("%x-%x-%x-%x-%x\n", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
	if err := replaceFile(ownID, text); err != nil {
		return mux.Fail("INTERNAL", err.Error())
	}
	if err := unix.Mount(ownID, kernelID, "", unix.MS_BIND, ""); err != nil {
		return mux.Fail("INTERNAL", "boot id: "+err.Error())
	}
	return nil
}

func plausibleClock(wallClockMs int64) error {
	if wallClockMs <= 0 {
		return mux.Fail("SPEC_INVALID", "wallClockMs is a time after 1970")
	}
	return nil
}

func setClock(wallClockMs int64) error {
	if err := plausibleClock(wallClockMs); err != nil {
		return err
	}
	now := unix.NsecToTimespec(wallClockMs * int64(time.Millisecond))
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		return mux.Fail("INTERNAL", "clock: "+err.Error())
	}
	return nil
}
