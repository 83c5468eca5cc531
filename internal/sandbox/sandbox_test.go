package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Word {
		os.Exit(Main(os.Args[2:], behave))
	}
	os.Exit(m.Run())
}

// behave is a child that does what its request says.
func behave(in []byte, progress func(string, bool)) ([]byte, error) {
	progress("done", true)
	progress("done", false)
	progress("a/b \"c\"\n", true)
	word, arg, _ := strings.Cut(string(in), " ")
	switch word {
	case "echo":
		return []byte(arg), nil
	case "refuse":
		return nil, errors.New(arg)
	case "panic":
		panic(arg)
	case "exit":
		os.Exit(7)
	case "env":
		return fmt.Appendf(nil, "%q", os.Environ()), nil
	case "big":
		return bytes.Repeat([]byte("x"), 3<<20), nil
	case "spin":
		for i := 0; ; i++ {
			runtime.KeepAlive(i)
		}
	case "sleep":
		select {}
	case "eat":
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = byte(i)
			}
			all = append(all, b)
			runtime.KeepAlive(all)
		}
	case "gulp":
		b := make([]byte, 4<<30)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		return b[:1], nil
	case "chatter":
		for range 2000 {
			fmt.Fprintln(os.Stderr, strings.Repeat("noise ", 5000))
		}
		return []byte("fine"), nil
	case "open":
		return nil, openMany(arg)
	}
	return nil, fmt.Errorf("unknown request %q", word)
}

func openMany(path string) error {
	for range 200 {
		if _, err := os.Open(path); err != nil {
			return err
		}
	}
	return nil
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
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
		{"open " + os.Args[0], nil, Refused, "too many open files", diag.CodeSandbox, true},
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
			out, err := Run(t.Context(), l, self(t), strings.NewReader(c.request))
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
	_, err := Run(ctx, small(), self(t), strings.NewReader("spin"))
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
	if code := Main(nil, behave); code != exitSetup {
		t.Errorf("without limits: exit %d", code)
	}
	if code := Main([]string{"{"}, behave); code != exitSetup {
		t.Errorf("with broken limits: exit %d", code)
	}
}
