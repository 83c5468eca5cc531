// Package examples_test keeps the examples true: each compiles without a
// problem, and what its test blocks promise holds.
package examples_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
)

func TestExamplesCompileAndKeepTheirPromises(t *testing.T) {
	intents, err := filepath.Glob("*/intent")
	if err != nil || len(intents) < 2 {
		t.Fatalf("found %v, %v", intents, err)
	}
	for _, dir := range intents {
		t.Run(filepath.Dir(dir), func(t *testing.T) {
			p, ds := compiler.Load(os.DirFS(dir), compiler.Options{At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
			for _, d := range ds {
				t.Error(d)
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
