package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
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
	return Limits{Wall: 20 * time.Second, CPU: 30 * time.Second, Data: 256 << 20, Heap: 128 << 20, Input: 1 << 20, Output: 2 << 20}
}

func TestRun(t *testing.T) {
	cases := []struct {
		request string
		limits  func(*Limits)
		kind    Kind // "" means an answer
		want    string
		code    diag.Code
		linux   bool // the system itself must keep the limit
	}{
		{"echo hello", nil, "", "hello", "", false},
		{"echo ", nil, "", "", "", false},
		{"env", nil, "", "[]", "", false},
		{"chatter", nil, "", "fine", "", false},
		{"refuse no\nway", nil, Refused, "no\nway", diag.CodeSandbox, false},
		{"panic aaargh", nil, Crashed, "panic: aaargh", diag.CodeSandbox, false},
		{"exit", nil, Crashed, "exit status 7", diag.CodeSandbox, false},
		{"big", nil, Output, "more than 2 MiB", diag.CodeOutputLimit, false},
		{"sleep", func(l *Limits) { l.Wall = 300 * time.Millisecond }, Time, "longer than 300ms", diag.CodeTimeLimit, false},
		{"spin", func(l *Limits) { l.CPU = time.Second }, CPU, "more than 1s of CPU", diag.CodeTimeLimit, true},
		{"spin", func(l *Limits) { l.Wall = time.Second }, Time, "longer than 1s", diag.CodeTimeLimit, false},
		{"eat", nil, Memory, "more than 256 MiB", diag.CodeMemoryLimit, false},
		{"gulp", nil, Memory, "more than 256 MiB", diag.CodeMemoryLimit, false},
		{"open /dev/null", nil, Refused, "too many open files", diag.CodeSandbox, true},
		{"echo " + strings.Repeat("x", 1<<20), nil, Failed, "larger than", diag.CodeSandbox, false},
	}
	for _, c := range cases {
		if c.linux && !enforced {
			continue // this system keeps no such limit, and Warning says so
		}
		t.Run(c.request[:min(len(c.request), 12)], func(t *testing.T) {
			t.Parallel()
			l := small()
			if c.limits != nil {
				c.limits(&l)
			}
			out, err := Run(t.Context(), l, child, strings.NewReader(c.request))
			if c.kind == "" {
				if err != nil || string(out) != c.want {
					t.Errorf("got %q, %v", out, err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(e.Error(), c.want) || e.Diagnostic().Code != c.code {
				t.Fatalf("got %q, %v", out, err)
			}
			// Only what was begun and not ended is named.
			if c.kind != Failed && (len(e.Subjects) != 1 || e.Subjects[0] != "a/b \"c\"\n") {
				t.Errorf("subjects %q", e.Subjects)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := Run(ctx, small(), child, strings.NewReader("spin"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestNoProgram(t *testing.T) {
	_, err := Run(t.Context(), small(), filepath.Join(t.TempDir(), "nothing"), strings.NewReader(""))
	var e *Error
	if !errors.As(err, &e) || e.Kind != Failed {
		t.Errorf("got %v", err)
	}
}

func TestWorkerByHand(t *testing.T) {
	if code := Main(nil, nil); code != exitSetup {
		t.Errorf("without limits: exit %d", code)
	}
	if code := Main([]string{"{"}, nil); code != exitSetup {
		t.Errorf("with broken limits: exit %d", code)
	}
}
