package sandbox

import (
	"bytes"
	"io"
	"os/exec"
	"testing"
	"time"
)

// A child ends by itself when its parent's end of stdin closes, as it does when
// the parent is killed.
func TestChildDiesWithParent(t *testing.T) {
	arg, err := small().arg()
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	cmd := exec.CommandContext(t.Context(), child, Word, arg)
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = r, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(frame([]byte("sleep"))); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
		if cmd.ProcessState.ExitCode() != exitSetup {
			t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), errs.String())
		}
	case <-time.After(10 * time.Second):
		t.Error("the child outlives its parent")
	}
}
