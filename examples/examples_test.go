// Package examples_test keeps the examples true: each compiles without a
// problem, and what its test blocks promise holds.
package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/golden"
)

// example is an intent for one of its environments.
type example struct{ name, env string }

func (e example) String() string { return e.name + "/" + e.env }

// release is the folder with what it compiles to.
func (e example) release() string {
	if e.env == home {
		return filepath.Join(e.name, "release")
	}
	return filepath.Join(e.name, "release-"+e.env)
}

func (e example) load() (*compiler.Program, diag.List) {
	return compiler.Load(os.DirFS(filepath.Join(e.name, "intent")), compiler.Options{Environment: e.env, At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
}

// meant is what an example is told on purpose: Bookinfo's report calls ratings, whose owner
// has granted it nothing. That is a part of its story.
func (e example) meant(d diag.Diagnostic) bool {
	return e.name == "bookinfo" && d.Code == diag.CodeRefused && d.Pos.File == "reports/reports.cue"
}

// home is the environment that every example has: one machine.
const home = "local"

func examples(t *testing.T) []example {
	t.Helper()
	dirs, err := filepath.Glob("*/intent/environments/*")
	if err != nil || len(dirs) < 3 {
		t.Fatalf("found %v, %v", dirs, err)
	}
	var out []example
	for _, dir := range dirs {
		name, _, _ := strings.Cut(filepath.ToSlash(dir), "/")
		out = append(out, example{name, filepath.Base(dir)})
	}
	return out
}

func TestExamplesCompileAndKeepTheirPromises(t *testing.T) {
	for _, e := range examples(t) {
		t.Run(e.String(), func(t *testing.T) {
			p, ds := e.load()
			for _, d := range ds {
				if !e.meant(d) {
					t.Error(d)
				}
			}
			if p == nil {
				t.FailNow()
			}
			r, ds := p.Release()
			for _, d := range ds {
				t.Error(d)
			}
			if len(r.Classes()) < 3 {
				t.Errorf("only %d proxy classes", len(r.Classes()))
			}
			results := p.Test()
			if len(results) == 0 {
				t.Error("no test block")
			}
			for _, res := range results {
				if res.Failure != "" {
					t.Errorf("%s: %s: %s", res.Pos, res.Name, res.Failure)
				}
			}
		})
	}
}

// The compiled form beside each intent is what this compiler makes of it, byte
// for byte, and whole.
func TestReleasesAreUpToDate(t *testing.T) {
	for _, e := range examples(t) {
		t.Run(e.String(), func(t *testing.T) {
			p, ds := e.load()
			if err := ds.Err(); err != nil {
				t.Fatal(err)
			}
			r, ds := p.Release()
			if err := ds.Err(); err != nil {
				t.Fatal(err)
			}
			committed := e.release()
			if golden.Updating() {
				if err := release.WriteDir(r, committed); err != nil {
					t.Fatal(err)
				}
			}
			old, err := release.ReadDir(os.DirFS(committed))
			if err != nil {
				t.Fatalf("%v (-update rewrites)", err)
			}
			fresh := filepath.Join(t.TempDir(), "release")
			if err := release.WriteDir(r, fresh); err != nil {
				t.Fatal(err)
			}
			for _, c := range release.Diff(old, r) {
				t.Errorf("%s %s (-update rewrites)", c.Kind, c.Path)
			}
			for _, f := range []string{"manifest.json", "provenance.json"} {
				want, got := read(t, committed, f), read(t, fresh, f)
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%s differs (-want +got, -update rewrites):\n%s", f, d)
				}
			}
		})
	}
}

// The picture beside each intent is what `meshc graph -o svg` draws.
func TestPicturesAreUpToDate(t *testing.T) {
	for _, e := range examples(t) {
		if e.env != home {
			continue
		}
		p, ds := e.load()
		if err := ds.Err(); err != nil {
			t.Fatal(err)
		}
		g, err := p.Graph()
		if err != nil {
			t.Fatal(err)
		}
		want, err := g.Render("svg")
		if err != nil {
			t.Fatal(err)
		}
		if golden.Updating() {
			if err := os.WriteFile(filepath.Join(e.name, "graph.svg"), []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(want, read(t, e.name, "graph.svg")); d != "" {
			t.Errorf("%s/graph.svg differs (-want +got, -update rewrites):\n%s", e.name, d)
		}
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
