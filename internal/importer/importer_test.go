package importer_test

import (
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/golden"
	"meshc.dev/meshc/internal/importer"
)

func folder(files []importer.File) fs.FS {
	out := fstest.MapFS{}
	for _, f := range files {
		out[f.Path] = &fstest.MapFile{Data: f.Text}
	}
	return out
}

// load compiles intent.
func load(files []importer.File) (*compiler.Program, diag.List) {
	return compiler.Load(folder(files), compiler.Options{Environment: "prod", At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
}

func check(files []importer.File) (diag.List, error) {
	p, ds := load(files)
	if p != nil {
		_, more := p.Release()
		ds = append(ds, more...)
	}
	return ds, nil
}

// Each case is a file of objects; what is told of it, and the intent.
func TestGatewayAPI(t *testing.T) {
	golden.Run(t, "testdata/gateway-api", func(t *testing.T, c golden.Case) map[string][]byte {
		var in []importer.Input
		for _, name := range sortedNames(c.In) {
			in = append(in, importer.Input{Name: name, Text: c.In[name]})
		}
		res, err := importer.GatewayAPI(in, check)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(in)
		if again, err := importer.GatewayAPI(in, check); err != nil || !slices.EqualFunc(again.Files, res.Files, func(a, b importer.File) bool { return a.Path == b.Path && string(a.Text) == string(b.Text) }) {
			t.Errorf("the intent depends on the order of the files: %v", err)
		}
		out := map[string][]byte{}
		for _, f := range res.Files {
			if f.Path != "mesh.cue" && f.Path != "cue.mod/module.cue" {
				out["intent"] = append(out["intent"], "// "+f.Path+"\n"+string(f.Text)...)
			}
		}
		for _, d := range res.Findings {
			out["diag"] = append(out["diag"], d.String()+"\n"...)
			if d.Fix == "" || strings.Contains(d.Text, "%!") {
				t.Errorf("%s: %q has no way out", d.Code, d.Text)
			}
		}
		if ds, err := check(res.Files); len(res.Files) > 0 && (err != nil || ds.HasErrors()) {
			t.Errorf("the intent does not compile: %v %v", ds, err)
		}
		return out
	})
}

func sortedNames(m map[string][]byte) []string { return slices.Sorted(maps.Keys(m)) }
