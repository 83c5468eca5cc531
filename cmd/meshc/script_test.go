package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"meshc.dev/meshc/internal/golden"
)

// TestMain makes the test binary pass for meshc in the scripts, children with
// limits included.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"meshc": main})
}

// TestScripts runs what a user types: each script is a folder of its own with real
// git, real signatures and the whole of meshc. -update rewrites what `cmp` expects.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"), Cmds: words(), Setup: setup, UpdateScripts: golden.Updating(),
		RequireExplicitExec: true, RequireUniqueNames: true,
	})
}

// setup gives a script people with keys, and a git that knows no settings of the
// machine. Keys and dates are fixed, so that hashes are the same everywhere.
func setup(e *testscript.Env) error {
	keys := filepath.Join(e.WorkDir, ".keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return err
	}
	e.Setenv("KEYS", keys)
	for _, who := range []string{"alice", "bob", "mallory"} {
		public, err := writeKey(filepath.Join(keys, who), who)
		if err != nil {
			return err
		}
		e.Setenv(strings.ToUpper(who), public)
	}
	// Git signs with the stand-in for ssh-keygen, which not every machine has.
	signer := filepath.Join(keys, "signer")
	if err := os.WriteFile(signer, []byte("#!/bin/sh\nexec meshc demo sign \"$@\"\n"), 0o700); err != nil {
		return err
	}
	e.Setenv("SIGNER", signer)
	for k, v := range map[string]string{
		"GORACE": "atexit_sleep_ms=0", // a second after each command otherwise
		"HOME":   e.WorkDir, "XDG_CACHE_HOME": filepath.Join(e.WorkDir, ".cache"), "LC_ALL": "C", "NO_COLOR": "1",
		"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.DevNull, "GIT_TERMINAL_PROMPT": "0", "GIT_CEILING_DIRECTORIES": filepath.Dir(e.WorkDir),
	} {
		e.Setenv(k, v)
	}
	return nil
}
