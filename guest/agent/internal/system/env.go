// Package system deals with the machine: it boots from process 1 to a guest that can serve, gives it its identity, and
// shuts it down.
package system

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// KeepFilesPrivate stops the processes that the agent starts from inheriting files that the agent itself inherited.
func KeepFilesPrivate() { _ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) }

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// DefaultEnv is the environment of a process for which the host sets nothing.
func DefaultEnv(pathPrefix string) []string {
	path := defaultPath
	if pathPrefix != "" {
		path = pathPrefix + ":" + defaultPath
	}
	return []string{"PATH=" + path, "HOME=/root", "LANG=C.UTF-8"}
}

// EgressPorts returns the ports on which guest programs can reach the outside: 80, 443, and those in the word
// kiln.egress_ports=PORT,PORT of the kernel's command line, or in the variable KILN_EGRESS_PORTS of a process-mode
// guest.
func EgressPorts() ([]int, error) {
	extra := os.Getenv("KILN_EGRESS_PORTS")
	if line, err := os.ReadFile("/proc/cmdline"); err == nil {
		for word := range strings.FieldsSeq(string(line)) {
			if list, found := strings.CutPrefix(word, "kiln.egress_ports="); found {
				extra = list
			}
		}
	}
	ports := []int{80, 443}
	for text := range strings.SplitSeq(extra, ",") {
		if text == "" || text == "80" || text == "443" {
			continue
		}
		port, err := strconv.Atoi(text)
		if err != nil || port < 1 || port > 65535 {
			return nil, fmt.Errorf("egress port %q is no port", text)
		}
		ports = append(ports, port)
	}
	return ports, nil
}
