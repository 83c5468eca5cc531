package catalog_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/space"
)

// knownElsewhere are the features that a package other than their own knows by
// name, with the reason. CONTRIBUTING.md promises that there are no others.
func knownElsewhere() map[string][]string {
	return map[string][]string{
		"redirect": {"compiler/internal/space/space.go", "compiler/internal/plan/render.go", // is the word for a verdict as well
			"compiler/internal/model/mesh.go"}, // and for what a host with TLS says to plain HTTP
		"users": {"compiler/internal/space/space.go", // is who answered, as for cors and denies, and what a request brings
			"compiler/draw/scaffold.go"}, // whose providers have names
		"authorize":  {"compiler/internal/resolve/authorizers.go"},                                            // is what a gateway sets by those whom it asks
		"connection": {"compiler/internal/target/envoy/counted.go"},                                           // is what Envoy calls whom a caller proves to be
		"timeout":    {"compiler/internal/resolve/collectors.go", "compiler/internal/resolve/authorizers.go"}, // is how long others are waited for, too
		"metrics":    {"compiler/internal/target/kubernetes/gateway.go"},                                      // is what an autoscaler goes by
		"outlier":    {"compiler/draw/scaffold.go"},                                                           // are drawn more often, or less, as the compiler takes them
		"locality":   {"compiler/draw/scaffold.go"},
		"health":     {"compiler/draw/scaffold.go"},
		"sticky":     {"compiler/draw/scaffold.go"},
		"mirror":     {"compiler/internal/resolve/tests.go"}, // is what a test calls copies, as a route does
	}
}

const root = "../../../.."

// What a feature is, only its folder knows: a name in quotes is how another
// package would come to know it.
func TestFeaturesStayInTheirFolders(t *testing.T) {
	names := map[string]bool{}
	for _, f := range catalog.All() {
		if names[f.Name] {
			t.Errorf("two features are called %q", f.Name)
		}
		names[f.Name] = true
	}
	found := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(root, "compiler"), func(file string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, file)
		rel = filepath.ToSlash(rel)
		if err != nil || d.IsDir() || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") || strings.HasPrefix(rel, "compiler/internal/feature/") {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if s, _ := strconv.Unquote(lit.Value); names[s] {
				if found[s] = true; !slices.Contains(knownElsewhere()[s], rel) {
					t.Errorf("%s knows the feature %q by name: let the row say what is needed", rel, s)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range knownElsewhere() {
		if !found[name] {
			t.Errorf("nobody but its folder knows %q any more: take it from the list", name)
		}
	}
}

// Every folder of a feature has a row, and every row a file of the schema.
func TestEveryFolderHasARow(t *testing.T) {
	src, err := os.ReadFile("catalog.go")
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if d.IsDir() && d.Name() != "catalog" && !strings.Contains(string(src), "\t\t"+d.Name()+".") {
			t.Errorf("the feature %q has no row in the catalog: add its line to All in catalog.go", d.Name())
		}
	}
	schemas, err := filepath.Glob(filepath.Join(root, "schemas", "feature_*.cue"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range catalog.All() {
		if !slices.ContainsFunc(schemas, func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(text), "\t"+f.Field+"?:")
		}) {
			t.Errorf("no file schemas/feature_*.cue has the field %q: add it to its carriers there, as schemas/feature_ratelimit.cue does", f.Field)
		}
	}
}

// Every condition has a row, a file of the schema and, where requests have something of their
// own for it, a dimension of the same word; and every such dimension and file has a row.
func TestEveryConditionHasARow(t *testing.T) {
	var files, dims []string
	for _, c := range catalog.Conditions() {
		file := filepath.Join(root, "schemas", "condition_"+strings.ToLower(c.Field)+".cue")
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "\t"+c.Field+"?:") {
			t.Errorf("%s has no field %q (%v)", file, c.Field, err)
		}
		if files = append(files, file); len(c.Dims) == 0 {
			continue
		}
		dims = append(dims, c.Dims...)
		for _, d := range space.Dimensions() {
			if d.Name == c.Dims[0] && d.Word != c.Field {
				t.Errorf("the condition %q is about %s, whose word is %q", c.Field, d.Name, d.Word)
			}
		}
	}
	for _, d := range space.Dimensions() {
		if d.Word != "" && !slices.Contains(dims, d.Name) {
			t.Errorf("the dimension %s has the word %q and no row: add one to Conditions in catalog.go", d.Name, d.Word)
		}
	}
	schemas, err := filepath.Glob(filepath.Join(root, "schemas", "condition_*.cue"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range schemas {
		if !slices.Contains(files, file) {
			t.Errorf("%s has no row: add one to Conditions in catalog.go", file)
		}
	}
}

// Every feature is shown to hold on a real Envoy: what it does there, no expected file proves.
func TestEveryFeatureMeetsAnEnvoy(t *testing.T) {
	var all strings.Builder
	for _, pattern := range []string{"envoy/*_test.go", "envoy/testdata/*.txtar", "edge/*_test.go"} { // edge: with a server, where endpoints are live
		files, err := filepath.Glob(filepath.Join(root, "ci", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no ci/%s: %v", pattern, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
	}
	var fields []string
	for _, f := range catalog.All() {
		fields = append(fields, f.Field)
	}
	for _, c := range catalog.Conditions() {
		fields = append(fields, c.Field)
	}
	for _, field := range fields {
		if !strings.Contains(all.String(), field+":") {
			t.Errorf("no test of ci/envoy has the field %q: send requests that show what it does, as TestRateIsLimitedWhereItArrives does", field)
		}
	}
}
