package main

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"meshc.dev/meshc/internal/golden"
	"meshc.dev/meshc/internal/programs"
)

// TestScripts runs what a user types: each script is a folder of its own with real
// git, real signatures and the real programs. -update rewrites what `cmp` expects.
func TestScripts(t *testing.T) {
	bin := build(t)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"), Cmds: words(), UpdateScripts: golden.Updating(),
		RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error { return setup(e, bin) },
	})
}

// build makes the programs as users get them.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := programs.Into(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// setup gives a script people with keys, and a git that knows no settings of the
// machine. Keys and dates are fixed, so that hashes are the same everywhere.
func setup(e *testscript.Env, bin string) error {
	keys := filepath.Join(e.WorkDir, ".keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return fmt.Errorf("making the folder of keys: %w", err)
	}
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
		return fmt.Errorf("writing the program that signs: %w", err)
	}
	e.Values[registries{}] = map[string]*httptest.Server{}
	for k, v := range map[string]string{
		"KEYS": keys, "SIGNER": signer,
		"PATH": bin + string(filepath.ListSeparator) + e.Getenv("PATH"),
		"HOME": e.WorkDir, "STATE_DIRECTORY": filepath.Join(e.WorkDir, "meshc-state"), "XDG_CACHE_HOME": filepath.Join(e.WorkDir, ".cache"), "LC_ALL": "C", "NO_COLOR": "1",
		"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.DevNull, "GIT_TERMINAL_PROMPT": "0", "GIT_CEILING_DIRECTORIES": filepath.Dir(e.WorkDir),
	} {
		e.Setenv(k, v)
	}
	return nil
}
