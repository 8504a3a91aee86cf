package process

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// pipes are the three standard streams of one process.
type pipes struct {
	stdin, stdout, stderr *os.File
	child                 [3]*os.File
}

func openPipes(withStdin bool) (*pipes, error) {
	p := &pipes{}
	var err error
	if withStdin {
		p.child[0], p.stdin, err = os.Pipe()
	} else {
		p.child[0], err = os.Open(os.DevNull)
	}
	if err == nil {
		p.stdout, p.child[1], err = os.Pipe()
	}
	if err == nil {
		p.stderr, p.child[2], err = os.Pipe()
	}
	if err != nil {
		p.closeChildEnds()
		p.closeOurEnds()
		return nil, err
	}
	return p, nil
}

func (p *pipes) childFiles() []uintptr {
	return []uintptr{p.child[0].Fd(), p.child[1].Fd(), p.child[2].Fd()}
}

func (p *pipes) closeChildEnds() { closeAll(p.child[:]...) }

func (p *pipes) closeOurEnds() { closeAll(p.stdin, p.stdout, p.stderr) }

func closeAll(files ...*os.File) {
	for _, file := range files {
		if file != nil {
			_ = file.Close()
		}
	}
}

// pump copies a pipe into the output buffer. Children of the process may hold the pipe open for ever, so reading stops
// some time after the process has exited, with what is in the pipe at that moment.
type pump struct {
	file   *os.File
	stream byte
	output *Output
}

func newPump(file *os.File, stream byte, output *Output) *pump {
	return &pump{file: file, stream: stream, output: output}
}

func (p *pump) stopAfter(drain time.Duration) {
	_ = p.file.SetReadDeadline(time.Now().Add(drain))
}

func (p *pump) run() {
	defer func() { _ = p.file.Close() }()
	buffer := make([]byte, 32*1024)
	for {
		n, err := p.file.Read(buffer)
		p.output.Append(p.stream, buffer[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.takeRest(buffer)
			return
		}
		if err != nil {
			return
		}
	}
}

// takeRest reads at most one full pipe without waiting.
func (p *pump) takeRest(buffer []byte) {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	const pipeCapacity = 64 * 1024
	for taken := 0; taken < pipeCapacity; {
		n := 0
		_ = p.file.SetReadDeadline(time.Time{})
		err = raw.Read(func(fd uintptr) bool {
			n, _ = syscall.Read(int(fd), buffer)
			return true
		})
		if err != nil || n <= 0 {
			return
		}
		p.output.Append(p.stream, buffer[:n])
		taken += n
	}
}
