package system

import (
	"errors"
	"io"
	"os"
	"time"
)

const (
	// hungUpPause is the time between two reads while no host is attached: each then returns end-of-file at once.
	hungUpPause = 150 * time.Millisecond
	// lostAfter is how long reads must return end-of-file before the host counts as gone. A shorter time may be a quick
	// re-attach, or a late report that an earlier host has gone; neither must end the session of the present host.
	lostAfter = time.Second
)

// SerialPort is the virtio-serial port to the host. Reading never ends: while no host is attached, it waits for one.
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

// OnLost sets the function that is called when the host has been gone for lostAfter.
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
