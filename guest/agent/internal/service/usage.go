package service

import (
	"os"
	"strconv"
	"strings"

	"kiln/guest-agent/internal/mux"
)

// msPerTick is the kernel's fixed unit of CPU time in /proc.
const msPerTick = 10

func (a *Agent) usage(st *mux.Stream, _ request) error {
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return mux.Fail("INTERNAL", err.Error())
	}
	cpu, err := os.ReadFile("/proc/stat")
	if err != nil {
		return mux.Fail("INTERNAL", err.Error())
	}
	total, available := parseMemory(string(memory))
	return st.Done(map[string]int64{
		"memUsedBytes":  total - available,
		"memTotalBytes": total,
		"cpuMs":         parseBusy(string(cpu)),
	})
}

// parseMemory reads total and available memory, in bytes, from the text of /proc/meminfo.
func parseMemory(text string) (total, available int64) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "MemTotal:":
			total = kib * 1024
		case "MemAvailable:":
			available = kib * 1024
		}
	}
	return total, available
}

// parseBusy reads the busy CPU time of all cores, in ms, from the text of /proc/stat: user, nice, system, irq, softirq
// and steal, without idle and iowait.
func parseBusy(text string) int64 {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	var ticks int64
	for _, index := range []int{1, 2, 3, 6, 7, 8} {
		if index < len(fields) {
			n, _ := strconv.ParseInt(fields[index], 10, 64)
			ticks += n
		}
	}
	return ticks * msPerTick
}
