package sandbox

import (
	"io"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A child ends by itself when its parent's end of stdin closes, as it does when
// the parent is killed, whatever it is doing.
func TestChildDiesWithParent(t *testing.T) {
	arg, err := small().arg()
	if err != nil {
		t.Fatal(err)
	}
	for _, work := range []string{"", "sleep", "spin"} {
		r, w := io.Pipe()
		cmd := exec.CommandContext(t.Context(), child, Word, "behave", arg)
		cmd.Stdin = r
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if work != "" {
			if err := writeFrame(w, []byte(work)); err != nil {
				t.Fatal(err)
			}
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%q: %v", work, err)
			}
		case <-time.After(time.Minute):
			t.Errorf("%q: the child outlives its parent", work)
		}
	}
}

// What a terminal sends to the processes in front does not reach a child.
func TestChildIsInAGroupOfItsOwn(t *testing.T) {
	c, err := Start(child, "behave", small())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	group, err := syscall.Getpgid(c.cmd.Process.Pid)
	if err != nil || group != c.cmd.Process.Pid {
		t.Errorf("group %d of process %d, %v", group, c.cmd.Process.Pid, err)
	}
}
