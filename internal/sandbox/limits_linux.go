package sandbox

import (
	"fmt"
	"math"
	"os"
	"syscall"
	"time"
)

// enforced reports whether the system itself keeps the limits on memory and CPU.
const enforced = true

// maxFiles is enough for the three pipes and Go's own needs.
const maxFiles = 64

// restrict puts the limits on this process, for good: soft and hard limit are
// the same. A CPU limit then ends the process by SIGKILL, because Go ignores the
// softer SIGXCPU.
func restrict(l Limits) error {
	set := func(name string, which int, value uint64) error {
		if err := syscall.Setrlimit(which, &syscall.Rlimit{Cur: value, Max: value}); err != nil {
			return fmt.Errorf("limiting %s to %d: %w", name, value, err)
		}
		return nil
	}
	if err := set("core dumps", syscall.RLIMIT_CORE, 0); err != nil {
		return err
	}
	if err := set("open files", syscall.RLIMIT_NOFILE, maxFiles); err != nil {
		return err
	}
	if l.CPU > 0 {
		if err := set("CPU seconds", syscall.RLIMIT_CPU, uint64(math.Ceil(l.CPU.Seconds()))); err != nil {
			return err
		}
	}
	if l.Data > 0 {
		return set("memory", syscall.RLIMIT_DATA, uint64(l.Data))
	}
	return nil
}

// outOfCPU reports whether a killed child had used up its CPU time.
func outOfCPU(l Limits, used time.Duration, sig syscall.Signal) bool {
	return sig == syscall.SIGXCPU || sig == syscall.SIGKILL && l.CPU > 0 && used >= l.CPU-500*time.Millisecond
}

// wasFull reports whether a child had more than half of its memory in use: the
// next mapping, which may double a list, was then refused.
func wasFull(l Limits, s *os.ProcessState) bool {
	u, ok := s.SysUsage().(*syscall.Rusage)
	return ok && l.Data > 0 && u.Maxrss<<10 > l.Data/2
}
