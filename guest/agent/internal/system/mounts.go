package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data)
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
	}
	return nil
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

const hidden = unix.MS_NOSUID | unix.MS_NODEV

// guestMounts returns the memory file systems of a guest, VM or process, whose root is at root. Their sizes are shares
// of the guest's memory: a program that fills one gets "no space left", and the guest keeps some memory.
func guestMounts(root string) []mount {
	at := func(path string) string { return filepath.Join(root, path) }
	return []mount{
		{"devpts", at("/dev/pts"), "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"},
		{"tmpfs", at("/dev/shm"), "tmpfs", hidden, "mode=1777,size=25%"},
		{"tmpfs", at("/run"), "tmpfs", hidden, "mode=0755,size=10%"},
		{"tmpfs", at("/root"), "tmpfs", hidden, "mode=0700,size=50%"},
		{"tmpfs", at("/tmp"), "tmpfs", hidden, "mode=1777,size=50%"},
		{"tmpfs", at("/var/log"), "tmpfs", hidden, "mode=0755,size=10%"},
	}
}

// loopbackUp brings up lo, the only interface a guest has.
func loopbackUp() error {
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(sock) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(sock, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(sock, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	return nil
}

func writeResolvConf() error {
	return replaceFile("/etc/resolv.conf", "nameserver 127.0.0.1\n")
}
