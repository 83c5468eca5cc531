package schemas_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/format"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
	gocmp "github.com/google/go-cmp/cmp"

	"meshc.dev/meshc/internal/golden"
	"meshc.dev/meshc/schemas"
)

var names = regexp.MustCompile(`#[A-Z][A-Za-z0-9]*`)

const generatedBelow = "Below this line"

// The reference has every field of the schema, with the schema's own words.
func TestReferenceIsUpToDate(t *testing.T) {
	name := filepath.Join("..", "docs", "language.md")
	old, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(old), generatedBelow)
	if !ok {
		t.Fatalf("%s has no line %q", name, generatedBelow)
	}
	marker, _, _ := strings.Cut(rest, "\n")
	want := head + generatedBelow + marker + "\n" + reference(t)
	if golden.Updating() {
		if err := os.WriteFile(name, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := gocmp.Diff(string(old), want); d != "" {
		t.Errorf("%s differs from the schema (-want +got, -update rewrites):\n%s", name, d)
	}
}

func rank(f schemas.File) int {
	if strings.HasPrefix(f.Name, "feature_") || strings.HasPrefix(f.Name, "condition_") {
		return 1
	}
	return 0
}

// definition is a definition of the schema, its pieces joined.
type definition struct {
	name, doc string
	fields    []field
	form      string // what is not a struct
}

type field struct {
	name, form, doc string
	required        bool
}

func reference(t *testing.T) string {
	t.Helper()
	var order []string
	defs := map[string]*definition{}
	files := slices.Clone(schemas.Files()) // the files of features and conditions after those that they add to
	slices.SortStableFunc(files, func(a, b schemas.File) int { return cmp.Compare(rank(a), rank(b)) })
	for _, f := range files {
		file, err := parser.ParseFile(f.Name, f.Text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			x, ok := d.(*ast.Field)
			if !ok {
				continue
			}
			name := label(x)
			def := defs[name]
			if def == nil {
				def = &definition{name: name}
				defs[name], order = def, append(order, name)
			}
			def.add(t, x)
		}
	}
	var b strings.Builder
	written := map[string]bool{}
	var write func(name string)
	write = func(name string) { // each definition after the one that names it first
		if written[name] {
			return
		}
		written[name] = true
		def := defs[name]
		if def.form != "" {
			return
		}
		def.write(&b)
		for _, f := range def.fields {
			for _, other := range names.FindAllString(f.form, -1) {
				write(other)
			}
		}
	}
	write("#Mesh")
	b.WriteString("\n### Forms\n\n| form | what it is |\n| --- | --- |\n")
	for _, name := range order {
		if d := defs[name]; d.form != "" {
			fmt.Fprintf(&b, "| `%s` | %s |\n", name, d.doc)
		} else if !written[name] {
			t.Errorf("nothing of #Mesh leads to %s", name)
		}
	}
	return b.String()
}

// add joins one piece of the definition.
func (d *definition) add(t *testing.T, x *ast.Field) {
	t.Helper()
	if doc := docOf(x); doc != "" {
		d.doc = strings.TrimPrefix(doc, d.name+" ")
		for _, verb := range []string{"is ", "are "} {
			d.doc = strings.TrimPrefix(d.doc, verb)
		}
	}
	s, ok := x.Value.(*ast.StructLit)
	if !ok {
		d.form = text(t, x.Value)
		return
	}
	for _, e := range s.Elts {
		switch e := e.(type) {
		case *ast.EmbedDecl:
			d.fields = append(d.fields, field{form: text(t, e.Expr), doc: "and all of its fields"})
		case *ast.Field:
			d.fields = append(d.fields, field{label(e), text(t, e.Value), docOf(e), e.Constraint == token.NOT})
		}
	}
}

func (d *definition) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n| field | form | meaning |\n| --- | --- | --- |\n", d.name, strings.ToUpper(d.doc[:1])+d.doc[1:])
	for _, f := range d.fields {
		form := "`" + strings.ReplaceAll(f.form, "|", "\\|") + "`"
		if f.required {
			form += ", required"
		}
		name := ""
		if f.name != "" {
			name = "`" + f.name + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, form, f.doc)
	}
}

func label(f *ast.Field) string {
	b, err := format.Node(f.Label)
	if err != nil {
		return ""
	}
	return strings.Trim(string(b), `"`)
}

// text is an expression on one line.
func text(t *testing.T, e ast.Expr) string {
	t.Helper()
	if s, ok := e.(*ast.StructLit); ok && len(s.Elts) == 1 {
		if f, ok := s.Elts[0].(*ast.Field); ok {
			return "{" + label(f) + ": " + text(t, f.Value) + "}"
		}
	}
	b, err := format.Node(e)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

func docOf(n ast.Node) string {
	var lines []string
	for _, g := range ast.Comments(n) {
		if g.Doc {
			lines = append(lines, strings.Fields(g.Text())...)
		}
	}
	return strings.Join(lines, " ")
}
