package importer_test

import (
	"slices"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/golden"
	"meshc.dev/meshc/internal/importer"
)

// answering is who answers in those cases that have a file "answer".
var answering = importer.Answer{Owner: "platform", Reason: "moving in", Until: "2027-01-01T00:00:00Z"}

// Each case is a file of objects; what is told of it, and the intent.
func TestIstio(t *testing.T) {
	golden.Run(t, "testdata/istio", func(t *testing.T, c golden.Case) map[string][]byte {
		var in []importer.Input
		var answer importer.Answer
		for _, name := range sortedNames(c.In) {
			if name == "answer" {
				answer = answering
				continue
			}
			in = append(in, importer.Input{Name: name, Text: c.In[name]})
		}
		res, err := importer.Istio(in, answer, check)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(in)
		if again, err := importer.Istio(in, answer, check); err != nil || !slices.EqualFunc(again.Files, res.Files, func(a, b importer.File) bool { return a.Path == b.Path && string(a.Text) == string(b.Text) }) {
			t.Errorf("the intent depends on the order of the files, or on chance: %v", err)
		}
		out := map[string][]byte{}
		for _, f := range res.Files {
			if f.Path != "cue.mod/module.cue" {
				out["intent"] = append(out["intent"], "// "+f.Path+"\n"+string(f.Text)...)
			}
		}
		for _, d := range res.Findings {
			out["diag"] = append(out["diag"], d.String()+"\n"...)
			if d.Fix == "" || strings.Contains(d.Text, "%!") || d.Pos.File == "" {
				t.Errorf("%s: %q has no way out, or no place", d.Code, d.Text)
			}
		}
		if ds, err := check(res.Files); len(res.Files) > 0 && (err != nil || ds.HasErrors()) {
			t.Errorf("the intent does not compile: %v %v", ds, err)
		}
		return out
	})
}
