package compiler_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/target/coverage"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/golden"
	"meshc.dev/meshc/schemas"
)

// The support table is the matrix, and for the words that are no rows of it, what
// a compile of each says.
func TestSupportTableIsUpToDate(t *testing.T) {
	var b strings.Builder
	b.WriteString("# What each target can say\n\n" +
		"Generated from the matrix of features (`compiler/internal/feature/catalog`) and from compiling an example of every other word, by `make golden`.\n\n" +
		"*exact*: the target says it as it is meant. *approximate*: it says it with the loss that is named, and a warning (MESH0310). *refused*: compiling it for\n" +
		"that target is an error (MESH0301) with this reason: nothing is left out in silence. *nothing*: the target has nothing to say about it, for this reason.\n" +
		"Envoy is what `meshc serve` serves; `targets: kubernetes: {}` in the root package writes what a cluster needs beside it ([kubernetes.md](kubernetes.md)),\n" +
		"`targets: \"gateway-api\": {}` the objects of the Kubernetes Gateway API.\n\n" +
		"What is refused can be gone without, by the field's name or the name under *Structure*, with who answers for it and why: `targets: \"gateway-api\": without: grant: {owner: \"platform\", reason: \"…\"}` in the\n" +
		"root package. The release lists it in `losses.json`, a plan tells it by what it takes away, and `meshc vet` names it. Refused are also single values (MESH0302, MESH0306, MESH0311): those nobody accepts,\n" +
		"for what would become of the rest is not known. `envoy` goes without nothing: what is served is whole.\n\n" +
		"## Features\n\n| field | what it is | envoy | kubernetes | gateway-api |\n|---|---|---|---|---|\n")
	for _, f := range catalog.All() {
		field := f.Field
		if f.Within != "" {
			field = f.Within + "." + field
		}
		fmt.Fprintf(&b, "| `%s.%s` | %s | %s | %s | %s |\n", f.On[0], field, tableCell(fieldComment(t, f.Field)), support(f.Envoy.Support()), support(f.Kubernetes.Support()),
			support(f.GatewayAPI.Support()))
	}
	b.WriteString("\n## Structure\n\nWhat a mesh is made of. Each example is compiled for each target.\n\n| name | what it is | example | envoy | kubernetes | gateway-api |\n|---|---|---|---|---|---|\n")
	for _, s := range catalog.Structure() {
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s | %s |\n", s.Name, tableCell(s.What), tableCell(s.Example), support(s.Envoy.Support()), support(s.Kubernetes.Support()),
			support(s.GatewayAPI.Support()))
	}
	b.WriteString("\n## Other words\n\n| word | example | envoy | kubernetes | gateway-api |\n|---|---|---|---|---|\n")
	for _, w := range words() {
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s |\n", w.name, tableCell(w.shown), compiled(t, w, ""), compiled(t, w, "kubernetes"), compiled(t, w, "gateway-api"))
	}
	golden.File(t, filepath.Join("..", "docs", "features.md"), []byte(b.String()))
}

func support(state, why string) string {
	if why == "" {
		return state
	}
	return state + ": " + tableCell(why)
}

// fieldComment is the schema's own sentence about a field of a feature.
func fieldComment(t *testing.T, field string) string {
	t.Helper()
	doc := regexp.MustCompile(`(?m)^((?:\t//.*\n)+)\t` + field + `\?:`)
	for _, f := range schemas.Files() {
		carrier, _, _ := bytes.Cut(f.Text, []byte("\n}\n")) // what stands first in a feature's file
		if m := doc.FindSubmatch(carrier); m != nil && strings.HasPrefix(f.Name, "feature_") {
			return strings.Join(strings.Fields(strings.ReplaceAll(string(m[1]), "//", "")), " ")
		}
	}
	t.Errorf("no file schemas/feature_*.cue documents %q", field)
	return ""
}

// tableCell keeps a text inside its table cell.
func tableCell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace(s)
}

// word is something of the language that is no row of the matrix. shown is added
// to a service "cart" with versions v1 and v2, or, if it starts with "mesh:", to its package.
type word struct{ name, shown string }

func words() []word {
	route := func(match string) string {
		return "route: {x: {match: " + match + ", to: v1: 100}, default: to: v2: 100}"
	}
	out := []word{
		{"path, exact", route(`path: exact: "/a"`)},
		{"path, by segments", route(`path: prefix: "/a"`)},
		{"gRPC, by service and method", route(`grpc: {service: "shop.Reviews", method: "Watch"}`)},
		{"gRPC, by service", route(`grpc: service: "shop.Reviews"`)},
		{"path, by template", `route: x: {match: path: template: "/a/{id}", to: v1: 100}`},
	}
	for _, c := range catalog.Conditions() {
		for _, x := range c.Examples {
			if shown := route(x.Match); x.Mesh != "" {
				out = append(out, word{x.Name, x.Mesh})
			} else if c.Door == nil {
				out = append(out, word{x.Name, shown})
			} else {
				out = append(out, word{x.Name, `mesh: gateway: edge: {port: http: number: 80, trustedHops: 1, host: "*": route: {x: {match: ` + x.Match + `, to: cart: 100}, default: to: web: 100}}`})
			}
		}
	}
	return append(out,
		word{"rank by priority", `route: {x: {priority: 1, to: v1: 100, match: headers: "x-a": exact: "b"}, y: {match: path: prefix: "/a", to: v2: 100}}`},
		word{"gateway, wildcard host", `mesh: gateway: edge: {port: http: number: 80, host: "*.shop.example": route: default: to: cart: 100}`})
}

// example compiles a package with shown in it for a target; "" is Envoy alone.
func example(t *testing.T, shown, target string) diag.List {
	t.Helper()
	_, ds := exampleProgram(t, shown, target).Release()
	return ds.Sorted()
}

func exampleProgram(t *testing.T, shown, target string) *compiler.Program {
	t.Helper()
	pkg := "mesh: namespace: \"shop\"\nmesh: service: web: port: http: number: 8080\nmesh: service: cart: {port: http: number: 8080, version: {v1: {}, v2: {}}}\n"
	if !strings.HasPrefix(shown, "mesh:") {
		shown = "mesh: service: cart: " + shown
	}
	root := plainRoot
	if target != "" {
		root += fmt.Sprintf("mesh: targets: %q: {}\n", target)
	}
	if strings.HasPrefix(shown, "mesh: aliases:") { // what the root package alone says
		root, shown = root+shown+"\n", ""
	}
	files := fstest.MapFS{
		"mesh.cue":      {Data: []byte(root)},
		"shop/base.cue": {Data: []byte("package shop\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n" + pkg)},
		"shop/word.cue": {Data: []byte("package shop\n\n" + shown + "\n")},
	}
	at, _ := time.Parse(time.RFC3339, compileDate)
	p, ds := compiler.Load(files, compiler.Options{At: at})
	if ds.HasErrors() {
		t.Fatalf("%s: %v", shown, ds.Err())
	}
	return p
}

// Each target does with each part of a mesh what its cell says of it.
func TestCellsOfStructureAreTrue(t *testing.T) {
	for _, s := range catalog.Structure() {
		m, err := model.Decode(exampleProgram(t, s.Example, "").MeshJSON(), catalog.Codecs())
		if err != nil || len(s.Uses(m)) == 0 {
			t.Errorf("%s is not used by its example %s (%v)", s.Name, s.Example, err)
		}
		for target, cell := range map[string]coverage.Answer{"": s.Envoy, "kubernetes": s.Kubernetes, "gateway-api": s.GatewayAPI} {
			state, why := cell.Support()
			if (why == "") != (state == "exact") || cell == (coverage.Answer{}) {
				t.Errorf("%s, target %q: %q because of %q: say how far it goes, and why not further", s.Name, target, state, why)
			}
			severity := map[string]diag.Severity{"refused": diag.Error, "approximate": diag.Warning}
			told := false
			for _, d := range example(t, s.Example, target) {
				told = told || strings.HasSuffix(d.Text, ": "+why) && d.Severity == severity[state]
				if d.IsError() && state != "refused" {
					t.Errorf("%s, target %q: it is %q, and a compile says %s", s.Name, target, state, d)
				}
			}
			if _, tells := severity[state]; tells != told {
				t.Errorf("%s, target %q: it is %q (%s), and a compile of %s told that: %v", s.Name, target, state, why, s.Example, told)
			}
		}
	}
}

// compiled is how far a target goes with a word. target "" is Envoy alone.
func compiled(t *testing.T, w word, target string) string {
	t.Helper()
	state := "exact"
	var why []string
	for _, d := range example(t, w.shown, target) {
		switch {
		case ofOthers(d):
		case d.IsError() && d.Code != diag.CodeMatch && d.Code != diag.CodeOrder:
			t.Errorf("%s: %s", w.name, d)
		case d.IsError():
			state = "refused"
			fallthrough
		default:
			text := strings.TrimPrefix(d.Text, "the gateway-api target: ")
			if state == "exact" {
				state = "approximate"
			}
			if d.IsError() == (state == "refused") {
				why = append(why, strings.TrimPrefix(text, "the gateway-api target "))
			}
		}
	}
	return support(state, strings.Join(slices.Compact(why), "; "))
}

// ofOthers reports whether a problem is told of a part of the mesh, or of a feature, which have tables of their own.
func ofOthers(d diag.Diagnostic) bool {
	return slices.ContainsFunc(catalog.All(), func(f feature.Feature) bool {
		state, why := f.GatewayAPI.Support()
		return d.Code == diag.CodeUnsupported && state == "refused" && strings.HasSuffix(d.Text, fmt.Sprintf("%q: %s", f.Field, why))
	}) || slices.ContainsFunc(catalog.Structure(), func(s feature.Structure) bool {
		_, why := s.GatewayAPI.Support()
		return strings.HasSuffix(d.Text, ": "+why)
	})
}

func TestTableOfDefaultsIsUpToDate(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Defaults\n\nWhat holds where nothing is written, and why. `meshc plan --defaults` prints the same table.\n" +
		"Generated from the compiler's table by `make golden`.\n\n| field | default | why |\n|---|---|---|\n")
	for _, d := range compiler.Defaults() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", d.Field, tableCell(d.Value), tableCell(d.Why))
	}
	golden.File(t, filepath.Join("..", "docs", "defaults.md"), []byte(b.String()))
}
