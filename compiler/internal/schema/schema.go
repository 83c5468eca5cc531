// Package schema is the language's schema as a table: which fields a struct has, what a
// value must be, and the words of the schema's comments.
//
// In: the embedded files of the schema, as text. Out: Definitions, that messages and the
// drawing of intent are made from. CUE alone decides what is legal.
package schema

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/format"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

// Definition is one #Name of the schema, or a struct that is written in place.
type Definition struct {
	Doc     string           // the comment's text
	Fields  map[string]Field // by name; what is embedded by "...#Name"
	Pattern *Field           // of a map; its name is the key's definition
	Expr    ast.Expr         // of a definition that is no struct
}

// Field is a field of a definition.
type Field struct {
	Name     string
	Doc      string
	Required bool
	Value    ast.Expr
	Holds    *Definition // a struct or map written in place
}

// Definitions is the table by the definitions' names, read when it is first needed. Read only.
//
//nolint:gochecknoglobals // a constant that Go cannot express: the embedded schema, read once.
var Definitions = sync.OnceValue(describe)

func describe() map[string]*Definition {
	defs := map[string]*Definition{}
	for _, f := range schemas.Files() {
		file, err := parser.ParseFile(f.Name, f.Text, parser.ParseComments)
		if err != nil {
			panic(fmt.Sprintf("schema: embedded files: %v", err))
		}
		for _, d := range file.Decls {
			field, ok := d.(*ast.Field)
			if !ok {
				continue
			}
			name := label(field.Label)
			if defs[name] == nil {
				defs[name] = &Definition{Fields: map[string]Field{}}
			}
			def := defs[name]
			if def.Doc == "" {
				def.Doc = docText(field)
			}
			if s, ok := field.Value.(*ast.StructLit); ok {
				def.addFields(s)
			} else {
				def.Expr = field.Value
			}
		}
	}
	return defs
}

func (d *Definition) addFields(s *ast.StructLit) {
	for _, e := range s.Elts {
		switch e := e.(type) {
		case *ast.EmbedDecl:
			if id, ok := e.Expr.(*ast.Ident); ok {
				d.Fields["..."+id.Name] = Field{Name: id.Name, Value: id}
			}
		case *ast.Field:
			f := Field{Doc: docText(e), Required: e.Constraint == token.NOT, Value: e.Value}
			if inner, ok := e.Value.(*ast.StructLit); ok {
				f.Holds = &Definition{Fields: map[string]Field{}}
				f.Holds.addFields(inner)
			}
			if l, ok := e.Label.(*ast.ListLit); ok && len(l.Elts) == 1 {
				f.Name = exprText(l.Elts[0])
				d.Pattern = &f
				continue
			}
			f.Name = label(e.Label)
			d.Fields[f.Name] = f
		}
	}
}

// Field finds a field by name, also in embedded definitions.
func (d *Definition) Field(name string) (Field, bool) {
	if f, ok := d.Fields[name]; ok {
		return f, true
	}
	for key, f := range d.Fields {
		if strings.HasPrefix(key, "...") {
			if in, ok := Definitions()[f.Name].Field(name); ok {
				return in, true
			}
		}
	}
	return Field{}, false
}

// Names lists the fields, sorted, embedded definitions included.
func (d *Definition) Names() []string {
	set := map[string]bool{}
	for key, f := range d.Fields {
		if !strings.HasPrefix(key, "...") {
			set[f.Name] = true
			continue
		}
		for _, n := range Definitions()[f.Name].Names() {
			set[n] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// At follows a path of labels below #Mesh. ok is false where the schema has
// nothing of that name.
func At(path []string) (Field, bool) {
	f := Field{Name: "mesh", Value: ast.NewIdent("#Mesh")}
	for _, label := range path {
		if l, ok := f.Value.(*ast.ListLit); ok && len(l.Elts) == 1 {
			if rest, ok := l.Elts[0].(*ast.Ellipsis); ok {
				f = Field{Name: label, Value: rest.Type}
				continue
			}
		}
		def := f.Definition()
		if def == nil {
			return Field{}, false
		}
		next, ok := def.Field(label)
		if !ok && def.Pattern != nil {
			next, ok = *def.Pattern, true
		}
		if !ok {
			return Field{}, false
		}
		f = next
	}
	return f, true
}

// Definition returns the struct or map that the field holds, or nil.
func (f Field) Definition() *Definition {
	if f.Holds != nil {
		return f.Holds
	}
	if id, ok := f.Value.(*ast.Ident); ok {
		if d := Definitions()[id.Name]; d != nil && d.Expr == nil {
			return d
		}
	}
	return nil
}

// List reports whether the field holds a list.
func (f Field) List() bool {
	_, ok := resolved(f.Value).(*ast.ListLit)
	return ok
}

// Want says in words what a value must be: `a time span such as "250ms"`.
func (f Field) Want() string { return wantExpr(f.Value, f.Definition()) }

func wantExpr(e ast.Expr, def *Definition) string {
	if def != nil {
		if def.Pattern != nil {
			return "a struct whose fields are names of your choice"
		}
		if len(def.Names()) == 0 {
			return "a struct"
		}
		return "a struct with the fields " + strings.Join(def.Names(), ", ")
	}
	switch e := e.(type) {
	case *ast.Ident:
		return WantIdent(e.Name)
	case *ast.BasicLit:
		return e.Value
	case *ast.ListLit:
		if rest, ok := e.Elts[0].(*ast.Ellipsis); ok {
			return "a list, each element " + wantExpr(rest.Type, Field{Value: rest.Type}.Definition())
		}
	case *ast.UnaryExpr:
		if words, ok := enumeration(e); ok {
			return "one of " + diag.OneOf(words)
		}
	}
	return bounds(exprText(e))
}

// WantIdent says in words what a value of a definition must be.
func WantIdent(name string) string {
	switch name {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "int":
		return "a whole number"
	}
	d := Definitions()[name]
	if d == nil {
		return name
	}
	if u, ok := d.Expr.(*ast.UnaryExpr); ok {
		if words, ok := enumeration(u); ok {
			return "one of " + diag.OneOf(words)
		}
	}
	if _, words, ok := strings.Cut(d.Doc, name+" is "); ok {
		return strings.TrimSuffix(words, ".")
	}
	return bounds(exprText(d.Expr))
}

// enumeration reads the words out of =~"^(a|b|c)$", in which a dot is escaped.
func enumeration(u *ast.UnaryExpr) ([]string, bool) {
	lit, ok := u.X.(*ast.BasicLit)
	if !ok || u.Op != token.MAT {
		return nil, false
	}
	s, err := literal.Unquote(lit.Value)
	if err != nil {
		return nil, false
	}
	s, open := strings.CutPrefix(s, "^(")
	s, closed := strings.CutSuffix(s, ")$")
	if !open || !closed || strings.ContainsAny(strings.ReplaceAll(s, `\.`, ""), `()[]\*+?.{}^$`) {
		return nil, false
	}
	return strings.Split(strings.ReplaceAll(s, `\.`, "."), "|"), true
}

// Words are the values of an enumeration; false for what is none.
func (f Field) Words() ([]string, bool) {
	u, ok := resolved(f.Value).(*ast.UnaryExpr)
	if !ok {
		return nil, false
	}
	return enumeration(u)
}

// Allows reports whether the schema takes a name as the key of a map whose values the field is.
func (f Field) Allows(label string) bool {
	if f.Name == "string" {
		return true
	}
	u, ok := resolved(ast.NewIdent(f.Name)).(*ast.UnaryExpr)
	if !ok || u.Op != token.MAT {
		return false
	}
	lit, ok := u.X.(*ast.BasicLit)
	if !ok {
		return false
	}
	s, err := literal.Unquote(lit.Value)
	if err != nil {
		return false
	}
	re, err := regexp.Compile(s)
	return err == nil && re.MatchString(label)
}

// resolved is what stands for the name of a definition that is no struct.
func resolved(e ast.Expr) ast.Expr {
	if id, ok := e.(*ast.Ident); ok {
		if d := Definitions()[id.Name]; d != nil {
			return d.Expr
		}
	}
	return e
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

// label is a field's name as the schema writes it.
func label(l ast.Label) string {
	name, _, err := ast.LabelName(l)
	if err != nil {
		panic(fmt.Sprintf("schema: embedded files: %v", err))
	}
	return name
}
