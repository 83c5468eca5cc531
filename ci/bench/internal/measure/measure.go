// Package measure reads clocks, memory and the machine's description.
//
// In: the running process, or the id of another one. Out: CPU seconds as the
// kernel accounts them, memory as the kernel sees it. Linux only.
package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// CPU is the processor time that this process has used, in all threads.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(fmt.Sprintf("measure: getrusage: %v", err)) // it has no reason to fail for the own process
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// CPUOf is the processor time of the live threads of another process.
func CPUOf(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("reading the threads of process %d: %w", pid, err)
	}
	var sum int64
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has just ended
		}
		first, _, _ := strings.Cut(string(b), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", f, err)
		}
		sum += ns
	}
	return time.Duration(sum), nil
}

// Memory is a process's resident memory in bytes: now, and its highest point.
type Memory struct{ Now, Peak int64 }

// MemoryOf reads the memory of a process; 0 means this one.
func MemoryOf(pid int) (Memory, error) {
	who := "self"
	if pid != 0 {
		who = strconv.Itoa(pid)
	}
	b, err := os.ReadFile("/proc/" + who + "/status")
	if err != nil {
		return Memory{}, fmt.Errorf("reading memory: %w", err)
	}
	return Memory{Now: kilobytes(string(b), "VmRSS:"), Peak: kilobytes(string(b), "VmHWM:")}, nil
}

// Tree is what a process and the processes that it started use together: processor time of
// those that live, memory in bytes with shared pages counted once, and how many it started.
type Tree struct {
	CPU      time.Duration
	Memory   int64
	Children int
}

// TreeOf reads a process and all below it.
func TreeOf(pid int) (Tree, error) {
	var t Tree
	var err error
	if t.CPU, err = CPUOf(pid); err != nil {
		return t, err
	}
	m, err := ShareOf(pid)
	if err != nil {
		return t, err
	}
	t.Memory = m.Proportional
	all, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return t, fmt.Errorf("listing processes: %w", err)
	}
	for _, file := range all {
		text, _ := os.ReadFile(file) // it may have just ended
		_, rest, _ := strings.Cut(string(text), "\nPPid:")
		if words := strings.Fields(rest); len(words) == 0 || words[0] != strconv.Itoa(pid) {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return t, fmt.Errorf("reading %s: %w", file, err)
		}
		below, err := TreeOf(child)
		if err != nil {
			return t, err
		}
		t.CPU, t.Memory, t.Children = t.CPU+below.CPU, t.Memory+below.Memory, t.Children+1+below.Children
	}
	return t, nil
}

// Share is what one of several processes that share programs and files holds, in bytes.
type Share struct {
	// Resident is all of it that is in memory, Peak its highest point.
	Resident, Peak int64
	// Proportional counts of each shared page the part of one process among all that have it.
	Proportional int64
}

// ShareOf reads what a process holds.
func ShareOf(pid int) (Share, error) {
	m, err := MemoryOf(pid)
	if err != nil {
		return Share{}, err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return Share{}, fmt.Errorf("reading memory: %w", err)
	}
	return Share{Resident: m.Now, Peak: m.Peak, Proportional: kilobytes(string(b), "Pss:")}, nil
}

func kilobytes(status, field string) int64 {
	_, rest, _ := strings.Cut(status, field)
	words := strings.Fields(rest)
	if len(words) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(words[0], 10, 64) // the kernel writes a number there
	return n << 10
}

// ResetPeak gives unused memory back and lets the highest point start anew.
func ResetPeak() error {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o600); err != nil {
		return fmt.Errorf("resetting the peak of memory: %w", err)
	}
	return nil
}

// MiB is bytes in MiB.
func MiB(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// MS is a duration in milliseconds.
func MS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Samples are repeated measurements of one thing.
type Samples []time.Duration

// Best is the shortest: what else the machine did is in all the others.
func (s Samples) Best() time.Duration { return slices.Min(s) }

// Median is the middle one.
func (s Samples) Median() time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[len(sorted)/2]
}

// Percentile is the value below which p of 100 samples lie.
func (s Samples) Percentile(p int) time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// Machine is what a figure depends on beside the code.
type Machine struct {
	CPU    string  `json:"cpu"`
	Cores  int     `json:"cores"`
	Memory float64 `json:"memory_gib"`
	Go     string  `json:"go"`
	Kernel string  `json:"kernel"`
	// Load is the load average at the start: above a half, others were at work.
	Load string `json:"load_at_start"`
}

// ThisMachine describes the machine; what cannot be read is "unknown".
func ThisMachine() Machine {
	m := Machine{CPU: "unknown", Cores: runtime.NumCPU(), Go: runtime.Version(), Kernel: line("/proc/sys/kernel/osrelease"), Load: line("/proc/loadavg")}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(b), "model name"); ok {
			name, _, _ := strings.Cut(rest, "\n")
			m.CPU = strings.TrimLeft(name, "\t :")
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.Memory = float64(kilobytes(string(b), "MemTotal:")) / (1 << 30)
	}
	return m
}

func line(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// String is one line.
func (m Machine) String() string {
	return fmt.Sprintf("Machine: %s, %d cores, %.0f GiB, %s, Linux %s; load at the start %s", m.CPU, m.Cores, m.Memory, m.Go, m.Kernel, m.Load)
}
