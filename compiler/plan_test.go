package compiler_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"
	"testing/fstest"

	"golang.org/x/tools/txtar"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/internal/space"
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

// A request that is put to a proxy by itself shows what becomes of it on both sides: where there is no such service, nobody
// has denied it.
func TestWitnessesSayWhatIsNotThere(t *testing.T) {
	const app = "mesh: service: app: {port: http: number: 80, grant: all: mesh: true}\n"
	with := func(text string) *compiler.Program {
		p, ds := compiler.Load(fstest.MapFS{
			"mesh.cue":      {Data: []byte(plainRoot)},
			"shop/shop.cue": {Data: []byte("package shop\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: namespace: \"shop\"\n" + text)},
		}, compiler.Options{})
		if ds.HasErrors() {
			t.Fatal(ds.Err())
		}
		return p
	}
	none, one := with(""), with(app)
	for _, x := range []struct{ before, after *compiler.Program }{{none, one}, {one, none}} {
		c, err := compiler.Compare(x.before, x.after, compiler.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		shown := 0
		for _, l := range c.Lines {
			if w := l.Witness; w != nil && l.Access != nil && w.Direct {
				shown++
				was, is := space.NotRouted(), space.Outcome{Verdict: space.Forward}
				if !l.Access.Gained {
					was, is = is, was
				}
				if !reflect.DeepEqual(w.Before, was) || !reflect.DeepEqual(w.After, is) {
					t.Errorf("%s: shows %+v → %+v", l.Text, w.Before, w.After)
				}
			}
		}
		if shown == 0 {
			t.Errorf("no line shows such a request: %+v", c.Lines)
		}
	}
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
