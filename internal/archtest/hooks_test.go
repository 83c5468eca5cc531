package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// ARCHITECTURE.md names each hook by which a feature gets into Envoy's configuration, with the
// features that use it.
func TestHooksAreThoseOfTheTable(t *testing.T) {
	code := map[string][]string{}
	for _, f := range parsed(t, "compiler/internal/target/envoy") {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "On") && lowers(fn) {
				code[fn.Name.Name] = []string{}
			}
		}
	}
	features := filepath.Join(root(t), "compiler/internal/feature")
	dirs, err := os.ReadDir(features)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		for _, f := range parsed(t, "compiler/internal/feature/"+d.Name()) {
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "envoy" && code[s.Sel.Name] != nil && !slices.Contains(code[s.Sel.Name], d.Name()) {
					code[s.Sel.Name] = append(code[s.Sel.Name], d.Name())
				}
				return true
			})
		}
	}
	text, err := os.ReadFile(filepath.Join(root(t), "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	told := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(On[A-Za-z]+)` \\| [^|]+ \\| ([^|]*) \\|$").FindAllStringSubmatch(string(text), -1) {
		told[m[1]] = strings.Split(m[2], ", ")
	}
	if len(code) < 5 {
		t.Errorf("%d hooks are found in the code", len(code))
	}
	for _, hook := range slices.Sorted(maps.Keys(code)) {
		users := code[hook]
		if slices.Sort(users); len(users) == 0 {
			t.Errorf("no feature uses %s: delete it", hook)
		}
		if !slices.Equal(told[hook], users) {
			t.Errorf("ARCHITECTURE.md says of %s: %q, the code has %q", hook, told[hook], users)
		}
		delete(told, hook)
	}
	for hook := range told {
		t.Errorf("ARCHITECTURE.md names %s, which is no hook", hook)
	}
}

// lowers reports whether a function returns a Lowering alone.
func lowers(fn *ast.FuncDecl) bool {
	if fn.Type.Results == nil || len(fn.Type.Results.List) != 1 {
		return false
	}
	typ, ok := fn.Type.Results.List[0].Type.(*ast.Ident)
	return ok && typ.Name == "Lowering"
}

// parsed are the files of a package that are no tests.
func parsed(t *testing.T, dir string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root(t), dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}
