package intent

import (
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/tools/txtar"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

// Reading literals from the syntax must give what CUE gives, wherever CUE finds
// the package valid.
func sameAsCUE(t *testing.T, tree source.Tree) (literal, all int) {
	t.Helper()
	l, _ := newLayout(tree)
	for _, u := range l.units("prod") {
		files, res := l.parseUnit(u)
		if res.diags.HasErrors() || res.library {
			continue
		}
		inst, _ := l.instance(u, files, res.name, schemas.Files())
		red := newReducer(l, res.pos)
		v, diags := valid(inst, red)
		if diags.HasErrors() || checkBound(u, files).HasErrors() {
			continue
		}
		want, diags := computed(v, red)
		got, ok := literalMesh(files)
		all++
		if !ok {
			continue
		}
		literal++
		if diags.HasErrors() || !reflect.DeepEqual(got, want) {
			t.Errorf("package %q: from the syntax %v, from CUE %v %v", u.dir, got, want, diags)
		}
	}
	return literal, all
}

func TestLiteralsMatchCUE(t *testing.T) {
	trees := []source.Tree{mesh(40)}
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		ar, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tree := source.Tree{Files: map[string][]byte{}}
		for _, f := range ar.Files {
			tree.Files[f.Name] = f.Data
		}
		trees = append(trees, tree)
	}
	for _, body := range []string{
		`mesh: owner: "a" & "a"`, `mesh: {owner: "a"} & {namespace: "b"}`, `mesh: owner: "\u0061"`, "mesh: owner: \"\"\"\n\ta\n\t\"\"\"", `mesh: owner: #"a"#`,
		`mesh: service: a: port: x: number: 0x50`, `mesh: service: a: port: x: number: 8_0`, `mesh: service: a: port: x: number: 1K`, `mesh: service: a: port: x: number: 80.0`,
		`mesh: owner?: "a"`, `mesh: owner: *"a" | "b"`, `mesh: service: [string]: port: x: number: 80`, "mesh: service: [string]: port: x: number: 80\nmesh: service: a: {}",
		`mesh: service: X=a: port: x: number: 80`, `mesh: {_x: 3, owner: "a"}`, `mesh: {let x = "a", owner: x}`, `mesh: {{owner: "a"}}`, `mesh: owner: "caf\u00e9"`, "mesh: owner: \"café\"",
		"mesh: owner: \"a\"\nmesh: \"owner\": \"a\"", `mesh: service: a: {port: {}, endpoints: static: ["1.2.3.4:5"]}` + "\nmesh: service: a: endpoints: static: [\"1.2.3.4:5\"]",
		`mesh: service: a: {port: {}, endpoints: static: ["1.2.3.4:5", ...]}`, `for x in ["a"] {mesh: owner: x}`, `if true {mesh: owner: "a"}`, `mesh: service: a: port: true: number: 1`,
		`mesh: service: a: {port: {}, outlier: consecutive5xx: 007}`, `mesh: test: "": {request: to: "a", expect: {}}`, `mesh: test: "a": {request: {to: "a", host: ""}, expect: allowed: false}`,
		`mesh: service: a: {port: {}, calls: {"x/y": {}, z: {}}}`, `mesh: ("owner"): "a"`, `mesh: "\("owner")": "a"`, `#x: "a"` + "\nmesh: owner: #x", `mesh: gateway: e: {port: http: number: 80, host: {}, host: {}}`,
	} {
		trees = append(trees, source.Tree{Files: map[string][]byte{"a.cue": []byte("package a\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n" + body + "\n")}})
	}
	literal, all := 0, 0
	for _, tree := range trees {
		a, b := sameAsCUE(t, tree)
		literal, all = literal+a, all+b
	}
	t.Logf("%d of %d valid packages were literals", literal, all)
	if literal < 15 || all-literal < 10 {
		t.Errorf("%d literal and %d other packages: the corpus must hold both kinds", literal, all-literal)
	}
}

func TestLiteralWaysOut(t *testing.T) {
	var l diag.List
	tree := mesh(20)
	tree.Files["team0/x.cue"] = []byte("package team0\n\n_o: \"me\"\nmesh: owner: _o\n")
	in, l := Load(tree, Options{})
	if l.HasErrors() || in.Packages[1].Mesh.Field("owner").Str() != "me" {
		t.Errorf("a reference was not evaluated: %v %v", in.Packages, l)
	}
}
