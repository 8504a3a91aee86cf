// Prints the rate of this machine's time stamp counter in kHz: the median of several counts against the raw clock.
package main

import (
	"fmt"
	"sort"
	"syscall"
	"time"
	"unsafe"
)

const (
	rounds            = 5
	window            = 40 * time.Millisecond
	clockMonotonicRaw = 4
)

// rdtsc reads the counter.
func rdtsc() uint64

// now returns nanoseconds of a clock that no time service adjusts.
func now() int64 {
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonicRaw, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

// reading pairs clock and counter: of several tries, the one with the fastest clock call.
func reading() (ns int64, ticks uint64) {
	best := int64(1 << 62)
	for range 20 {
		before := now()
		count := rdtsc()
		after := now()
		if after-before < best {
			best, ns, ticks = after-before, before+(after-before)/2, count
		}
	}
	return ns, ticks
}

func main() {
	var khz []uint64
	for range rounds {
		ns, ticks := reading()
		time.Sleep(window)
		nsLater, ticksLater := reading()
		khz = append(khz, (ticksLater-ticks)*1_000_000/uint64(nsLater-ns))
	}
	sort.Slice(khz, func(a, b int) bool { return khz[a] < khz[b] })
	fmt.Println(khz[len(khz)/2])
}
