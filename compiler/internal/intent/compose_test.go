package intent

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/schemas"
)

func namesOf(fs []schemas.File) []string {
	var out []string
	for _, f := range fs {
		out = append(out, f.Name)
	}
	return out
}

// Each feature's file adds optional words and definitions of its own, so that packages
// that have none of them are evaluated without it.
func TestFeaturesAreLeftOut(t *testing.T) {
	without := namesOf(schemaFiles(nil))
	for _, f := range schemas.Files() {
		if strings.HasPrefix(f.Name, "feature_") && slices.Contains(without, f.Name) {
			t.Errorf("%s is always there: it says more of others than optional fields, or what is always there needs it", f.Name)
		}
	}
	if got := namesOf(schemaFiles([][]byte{[]byte("x"), []byte("a retry: b")})); !slices.Contains(got, "feature_retry.cue") || len(got) == len(schemas.Files()) {
		t.Errorf("for a retry: %v", got)
	}
	if got := namesOf(schemaFiles([][]byte{[]byte("intent.#CORS")})); !slices.Contains(got, "feature_cors.cue") {
		t.Errorf("for a definition's name: %v", got)
	}
}

// Whatever a package says and however it says it, it is what the whole schema makes of it.
func TestComposedIsWhole(t *testing.T) {
	const head = "package shop\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: namespace: \"shop\"\n"
	trees := map[string]source.Tree{"a sample": mesh(40)}
	for name, text := range map[string]string{
		"nothing":         "",
		"a word":          "mesh: service: web: {port: http: number: 80, route: all: retry: attempts: 2}\n",
		"put together":    "mesh: service: web: {port: http: number: 80, route: all: {\"re\\(\"try\")\": attempts: 2}}\n",
		"escaped":         "mesh: service: web: {port: http: number: 80, route: all: \"re\\u0074ry\": attempts: 2}\n",
		"misspelt":        "mesh: service: web: {port: http: number: 80, route: all: retyr: attempts: 2}\n",
		"a wrong value":   "mesh: service: web: {port: http: number: 80, route: all: retry: attempts: 99}\n",
		"a wrong number":  "mesh: service: web: port: http: number: \"80\"\n",
		"in a comment":    "// retry\nmesh: service: web: port: http: number: 80\n",
		"a condition":     "mesh: service: web: {port: http: number: 80, route: all: {if mesh.owner == \"x\" {timeout: \"1s\"}}}\nmesh: owner: \"x\"\n",
		"its own":         "#Quick: intent.#Route & {timeout: \"2s\"}\nmesh: service: web: {port: http: number: 80, route: all: #Quick}\n",
		"a comprehension": "mesh: service: {for n in [\"a\", \"b\"] {(n): {port: http: number: 80, outlier: consecutive5xx: 3}}}\n",
	} {
		trees[name] = source.Tree{Files: map[string][]byte{"shop/shop.cue": []byte(head + text)}}
	}
	trees["imported"] = source.Tree{Files: map[string][]byte{
		"cue.mod/module.cue": []byte("module: \"shop.example/mesh@v0\"\nlanguage: version: \"v0.17.0\"\n"),
		"lib/lib.cue":        []byte("package lib\n\n#Quick: {timeout: \"2s\", ...}\n"),
		"shop/shop.cue":      []byte(strings.Replace(head, "\n\nmesh", "\nimport \"shop.example/mesh/lib\"\n\nmesh", 1) + "mesh: service: web: {port: http: number: 80, route: all: lib.#Quick}\n"),
	}}
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
		trees[name] = tree
	}
	less := 0
	for name, tree := range trees {
		l, _ := newLayout(tree)
		for _, u := range l.units("prod") {
			got, want := l.evaluate(u, nil), l.evaluateOnce(u, schemas.Files(), nil)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: package %q: %+v, by the whole schema %+v", name, u.dir, got, want)
			}
			if len(schemaFiles(l.texts(u))) < len(schemas.Files()) && !want.diags.HasErrors() {
				less++
			}
		}
	}
	if less < 20 {
		t.Errorf("only %d packages were evaluated with less than the whole", less)
	}
}
