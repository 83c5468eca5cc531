package intent

import (
	"testing"

	"meshc.dev/meshc/compiler/internal/source"
)

// Load must end with a value or with problems that have a code, whatever the
// bytes. Text that is long or that multiplies is left out: its cost is bounded
// by the child process, not here.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		"mesh: service: web: port: http: number: 80", "mesh: service: web: {", "mesh: \"\\(x)\": 3", "mesh: {...}", "#A: {a: #A}\nmesh: #A", "for x in [1, 2] {mesh: (\"a\\(x)\"): x}",
		"mesh: owner: *\"a\" | \"b\"", "mesh: [string]: 3", "let x = mesh\nmesh: y: x", "mesh: service: \"a.b\\\"c\": {port: {}}", "mesh: test: \"\": 3",
	} {
		f.Add(s, "mesh: owner: \"b\"")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a)+len(b) > 300 {
			return
		}
		head := "package p\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n"
		tree := source.Tree{Files: map[string][]byte{"p/a.cue": []byte(head + a), "p/b.cue": []byte("package p\n" + b), "q/c.cue": []byte(b)}}
		in, l := Load(tree, Options{Workers: 1})
		if in == nil {
			t.Fatal("no intent")
		}
		for _, d := range l {
			if d.Code == "" || d.Text == "" {
				t.Errorf("a problem without code or text: %v", d)
			}
		}
		if len(in.Packages) > 0 {
			sameAsCUE(t, tree)
		}
	})
}
