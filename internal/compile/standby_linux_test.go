package compile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/sandbox"
)

// waiting are the processes that this one started as children that evaluate.
func waiting(t *testing.T) []int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, dir := range dirs {
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		words, cerr := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || cerr != nil || !bytes.Contains(status, fmt.Appendf(nil, "\nPPid:\t%d\n", os.Getpid())) {
			continue // it has ended meanwhile, or is somebody else's
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && bytes.Contains(words, []byte("\x00"+sandbox.Word+"\x00"+evaluateWork+"\x00")) {
			out = append(out, pid)
		}
	}
	return out
}

// One child waits from one evaluation to the next. One that ends while it waits fails nothing,
// and none is left behind.
func TestStandBy(t *testing.T) {
	c, err := New(Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	load := func() {
		t.Helper()
		p, ds, err := c.Load(t.Context(), ending("", "", false), compiler.Options{At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)})
		if err != nil || ds.HasErrors() || p == nil {
			t.Fatalf("%v, %v", ds, err)
		}
	}
	before := waiting(t)
	load()
	if now := waiting(t); !slices.Equal(now, before) {
		t.Errorf("children %v wait though nobody asked for one", now)
	}
	c.StandBy()
	first := waiting(t)
	if len(first) != len(before)+1 {
		t.Fatalf("children %v wait, before were %v", first, before)
	}
	load()
	if now := waiting(t); len(now) != len(first) {
		t.Errorf("children %v wait after the evaluation, before it were %v", now, first)
	}
	c.StandBy()
	for _, pid := range waiting(t) {
		if !slices.Contains(before, pid) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	load()
	c.Close()
	load()
	if now := waiting(t); !slices.Equal(now, before) {
		t.Errorf("children %v are left behind", now)
	}
}
