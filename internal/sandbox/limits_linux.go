package sandbox

import (
	"fmt"
	"os"
	"syscall"
)

// enforced reports whether the system itself keeps the limit on memory. The race
// detector's own memory does not fit into it: a child that was built with it has
// the watch over its heap only.
const enforced = !raceDetector

// maxFiles is enough for three pipes, Go's own needs, and a few children.
const maxFiles = 64

// restrict puts the limits on this process and its children, for good: soft and
// hard limit are the same.
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
	if !enforced {
		return nil
	}
	return set("memory", syscall.RLIMIT_DATA, uint64(l.Data))
}

// wasFull reports whether a child had more than half of its memory in use: the
// next mapping, which may double a list, was then refused.
func wasFull(l Limits, s *os.ProcessState) bool {
	u, ok := s.SysUsage().(*syscall.Rusage)
	return ok && u.Maxrss<<10 > l.Data/2
}
