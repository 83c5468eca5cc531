package intent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/format"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/schemas"
)

// The schema as a table: which fields a struct has, what a value must be, and
// the words of the schema's comments. Only messages are made from it; CUE alone
// decides what is legal.

// definition is one #Name of the schema.
type definition struct {
	doc     string              // the comment's text
	fields  map[string]fieldDef // by name
	pattern *fieldDef           // of a map; its name is the key's definition
	expr    ast.Expr            // of a definition that is no struct
}

// fieldDef is a field of a definition.
type fieldDef struct {
	name     string
	doc      string
	required bool
	value    ast.Expr
	holds    *definition // a struct or map written in place
}

// description is the schema as a table, read at the first message that needs it.
//
//nolint:gochecknoglobals // a constant that Go cannot express: the embedded schema, read once.
var description = sync.OnceValue(describe)

func describe() map[string]*definition {
	defs := map[string]*definition{}
	for _, f := range schemas.Files() {
		file, err := parser.ParseFile(f.Name, f.Text, parser.ParseComments)
		if err != nil {
			panic(fmt.Sprintf("intent: embedded schema: %v", err))
		}
		for _, d := range file.Decls {
			field, ok := d.(*ast.Field)
			if !ok {
				continue
			}
			name, _ := labelName(field.Label)
			if defs[name] == nil {
				defs[name] = &definition{fields: map[string]fieldDef{}}
			}
			def := defs[name]
			if def.doc == "" {
				def.doc = docText(field)
			}
			if s, ok := field.Value.(*ast.StructLit); ok {
				def.addFields(s)
			} else {
				def.expr = field.Value
			}
		}
	}
	return defs
}

func (d *definition) addFields(s *ast.StructLit) {
	for _, e := range s.Elts {
		switch e := e.(type) {
		case *ast.EmbedDecl:
			if id, ok := e.Expr.(*ast.Ident); ok {
				d.fields["..."+id.Name] = fieldDef{name: id.Name, value: id}
			}
		case *ast.Field:
			f := fieldDef{doc: docText(e), required: e.Constraint == token.NOT, value: e.Value}
			if inner, ok := e.Value.(*ast.StructLit); ok {
				f.holds = &definition{fields: map[string]fieldDef{}}
				f.holds.addFields(inner)
			}
			if l, ok := e.Label.(*ast.ListLit); ok && len(l.Elts) == 1 {
				f.name = exprText(l.Elts[0])
				d.pattern = &f
				continue
			}
			f.name, _ = labelName(e.Label)
			d.fields[f.name] = f
		}
	}
}

// field finds a field by name, also in embedded definitions.
func (d *definition) field(name string) (fieldDef, bool) {
	if f, ok := d.fields[name]; ok {
		return f, true
	}
	for key, f := range d.fields {
		if strings.HasPrefix(key, "...") {
			if in, ok := description()[f.name].field(name); ok {
				return in, true
			}
		}
	}
	return fieldDef{}, false
}

// names lists the fields, sorted, embedded definitions included.
func (d *definition) names() []string {
	set := map[string]bool{}
	for key, f := range d.fields {
		if !strings.HasPrefix(key, "...") {
			set[f.name] = true
			continue
		}
		for _, n := range description()[f.name].names() {
			set[n] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// at follows a path of labels below #Mesh. ok is false where the schema has
// nothing of that name.
func at(path []string) (fieldDef, bool) {
	f := fieldDef{name: "mesh", value: ast.NewIdent("#Mesh")}
	for _, label := range path {
		if l, ok := f.value.(*ast.ListLit); ok && len(l.Elts) == 1 {
			if rest, ok := l.Elts[0].(*ast.Ellipsis); ok {
				f = fieldDef{name: label, value: rest.Type}
				continue
			}
		}
		def := f.definition()
		if def == nil {
			return fieldDef{}, false
		}
		next, ok := def.field(label)
		if !ok && def.pattern != nil {
			next, ok = *def.pattern, true
		}
		if !ok {
			return fieldDef{}, false
		}
		f = next
	}
	return f, true
}

// definition returns the struct or map that the field holds, or nil.
func (f fieldDef) definition() *definition {
	if f.holds != nil {
		return f.holds
	}
	if id, ok := f.value.(*ast.Ident); ok {
		if d := description()[id.Name]; d != nil && d.expr == nil {
			return d
		}
	}
	return nil
}

// want says in words what a value must be: `a time span such as "250ms"`.
func (f fieldDef) want() string { return wantExpr(f.value, f.definition()) }

func wantExpr(e ast.Expr, def *definition) string {
	if def != nil {
		if def.pattern != nil {
			return "a struct whose fields are names of your choice"
		}
		return "a struct with the fields " + strings.Join(def.names(), ", ")
	}
	switch e := e.(type) {
	case *ast.Ident:
		return wantIdent(e.Name)
	case *ast.BasicLit:
		return e.Value
	case *ast.ListLit:
		if rest, ok := e.Elts[0].(*ast.Ellipsis); ok {
			return "a list, each element " + wantExpr(rest.Type, fieldDef{value: rest.Type}.definition())
		}
	case *ast.UnaryExpr:
		if words, ok := enumeration(e); ok {
			return "one of " + quotedList(words)
		}
	}
	return bounds(exprText(e))
}

func wantIdent(name string) string {
	switch name {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "int":
		return "a whole number"
	}
	d := description()[name]
	if d == nil {
		return name
	}
	if u, ok := d.expr.(*ast.UnaryExpr); ok {
		if words, ok := enumeration(u); ok {
			return "one of " + quotedList(words)
		}
	}
	if _, words, ok := strings.Cut(d.doc, name+" is "); ok {
		return strings.TrimSuffix(words, ".")
	}
	return bounds(exprText(d.expr))
}

// enumeration reads the words out of =~"^(a|b|c)$", in which a dot is escaped.
func enumeration(u *ast.UnaryExpr) ([]string, bool) {
	lit, ok := u.X.(*ast.BasicLit)
	if !ok || u.Op != token.MAT {
		return nil, false
	}
	s, _ := unquote(lit)
	s, open := strings.CutPrefix(s, "^(")
	s, closed := strings.CutSuffix(s, ")$")
	if !open || !closed || strings.ContainsAny(strings.ReplaceAll(s, `\.`, ""), `()[]\*+?.{}^$`) {
		return nil, false
	}
	return strings.Split(strings.ReplaceAll(s, `\.`, "."), "|"), true
}

// bounds turns `int & >=1 & <=10` into words.
func bounds(s string) string {
	s = strings.NewReplacer("int", "a whole number", " & >=", ", at least ", " & <=", ", at most ", " & !=", ", not ").Replace(s)
	return strings.TrimSpace(s)
}

func exprText(e ast.Expr) string {
	b, err := format.Node(e)
	if err != nil {
		return "another value"
	}
	return string(b)
}

// docText is a field's comment on one line.
func docText(f *ast.Field) string {
	var b strings.Builder
	for _, g := range ast.Comments(f) {
		if g.Doc {
			b.WriteString(g.Text())
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
