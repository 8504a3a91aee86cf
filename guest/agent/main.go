// Command kiln-agent is the one program of Kiln that runs inside a guest: process 1 of a VM, or, for tests, process 1
// of a set of namespaces that look like a VM.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"

	"kiln/guest-agent/internal/egress"
	"kiln/guest-agent/internal/process"
	"kiln/guest-agent/internal/service"
	"kiln/guest-agent/internal/system"
)

// version is set by the build to the key of the sources.
var version = "dev"

// The program starts itself again inside its namespaces, and must do so on the main thread: that one alone has the signal
// with which the kernel ends a guest whose parent has ended, and would lose it if another thread took its place.
func init() { runtime.LockOSThread() }

func main() {
	listen := flag.String("listen", "", "unix:PATH of the socket to serve on; without it the agent is the init of a VM")
	root := flag.String("root", "", "folder for the writable layer and /workspace of a process-mode guest")
	pathPrefix := flag.String("path-prefix", "", "folders put before the default PATH")
	tellVersion := flag.Bool("version", false, "print the version")
	flag.Parse()
	system.KeepFilesPrivate()
	// With one processor, the Go scheduler hands it to another thread around every system call, thousands of times a
	// second. On an emulated machine that makes the agent several times slower.
	runtime.GOMAXPROCS(max(2, runtime.NumCPU()))
	switch {
	case *tellVersion:
		fmt.Println(version)
	case *listen != "":
		if err := serveProcess(*listen, *root, *pathPrefix); err != nil {
			fmt.Fprintln(os.Stderr, "kiln-agent:", err)
			os.Exit(1)
		}
	case os.Getpid() == 1:
		serveVM()
	default:
		fmt.Fprintln(os.Stderr, "kiln-agent: give --listen unix:PATH --root DIR, or run as the init of a VM")
		os.Exit(2)
	}
}

func serveVM() {
	runtime.UnlockOSThread()
	system.GuardInit(func() error {
		port, machine, err := system.BootVM()
		if err != nil {
			return err
		}
		agent, err := newAgent(machine, "")
		if err != nil {
			return err
		}
		port.OnLost(agent.Detach)
		return agent.Serve(port, port)
	})
}

func serveProcess(listen, root, pathPrefix string) error {
	listener, machine, err := system.EnterProcessGuest(listen, root)
	if err != nil {
		return err
	}
	runtime.UnlockOSThread()
	agent, err := newAgent(machine, pathPrefix)
	if err != nil {
		return err
	}
	for {
		// One host at a time, as on a serial port: the next one is served once this one has disconnected.
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		_ = agent.Serve(conn, conn)
		_ = conn.Close()
	}
}

func newAgent(machine service.Machine, pathPrefix string) (*service.Agent, error) {
	registry := process.NewRegistry(process.NewReaper(), system.DefaultEnv(pathPrefix), machine.Groups())
	ports, err := system.EgressPorts()
	if err != nil {
		return nil, err
	}
	agent := service.New(version, machine, registry, ports)
	names := egress.NewNames()
	if err := egress.ServeDNS("127.0.0.1:53", names); err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	if err := egress.Listen(ports, names, agent.DialHost); err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	return agent, nil
}
