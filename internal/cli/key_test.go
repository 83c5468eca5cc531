package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A program that asks for a passphrase ends, whatever it says or does not say, and
// whatever it started.
func TestAskpassEnds(t *testing.T) {
	for name, c := range map[string]struct {
		script, pass, problem string
		wait                  time.Duration
	}{
		"answers":         {script: "echo secret", pass: "secret"},
		"refuses":         {script: "exit 1", problem: "exit status 1"},
		"without end":     {script: "exec yes", problem: "it says more than 4096 bytes"},
		"in one line":     {script: "exec cat /dev/zero", problem: "it says more than 4096 bytes"},
		"silent":          {script: "exec sleep 600", problem: "nobody is there", wait: 200 * time.Millisecond},
		"left behind":     {script: "sleep 20 & wait", problem: "nobody is there", wait: 200 * time.Millisecond},
		"deaf to signals": {script: "trap '' TERM INT; while :; do sleep 1; done", problem: "nobody is there", wait: 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			helper := filepath.Join(t.TempDir(), "askpass")
			if err := os.WriteFile(helper, []byte("#!/bin/sh\n"+c.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			ctx := context.Background()
			if c.wait > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, c.wait, errors.New("nobody is there"))
				defer cancel()
			}
			pass, err := askpass(ctx, helper, "Passphrase: ")
			if c.problem == "" {
				if err != nil || string(pass) != c.pass {
					t.Errorf("%q, %v", pass, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%q, %v; want %q", pass, err, c.problem)
			}
		})
	}
}
