package child_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"meshc.dev/meshc/internal/child"
)

func TestRunTellsHowAProgramEnded(t *testing.T) {
	for _, c := range []struct {
		script string
		limit  time.Duration
		want   child.Output
	}{
		{"echo out; echo err >&2", 0, child.Output{Stdout: []byte("out\n"), Stderr: []byte("err\n")}},
		{"exit 7", 0, child.Output{Code: 7}},
		{"kill -ABRT $$", 0, child.Output{Code: -1, Signal: syscall.SIGABRT}},
		{"sleep 60", 50 * time.Millisecond, child.Output{Code: -1, Signal: syscall.SIGKILL, TimedOut: true}},
	} {
		got, err := child.Run(t.Context(), child.Spec{Path: "sh", Args: []string{"-c", c.script}}, c.limit)
		if err != nil {
			t.Fatalf("%s: %v", c.script, err)
		}
		if string(got.Stdout) != string(c.want.Stdout) || string(got.Stderr) != string(c.want.Stderr) ||
			got.Code != c.want.Code || got.Signal != c.want.Signal || got.TimedOut != c.want.TimedOut {
			t.Errorf("%s: got %+v, want %+v", c.script, got, c.want)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := child.Run(ctx, child.Spec{Path: "sleep", Args: []string{"60"}}, 0)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestStopLeavesNoGrandchild(t *testing.T) {
	dir := t.TempDir()
	pids := filepath.Join(dir, "pids")
	// Neither the shell nor its child obeys SIGTERM.
	c, err := child.Start(child.Spec{Path: "sh", Dir: dir, Args: []string{"-c",
		`trap '' TERM; sleep 300 & echo $! > pids.tmp; mv pids.tmp pids; wait; wait`}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop(0)
	var grandchild int
	eventually(t, func() bool {
		b, err := os.ReadFile(pids)
		if err != nil {
			return false
		}
		grandchild, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil
	})
	c.Stop(20 * time.Millisecond)
	if c.Err() == nil {
		t.Error("a killed program counts as a clean end")
	}
	eventually(t, func() bool { return !alive(grandchild) })
	c.Stop(0) // again: harmless
}

// alive is false for a process that is gone or only waits to be reaped by init.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute")
		}
	}
}

func TestSpecReadsLikeACommandLine(t *testing.T) {
	s := child.Spec{Path: "meshc", Args: []string{"rollback", "--reason", "it's bad", ""}}
	if got, want := s.String(), `meshc rollback --reason 'it'\''s bad' ''`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
