package diag_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/golden"
)

// CodeInfo is what the source says about a code.
type CodeInfo struct {
	Code    diag.Code
	Name    string // of the constant
	File    string // codes_<area>.go
	Doc     string // when it happens
	Example string // what brings it about
}

// Codes reads the constants of type Code from codes_*.go, sorted by code. The
// comments are the registry: there is no second list that could be forgotten.
func Codes(t *testing.T) []CodeInfo {
	t.Helper()
	files, err := filepath.Glob("codes_*.go")
	if err != nil {
		t.Fatal(err)
	}
	var out []CodeInfo
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatalf("parsing %s: %v", file, err)
		}
		for _, decl := range f.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				out = append(out, codesOf(t, file, g, s.(*ast.ValueSpec))...)
			}
		}
	}
	slices.SortFunc(out, func(a, b CodeInfo) int { return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Name, b.Name)) })
	return out
}

func codesOf(t *testing.T, file string, g *ast.GenDecl, s *ast.ValueSpec) (out []CodeInfo) {
	t.Helper()
	doc := s.Doc.Text()
	if doc == "" && len(g.Specs) == 1 {
		doc = g.Doc.Text()
	}
	for i, name := range s.Names {
		if i >= len(s.Values) {
			t.Fatalf("%s: %s has no value of its own", file, name.Name)
		}
		lit, ok := s.Values[i].(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			continue
		}
		value, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatalf("%s: %s: %v", file, name.Name, err)
		}
		if typ, ok := s.Type.(*ast.Ident); !ok || typ.Name != "Code" {
			if strings.HasPrefix(value, "MESH") {
				t.Errorf("%s: %s = %q is not declared as a Code", file, name.Name, value)
			}
			continue
		}
		when, example, _ := strings.Cut(doc, "Example:")
		out = append(out, CodeInfo{diag.Code(value), name.Name, file, oneLine(when), oneLine(example)})
	}
	return out
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestCodesAreUniqueInABandAndDocumented(t *testing.T) {
	codes := Codes(t)
	if len(codes) == 0 {
		t.Fatal("no code found in codes_*.go")
	}
	form := regexp.MustCompile(`^MESH(\d\d)\d\d$`)
	seen := map[diag.Code]CodeInfo{}
	for _, c := range codes {
		if old, ok := seen[c.Code]; ok {
			t.Errorf("%s is both %s (%s) and %s (%s)", c.Code, old.Name, old.File, c.Name, c.File)
		}
		seen[c.Code] = c
		if m := form.FindStringSubmatch(string(c.Code)); m == nil || bands()[m[1]] == "" {
			t.Errorf("%s: %s = %q is in no band", c.File, c.Name, c.Code)
		}
		if c.Doc == "" || c.Example == "" {
			t.Errorf("%s: %s (%s) needs a comment that says when it happens, and an \"Example:\"", c.File, c.Name, c.Code)
		}
	}
}

func bands() map[string]string {
	return map[string]string{"00": "source", "01": "schema and CUE", "02": "meaning", "03": "targets", "04": "policy",
		"05": "release and approval", "06": "serving", "07": "admission", "08": "plan", "09": "internal", "10": "import"}
}

// The program itself knows every code.
func TestAbout(t *testing.T) {
	for _, c := range Codes(t) {
		if e, ok := diag.About(c.Code); !ok || e.When == "" || e.Example == "" {
			t.Errorf("%s: %+v, %v", c.Code, e, ok)
		}
	}
	if e, ok := diag.About("MESH9999"); ok {
		t.Errorf("an entry for no code: %+v", e)
	}
}

func TestCodeReferenceIsUpToDate(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Problem codes\n\n" +
		"Every problem that a user can fix has a code. Codes are never renumbered or used again.\n" +
		"Generated from the comments in `internal/diag/codes_*.go` by `make golden`.\n")
	band := ""
	var all []diag.Entry
	for _, c := range Codes(t) {
		if two := strings.TrimPrefix(string(c.Code), "MESH")[:2]; two != band {
			band = two
			fmt.Fprintf(&b, "\n## %sxx: %s\n\n| code | when | example |\n|---|---|---|\n", band, bands()[band])
		}
		when := strings.TrimPrefix(c.Doc, c.Name+" ")
		for _, lead := range []string{"is ", "means ", "says "} {
			when = strings.TrimPrefix(when, lead)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Code, cell(when), cell(c.Example))
		all = append(all, diag.Entry{Code: c.Code, When: when, Example: c.Example})
	}
	program, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden.File(t, "codes.json", append(program, '\n'))
	golden.File(t, filepath.Join("..", "..", "docs", "codes.md"), []byte(b.String()))
}

// cell keeps a text inside its table cell.
func cell(s string) string { return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(s) }
