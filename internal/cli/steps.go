package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/sandbox"
)

// workRequest is what the child gets: the files of a commit as plain bytes.
type workRequest struct {
	Files       map[string][]byte `json:"files"`
	Environment string            `json:"environment"`
	At          time.Time         `json:"at"`
	// Cache is set if packages are only to be evaluated, into this folder.
	Cache string `json:"cache,omitempty"`
}

// workAnswer is what it gives back: the releases, or why there are none.
type workAnswer struct {
	Steps    []workStep `json:"steps,omitempty"`
	Problems diag.List  `json:"problems,omitempty"`
}

type workStep struct {
	From       time.Time          `json:"from"`
	Artifacts  []release.Artifact `json:"artifacts"`
	Inputs     release.Inputs     `json:"inputs"`
	Provenance release.Provenance `json:"provenance"`
}

// compileApart compiles a commit's tree in a child process with limits: nobody
// vouches for it yet. argv0 is this program.
func compileApart(argv0 string) func(context.Context, fs.FS, string, time.Time) ([]approval.Step, error) {
	return func(ctx context.Context, tree fs.FS, env string, at time.Time) ([]approval.Step, error) {
		files, err := intentFiles(tree)
		if err != nil {
			return nil, err
		}
		in, err := json.Marshal(workRequest{Files: files, Environment: env, At: at})
		if err != nil {
			return nil, fmt.Errorf("writing the request for the child: %w", err)
		}
		out, err := sandbox.Run(ctx, limits(len(in)), argv0, bytes.NewReader(in))
		if err != nil {
			return nil, fmt.Errorf("compiling apart: %w", err)
		}
		var ans workAnswer
		if err := json.Unmarshal(out, &ans); err != nil {
			return nil, fmt.Errorf("reading the child's answer: %w", err)
		}
		if err := ans.Problems.Err(); err != nil {
			return nil, err
		}
		return ans.steps()
	}
}

// steps seals what the child compiled; its digests are computed here.
func (w workAnswer) steps() ([]approval.Step, error) {
	var out []approval.Step
	for _, s := range w.Steps {
		r, err := release.Seal(s.Artifacts, s.Inputs, s.Provenance)
		if err != nil {
			return nil, err
		}
		out = append(out, approval.Step{From: s.From, Release: r})
	}
	return out, nil
}

// intentFiles reads the files that a compile may look at.
func intentFiles(tree fs.FS) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if ext := path.Ext(p); ext != ".cue" && ext != ".rego" {
			return nil
		}
		b, err := fs.ReadFile(tree, p)
		files[p] = b
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the commit's files: %w", err)
	}
	return files, nil
}

// Worker is the child of compileApart; args are the arguments behind sandbox.Word.
func Worker(args []string) int {
	return sandbox.Main(args, func(in []byte, progress func(string, bool)) ([]byte, error) {
		var q workRequest
		if err := json.Unmarshal(in, &q); err != nil {
			return nil, fmt.Errorf("reading the request: %w", err)
		}
		fsys := fstest.MapFS{}
		for name, b := range q.Files {
			fsys[name] = &fstest.MapFile{Data: b, Mode: 0o444}
		}
		if q.Cache != "" {
			return fillCache(fsys, q, progress)
		}
		ans, err := compileAll(context.Background(), fsys, q, progress)
		if err != nil {
			return nil, err
		}
		return json.Marshal(ans)
	})
}

// compileAll compiles a tree for its own date and for one second after each later
// end of something temporary. Only expiry makes the steps differ.
func compileAll(ctx context.Context, tree fs.FS, q workRequest, progress func(string, bool)) (workAnswer, error) {
	var ans workAnswer
	instants := []time.Time{{}}
	for i := 0; i < len(instants); i++ {
		when := q.At
		if i > 0 {
			when = instants[i]
		}
		p, r, ds, err := compilePassed(ctx, tree, q.Environment, when, func(_ context.Context, fsys fs.FS, o compiler.Options) (*compiler.Program, diag.List, error) {
			o.Progress = progress
			p, ds := compiler.Load(fsys, o)
			return p, ds, nil
		})
		if err != nil {
			return workAnswer{}, err
		}
		if ds.HasErrors() {
			return workAnswer{Problems: ds}, nil
		}
		if i == 0 {
			for _, end := range p.Expiries() {
				instants = append(instants, end.Add(time.Second))
			}
		}
		s := workStep{From: instants[i], Inputs: r.Manifest().Inputs, Provenance: r.Provenance()}
		for _, path := range r.Paths() {
			b, _ := r.Artifact(path)
			s.Artifacts = append(s.Artifacts, release.Artifact{Path: path, Bytes: b})
		}
		ans.Steps = append(ans.Steps, s)
	}
	return ans, nil
}

// self is this program's path, for children of its own kind.
func self() (string, error) {
	p, err := os.Executable()
	if err != nil {
		return "", errors.New("cannot find this program's own file to start a child: " + err.Error())
	}
	return p, nil
}
