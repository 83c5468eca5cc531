package examples_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/golden"
)

// small are the examples that are read and tried, and need no places on one machine.
func small(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("*/intent/mesh.cue")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, file := range all {
		name, _, _ := strings.Cut(filepath.ToSlash(file), "/")
		if _, err := os.Stat(filepath.Join(name, "intent", "environments")); os.IsNotExist(err) {
			out = append(out, name)
		}
	}
	if len(out) < 11 {
		t.Fatalf("only %q", out)
	}
	return out
}

// Each small example compiles without a problem, keeps its promises, has a README that shows its
// picture, and beside it what it compiles to: the resources of each proxy, by the beginnings of their
// digests.
func TestSmallExamples(t *testing.T) {
	for _, name := range small(t) {
		t.Run(name, func(t *testing.T) {
			p, ds := compiler.Load(os.DirFS(filepath.Join(name, "intent")), compiler.Options{At: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)})
			if p == nil {
				t.Fatal(ds)
			}
			r, more := p.Release()
			for _, d := range append(ds, more...) {
				if d.Severity != diag.Note {
					t.Error(d)
				}
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
			golden.File(t, filepath.Join(name, "compiled.txt"), outline(t, r))
			g, err := p.Graph()
			if err != nil {
				t.Fatal(err)
			}
			picture, err := g.Render("svg")
			if err != nil {
				t.Fatal(err)
			}
			golden.File(t, filepath.Join(name, "graph.svg"), []byte(picture))
			if text := read(t, name, "README.md"); !strings.Contains(text, "](graph.svg)") || !strings.Contains(text, "meshc vet examples/"+name+"/intent") {
				t.Error("its README shows no picture, or not how it is tried")
			}
		})
	}
}

// outline is what each proxy gets.
func outline(t *testing.T, r release.Release) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("What `meshc compile` makes of it: the resources of each proxy, and how their digests begin.\n")
	for _, c := range r.Classes() {
		s, err := r.Snapshot(c)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\n%s\n", c)
		for _, typ := range release.Types() {
			for _, x := range s.Resources[typ] {
				fmt.Fprintf(&b, "  %-19s %.12s  %s\n", typ[strings.LastIndexByte(typ, '.')+1:], x.Digest, x.Name)
			}
		}
	}
	return b.Bytes()
}
