package intent

import (
	"bytes"
	"strings"
	"testing"
	"testing/fstest"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/golden"
)

// Each case holds a repository. The file env names the environment; want/diag is what Load
// says; want/<dir>.json is what a package says ("root" for the top folder).
func TestLoad(t *testing.T) {
	golden.Run(t, "testdata", func(t *testing.T, c golden.Case) map[string][]byte {
		repo := fstest.MapFS{}
		for name, b := range c.In {
			if name != "env" {
				repo[name] = &fstest.MapFile{Data: b}
			}
		}
		tree, diags := source.Read(repo)
		in := &Intent{}
		if !diags.HasErrors() {
			var more diag.List
			in, more = Load(tree, Options{Environment: strings.TrimSpace(string(c.In["env"]))})
			diags = append(diags, more...)
		}
		got := map[string][]byte{"diag": render(diags.Sorted())}
		for _, p := range in.Packages {
			name := strings.ReplaceAll(p.Dir, "/", "_") + ".json"
			if p.Dir == "." {
				name = "root.json"
			}
			var err error
			if got[name], err = canon.JSON(p.Mesh.value); err != nil {
				t.Fatal(err)
			}
		}
		return got
	})
}

func render(l diag.List) []byte {
	var b bytes.Buffer
	for _, d := range l {
		b.WriteString(d.String() + "\n")
	}
	return b.Bytes()
}
