package compiler_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/tools/txtar"

	"meshc.dev/meshc/internal/golden"
)

// What a plan says of a change, in cases of intent as people write it.
func TestPlans(t *testing.T) {
	golden.Run(t, "testdata/plan", func(t *testing.T, c golden.Case) map[string][]byte {
		w := parseWhole(c)
		p, ds := w.load(t, w.files, w.opts["at"])
		if p == nil {
			return map[string][]byte{"diag": text(ds)}
		}
		return map[string][]byte{"plan": w.plan(t, p), "diag": text(ds)}
	})
}

// The examples of the document are those of the cases.
func TestPlanDocumentShowsTheCases(t *testing.T) {
	file := filepath.Join("..", "docs", "plan.md")
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)<!-- compiler/(testdata/(?:plan|sixty)/[a-z-]+\\.txtar) -->\n```text\n.*?```\n")
	shown := 0
	doc = example.ReplaceAllFunc(doc, func(b []byte) []byte {
		name := example.FindSubmatch(b)[1]
		a, err := txtar.ParseFile(filepath.FromSlash(string(name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			if f.Name == golden.Want+"plan" {
				shown++
				return bytes.Join([][]byte{[]byte("<!-- compiler/"), name, []byte(" -->\n```text\n"), f.Data, []byte("```\n")}, nil)
			}
		}
		return b
	})
	if shown != 5 {
		t.Errorf("%d examples, want 5", shown)
	}
	golden.File(t, file, doc)
}
