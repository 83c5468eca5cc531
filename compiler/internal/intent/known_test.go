package intent

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"cuelang.org/go/cue/scanner"
	"cuelang.org/go/cue/token"
	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

// Whatever is edited, what was known before changes neither the value nor any problem.
func TestKnownChangesNothing(t *testing.T) {
	const path = "team0/team.cue"
	text := mesh(4).Files[path]
	text = append(bytes.Clone(text), `
mesh: gateway: edge: {port: http: number: 8080, host: "*": route: a: {match: path: exact: "/a", to: "svc-0": 100}}
mesh: gateway: edge: host: "*": route: b: {match: path: prefix: "/b", to: "svc-1": 100}
mesh: service: "svc-0": owner: "zero"
`...)
	u := unit{dir: "team0", base: []string{path}}
	layoutOf := func(text []byte) *layout {
		l, _ := newLayout(source.Tree{Files: map[string][]byte{path: text}})
		return l
	}
	base := layoutOf(text).evaluate(u, nil)
	if base.pkg == nil || len(base.diags) > 0 {
		t.Fatalf("the package before: %v", base.diags)
	}
	before := base.pkg.Mesh.value
	places := tokens(text)
	valid, wrong := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		edited := bytes.Clone(text)
		for range rapid.IntRange(1, 2).Draw(t, "edits") {
			at := rapid.SampledFrom(places).Draw(t, "place")
			from := string(text[at.from:at.to])
			other := rapid.SampledFrom(places).Draw(t, "other")
			to := rapid.SampledFrom([]string{
				string(text[other.from:other.to]), `"x"`, "x", "7", "0", "true", "_", "string", "", from + "\n", `*"x" | string`, "{}", "[]", `"a" & "b"`, "null", `"svc-0"`, `override`,
			}).Draw(t, "to")
			if i := bytes.Index(edited[min(at.from, len(edited)):], []byte(from)); i >= 0 {
				i += at.from
				edited = append(append(bytes.Clone(edited[:i]), to...), edited[i+len(from):]...)
			}
		}
		l := layoutOf(edited)
		got, want := l.evaluate(u, before), l.evaluateOnce(u, schemas.Files(), nil)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\ngives %+v, want %+v", edited, got, want)
		}
		if want.diags.HasErrors() {
			wrong++
		} else {
			valid++
		}
	})
	t.Logf("%d edits were valid, %d were not", valid, wrong)
	if valid == 0 || wrong == 0 {
		t.Errorf("%d edits were valid, %d were not", valid, wrong)
	}
}

// span is a place in a text.
type span struct{ from, to int }

// tokens are the words and literals of a text of CUE, from its first service on.
func tokens(text []byte) []span {
	var out []span
	var s scanner.Scanner
	file := token.NewFile("", -1, len(text))
	s.Init(file, text, nil, 0)
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return out
		}
		if at := pos.Offset(); (tok == token.IDENT || tok.IsLiteral()) && at > bytes.Index(text, []byte("service")) {
			out = append(out, span{at, at + len(lit)})
		}
	}
}

// Of a large package that was known, CUE is shown what changed.
func TestOnlyTheEditIsShown(t *testing.T) {
	var b strings.Builder
	b.WriteString("package edge\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n")
	for i := range 500 {
		fmt.Fprintf(&b, "mesh: service: s%d: {port: http: number: 8080, grant: edge: from: [\"gateway/edge\"]}\n", i)
	}
	b.WriteString("mesh: gateway: edge: {port: http: number: 8080, host: \"*\": {owner: \"platform\", route: {\n")
	for i := range 500 {
		fmt.Fprintf(&b, "r%d: {match: path: prefix: \"/%d\", to: s%d: 100}\n", i, i, i)
	}
	b.WriteString("}}}\n")
	parse := func(text string) (any, []parsed) {
		l, _ := newLayout(source.Tree{Files: map[string][]byte{"a.cue": []byte(text)}})
		u := unit{dir: ".", base: []string{"a.cue"}}
		files, res := l.parseUnit(u)
		l.instance(u, files, res.name, schemas.Files())
		mesh, ok := literalMesh(files)
		if !ok {
			t.Fatal("no mesh of literals")
		}
		return mesh, files
	}
	before, _ := parse(b.String())
	after, files := parse(strings.Replace(b.String(), "r7: {match: path: prefix: \"/7\", to: s7: 100}", "r7: {match: path: prefix: \"/seven\", to: s7: 100}", 1))
	dropKnown(files, liken(after, before))
	left, _ := literalMesh(files)
	want := map[string]any{"gateway": map[string]any{"edge": map[string]any{
		"port": map[string]any{}, // it has to be there
		"host": map[string]any{"*": map[string]any{"owner": "platform", "route": map[string]any{"r7": map[string]any{"match": map[string]any{"path": map[string]any{"prefix": "/seven"}}}}}},
	}}}
	if !reflect.DeepEqual(left, want) {
		t.Errorf("CUE is shown %v, want %v", left, want)
	}
}

// A second look at a large package brings the value of the first one along, and a damaged one
// is left alone.
func TestLargePackagesBringWhatWasBefore(t *testing.T) {
	tree := mesh(40)
	large := "team0/team.cue"
	for i := 0; len(tree.Files[large]) < minKnown; i++ {
		tree.Files[large] = fmt.Appendf(tree.Files[large], "mesh: service: more%d: {port: http: number: %d}\n", i, 1000+i)
	}
	dir := NewDir(t.TempDir())
	jobs := map[string]Job{}
	look := func() *Intent {
		clear(jobs)
		in, l := Load(tree, Options{Cache: dir, Workers: 1, Evaluate: func(j Job) ([]byte, diag.List) {
			jobs[j.Dir] = j
			return elsewhere(t, j), nil
		}})
		if l.HasErrors() {
			t.Fatal(l)
		}
		return in
	}
	look()
	if b := jobs["team0"].before; b != nil {
		t.Errorf("the first look brings %d bytes", len(b))
	}
	for _, p := range []string{large, "team1/team.cue"} {
		tree.Files[p] = append(tree.Files[p], "mesh: service: late: port: http: number: 1\n"...)
	}
	in := look()
	if valueBefore(jobs["team0"].before) == nil || jobs["team1"].before != nil {
		t.Errorf("the second look brings %d bytes of the large package, %d of the small one", len(jobs["team0"].before), len(jobs["team1"].before))
	}
	want, _ := counted(t, tree, nil)
	if !reflect.DeepEqual(in, want) {
		t.Error("the second look has another value")
	}
	if v := valueBefore([]byte("no form")); v != nil {
		t.Errorf("what is no form holds %v", v)
	}
}
