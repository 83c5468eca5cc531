package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// child is the program that the tests start.
var child string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "meshc-sandbox-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	child = filepath.Join(dir, "child")
	build := exec.Command("go", "build", "-o", child, "./testdata/child")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	code := 1
	if build.Run() == nil {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func small() Limits {
	return Limits{Time: 20 * time.Second, Data: 256 << 20, Heap: 128 << 20, Output: 2 << 20}
}

func TestRun(t *testing.T) {
	cases := []struct {
		request string
		time    time.Duration // 0: the usual
		kind    Kind          // "" means an answer
		want    string
		linux   bool // the system itself must keep the limit
	}{
		{"echo hello", 0, "", "hello", false},
		{"echo ", 0, "", "", false},
		{"env", 0, "", "[]", false},
		{"chatter", 0, "", "fine", false},
		{"refuse no\nway", 0, Refused, "no\nway", false},
		{"panic aaargh", 0, Crashed, "panic: aaargh", false},
		{"exit", 0, Crashed, "exit status 7", false},
		{"big", 0, Output, "more than 2 MiB", false},
		{"sleep", 300 * time.Millisecond, Time, "longer than 300ms", false},
		{"spin", time.Second, Time, "longer than 1s", false},
		{"eat", 0, Memory, "more than 256 MiB", false},
		{"gulp", 0, Memory, "more than 256 MiB", false},
		{"open /dev/null", 0, Refused, "too many open files", true},
	}
	for _, c := range cases {
		if c.linux && !enforced && !raceDetector {
			continue // this system keeps no such limit, and Warning says so
		}
		t.Run(c.request[:min(len(c.request), 12)], func(t *testing.T) {
			t.Parallel()
			l := small()
			if c.time != 0 {
				l.Time = c.time
			}
			word, arg, _ := strings.Cut(c.request, " ")
			out, err := Run(t.Context(), child, "behave", l, []byte(word+" "), []byte(arg))
			if c.kind == "" {
				if err != nil || string(out) != c.want {
					t.Errorf("got %q, %v", out, err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(e.Error(), c.want) {
				t.Fatalf("got %q, %v", out, err)
			}
		})
	}
}

func start(t *testing.T) *Child {
	t.Helper()
	c, err := Start(child, "behave", small())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A child does one piece of work after the other; what it refuses does not end it.
func TestManyRequests(t *testing.T) {
	c := start(t)
	pid := c.cmd.Process.Pid
	for i := range 20 {
		if out, err := c.Do(t.Context(), fmt.Appendf(nil, "echo %d", i)); err != nil || string(out) != strconv.Itoa(i) {
			t.Fatalf("%d: got %q, %v", i, out, err)
		}
		if _, err := c.Do(t.Context(), []byte("refuse it")); err == nil || err.Error() != "it" {
			t.Fatalf("%d: got %v", i, err)
		}
	}
	if !c.Fit() {
		t.Error("it is no longer fit")
	}
	c.Close()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("after Close there is still a process: %v", err)
	}
	if c.Fit() {
		t.Error("it is fit after its end")
	}
}

// A child that keeps much memory is not given more work: what the next piece may
// use must not depend on the one before.
func TestTired(t *testing.T) {
	c := start(t)
	if out, err := c.Do(t.Context(), []byte("keep")); err != nil || string(out) != "kept" {
		t.Fatalf("got %q, %v", out, err)
	}
	if c.Fit() {
		t.Error("it is given more work")
	}
}

// After a limit nothing of the child is left.
func TestEndedChildIsGone(t *testing.T) {
	l := small()
	l.Time = 100 * time.Millisecond
	c, err := Start(child, "behave", l)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), []byte("spin")); err == nil {
		t.Fatal("an answer")
	}
	if err := syscall.Kill(c.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("there is still a process: %v", err)
	}
	c.Close()
	var e *Error
	if _, err := c.Do(t.Context(), []byte("echo")); !errors.As(err, &e) || e.Kind != Failed {
		t.Errorf("work after its end: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := Run(ctx, child, "behave", small(), []byte("spin"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestNoProgram(t *testing.T) {
	_, err := Run(t.Context(), filepath.Join(t.TempDir(), "nothing"), "behave", small(), []byte("x"))
	var e *Error
	if !errors.As(err, &e) || e.Kind != Failed {
		t.Errorf("got %v", err)
	}
}

func TestWorkerByHand(t *testing.T) {
	work := map[string]Handler{"x": nil, "y": func([]byte) ([]byte, error) { return nil, nil }}
	for _, args := range [][]string{nil, {"y"}, {"x", "{}"}, {"z", "{}"}, {"y", "{"}, {"y", "{}"}} {
		if code := Main(args, work); code != exitSetup {
			t.Errorf("%q: exit %d", args, code)
		}
	}
	_, err := Run(t.Context(), child, "unknown", small(), []byte("x"))
	var e *Error
	if !errors.As(err, &e) || e.Kind != Failed || !strings.Contains(e.Text, "by its parent only") {
		t.Errorf("got %v", err)
	}
}
