package system

import (
	"errors"
	"io"
	"os"
	"time"
)

const (
	// hungUpPause is how long the agent sleeps while no host is attached: the port then reads as ended at once.
	hungUpPause = 150 * time.Millisecond
	// lostAfter is how long that lasts before the host counts as gone. A quick re-attach, and an end that is told late,
	// must not disturb the session of the host that is there.
	lostAfter = time.Second
)

// SerialPort is the virtio-serial port to the host. Reading never ends: where no host is attached it waits for one.
type SerialPort struct {
	file   *os.File
	onLost func()
}

func openPort(name string) (*SerialPort, error) {
	port, err := waitFor("port "+name, func() (string, bool) {
		return findByContent("/sys/class/virtio-ports/*/name", name)
	})
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile("/dev/"+port, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &SerialPort{file: file, onLost: func() {}}, nil
}

// OnLost sets what happens when the host has been gone for a while.
func (p *SerialPort) OnLost(handle func()) { p.onLost = handle }

// Read waits for bytes of a host.
func (p *SerialPort) Read(buffer []byte) (int, error) {
	var since time.Time
	told := false
	for {
		n, err := p.file.Read(buffer)
		if n > 0 {
			return n, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if since.IsZero() {
			since = time.Now()
		} else if !told && time.Since(since) > lostAfter {
			told = true
			p.onLost()
		}
		time.Sleep(hungUpPause)
	}
}

// Write waits until the host has taken everything.
func (p *SerialPort) Write(data []byte) (int, error) { return p.file.Write(data) }
