// Package demo tells meshc's story with real parts, step by step.
//
// In: the programs to use (meshc, meshc-agent, Envoy, git) and a place to write
// to. Out: a narration in which each step prints the commands that it ran, their
// exit codes, and what was measured at that moment; an error if something did not
// hold. It runs the user's own commands on a real Git repository in a temporary
// folder. Whatever it started is stopped in reverse order when it ends, also by
// an interrupt, and the folder is removed.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/demo/narrate"
	"meshc.dev/meshc/internal/envoybin"
)

// Options says how the story is told. Zero fields have defaults, except for Out.
type Options struct {
	Meshc     string       // the meshc binary; empty = this program
	Agent     string       // the meshc-agent binary; empty = beside Meshc, on PATH, or built here
	Envoy     string       // an Envoy by path; empty = found or fetched
	EnvoyDir  string       // cache folder of fetched Envoys; empty = the default
	Fast      bool         // fewer requests, no pauses
	Keep      bool         // leave everything running until ctx ends
	Out       io.Writer    // the narration
	Color     bool         // Out is a terminal that wants colour
	Log       *slog.Logger // what goes wrong beside the story; nil = silent
	SourceDir string       // meshc's own source, to build the agent from; empty = the working directory, if it is that
}

// stepLimit ends a step that hangs.
const stepLimit = 3 * time.Minute

// Run tells the story. When ctx ends, it stops at once and cleans up.
func Run(ctx context.Context, o Options) (err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n := narrate.New(o.Out, o.Color)
	start := time.Now()
	w, err := newWorld(ctx, o, n)
	if err != nil {
		return err
	}
	defer w.close()
	steps := story()
	for i, s := range steps {
		n.Title(i+1, len(steps), s.Title)
		if err := tell(ctx, w, s); err != nil {
			if ctx.Err() != nil {
				n.Say("Interrupted; stopping what was started.")
				return ctx.Err()
			}
			n.Failed(err)
			n.Logs(w.logs())
			if o.Keep {
				w.wait(ctx)
			}
			return fmt.Errorf("step %d (%s): %w", i+1, s.Title, err)
		}
	}
	n.Say("All %d steps held, in %v.", len(steps), time.Since(start).Round(time.Second))
	if o.Keep {
		w.wait(ctx)
	}
	return nil
}

func tell(ctx context.Context, w *World, s Step) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	evidence, err := s.Run(ctx, w)
	if err == nil {
		err = w.alive()
	}
	if evidence != "" {
		w.out.Measured(evidence)
	}
	return err
}

// tools are the programs of the story.
type tools struct {
	meshc, agent, git string
	envoy             envoybin.Binary
}

func findTools(ctx context.Context, o Options, dir string, n *narrate.Narrator) (t tools, err error) {
	if t.git, err = exec.LookPath("git"); err != nil {
		return t, errors.New("the demo needs git on PATH: install it and try again")
	}
	if t.meshc = o.Meshc; t.meshc == "" {
		if t.meshc, err = os.Executable(); err != nil {
			return t, fmt.Errorf("finding meshc: %w", err)
		}
	}
	if t.meshc, err = filepath.Abs(t.meshc); err != nil {
		return t, fmt.Errorf("finding meshc: %w", err)
	}
	if t.agent, err = findAgent(ctx, o, t.meshc, dir, n); err != nil {
		return t, err
	}
	t.envoy, err = envoybin.Find(ctx, envoybin.Options{Path: o.Envoy, CacheDir: o.EnvoyDir, Download: true, Log: o.Log})
	return t, err
}

// findAgent looks beside meshc and on PATH before it builds the agent.
func findAgent(ctx context.Context, o Options, meshc, dir string, n *narrate.Narrator) (string, error) {
	if o.Agent != "" {
		return filepath.Abs(o.Agent)
	}
	beside := filepath.Join(filepath.Dir(meshc), "meshc-agent")
	if st, err := os.Stat(beside); err == nil && st.Mode()&0o111 != 0 {
		return beside, nil
	}
	if path, err := exec.LookPath("meshc-agent"); err == nil {
		return filepath.Abs(path)
	}
	src := o.SourceDir
	if src == "" {
		src = "."
	}
	if _, err := os.Stat(filepath.Join(src, "cmd", "meshc-agent", "main.go")); err != nil {
		return "", errors.New("the demo needs meshc-agent beside meshc or on PATH: go install meshc.dev/meshc/cmd/meshc-agent, or run `make demo`")
	}
	n.Say("Building meshc-agent.")
	out := filepath.Join(dir, "bin", "meshc-agent")
	res, err := child.Run(ctx, child.Spec{Path: "go", Dir: src, Args: []string{"build", "-o", out, "./cmd/meshc-agent"}}, 0)
	if err != nil {
		return "", err
	}
	if !res.OK() {
		return "", fmt.Errorf("building meshc-agent: %s", res.Stderr)
	}
	return out, nil
}
