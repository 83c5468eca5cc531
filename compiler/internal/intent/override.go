package intent

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/compiler/internal/schema"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

// What a package says can only be added to in CUE, so an environment that wants another
// value than the package offers has a word of its own: the fields of `override`, beside
// those of a struct, stand in place of the struct's fields of the same names, whole; null
// stands for none.
//
// CUE evaluates it as a hidden field, which no definition forbids and in which names mean
// what they mean around it. Then the values change places, and what comes of it is held
// against the schema once more.
const (
	overrideWord  = "override"
	overrideLabel = "_meshc_override"
)

// Replaced is a field of a package in whose place stands an environment's.
type Replaced struct {
	Path string   `json:"path"` // of the field, "mesh.service.cart.port"
	By   diag.Pos `json:"by"`   // where the environment says what stands there
}

// overrides are those of one package.
type overrides struct {
	structs  []string             // the paths around each `override`, sorted by depth, then by text
	literals map[string]token.Pos // where the words of replacing values stand, by the field's path
}

// hide gives each `override` of an overlay's file its hidden name.
func (o *overrides) hide(f *ast.File) {
	for _, d := range f.Decls {
		if field, ok := d.(*ast.Field); ok {
			if name, ok := labelName(field.Label); ok && name == "mesh" {
				o.expr(field.Value, []string{name})
			}
		}
	}
	slices.SortFunc(o.structs, func(a, b string) int {
		if x, y := len(splitPath(a)), len(splitPath(b)); x != y {
			return x - y
		}
		return strings.Compare(a, b)
	})
	o.structs = slices.Compact(o.structs)
}

func (o *overrides) expr(v ast.Expr, path []string) {
	switch v := v.(type) {
	case *ast.StructLit:
		for _, d := range v.Elts {
			o.decl(d, path)
		}
	case *ast.BinaryExpr:
		if v.Op == token.AND {
			o.expr(v.X, path)
			o.expr(v.Y, path)
		}
	case *ast.ParenExpr:
		o.expr(v.X, path)
	}
}

func (o *overrides) decl(d ast.Decl, path []string) {
	field, ok := d.(*ast.Field)
	if !ok {
		return
	}
	name, ok := labelName(field.Label)
	if !ok || !isRegular(field) {
		return
	}
	if name != overrideWord || !isWord(path) {
		o.expr(field.Value, append(slices.Clip(path), name))
		return
	}
	hidden := ast.NewIdent(overrideLabel)
	ast.SetPos(hidden, field.Label.Pos())
	field.Label = hidden
	o.structs = append(o.structs, joinAll(path))
	if o.literals == nil {
		o.literals = map[string]token.Pos{}
	}
	o.note(field.Value, joinAll(path))
}

// isWord reports whether `override` in the struct at a path is the word, and not a name
// that a user gives to an entry of a map.
func isWord(path []string) bool {
	around, ok := schema.At(below(path))
	def := around.Definition()
	return ok && def != nil && def.Pattern == nil
}

// note keeps where the literals of a value stand.
func (o *overrides) note(v ast.Expr, path string) {
	switch v := v.(type) {
	case *ast.BasicLit:
		o.literals[path] = v.ValuePos
	case *ast.StructLit:
		for _, d := range v.Elts {
			if field, ok := d.(*ast.Field); ok {
				if name, ok := labelName(field.Label); ok {
					o.note(field.Value, join(path, name))
				}
			}
		}
	case *ast.ListLit:
		for i, e := range v.Elts {
			o.note(e, join(path, strconv.Itoa(i)))
		}
	}
}

// replace puts the values of overrides into mesh, the package's, with their places.
func (o *overrides) replace(v cue.Value, pkg string, mesh any, red *reducer) ([]Replaced, diag.List) {
	x := replacer{red: red}
	for _, path := range o.structs {
		labels := splitPath(path)
		selectors := make([]cue.Selector, 0, len(labels)+1)
		at := mesh
		for i, l := range labels {
			if selectors = append(selectors, cue.Str(l)); i > 0 {
				m, _ := at.(map[string]any)
				at = m[l]
			}
		}
		around, _ := at.(map[string]any)
		word := join(path, overrideWord)
		raw, err := v.LookupPath(cue.MakePath(append(selectors, cue.Hid(overrideLabel, pkg))...)).MarshalJSON()
		if err != nil {
			x.diags = append(x.diags, red.reduce(err)...)
			continue
		}
		value, err := decode(raw)
		if err != nil {
			x.diags = append(x.diags, diag.New(diag.CodeEval, red.pos.nearest(word), "%s: %v", word, err))
			continue
		}
		fields, ok := value.(map[string]any)
		if !ok {
			x.diags = append(x.diags, diag.New(diag.CodeOverride, red.pos.nearest(word), "%s: got a value, want fields", word).
				WithFix("write the field that is replaced within: %s: %s", overrideWord, exampleField(around)))
			continue
		}
		x.fields(around, fields, path, word)
		red.pos.drop(word)
	}
	slices.SortFunc(x.replaced, func(a, b Replaced) int { return strings.Compare(a.Path, b.Path) })
	return x.replaced, x.diags
}

// replacer lets values change places.
type replacer struct {
	red      *reducer
	replaced []Replaced
	diags    diag.List
}

// fields puts those at the path word into the struct at path; null takes one away.
func (x *replacer) fields(into, from map[string]any, path, word string) {
	for _, name := range slices.Sorted(maps.Keys(from)) {
		field, by := join(path, name), join(word, name)
		_, known := schema.At(below(splitPath(field)))
		if _, exists := into[name]; !exists && (known || from[name] == nil) {
			d := diag.New(diag.CodeOverride, x.red.pos.nearest(by), "%s: there is nothing to replace: neither package nor environment says it", field)
			if from[name] == nil {
				x.diags = append(x.diags, d.WithFix("remove the line"))
			} else {
				x.diags = append(x.diags, d.WithFix("write it without `%s`, which adds it", overrideWord))
			}
			continue
		}
		x.replaced = append(x.replaced, Replaced{Path: field, By: x.red.pos.nearest(by)})
		if from[name] == nil {
			delete(into, name)
			x.red.pos.drop(field)
			continue
		}
		into[name] = from[name]
		x.red.pos.move(by, field)
	}
}

// exampleField is a field that a struct has.
func exampleField(m map[string]any) string {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		return name + ": …"
	}
	return "{…}"
}

// judged holds a package's value against the schema, as if it had been written so.
func (l *layout) judged(u unit, name string, mesh any, o *overrides, words []schemas.File, red *reducer) diag.List {
	pkg := &ast.Package{Name: ast.NewIdent(name)}
	spec := ast.NewImport(nil, schemas.Module)
	bound := &ast.Field{Label: ast.NewIdent("mesh"), Value: &ast.SelectorExpr{X: ast.NewIdent("intent"), Sel: ast.NewIdent("#Mesh")}}
	data := &ast.Field{Label: ast.NewIdent("mesh"), Value: o.syntax(mesh, "mesh")}
	file := &ast.File{Filename: u.overlay[0], Decls: []ast.Decl{pkg, &ast.ImportDecl{Specs: []*ast.ImportSpec{spec}}, bound, data}}
	inst, diags := l.instance(u, []parsed{{path: u.overlay[0], file: file}}, name, words)
	if diags.HasErrors() {
		return diags
	}
	_, diags = valid(inst, red)
	return diags
}

// syntax writes a value as CUE, each literal of an override with its place.
func (o *overrides) syntax(v any, path string) ast.Expr {
	var out ast.Expr
	switch v := v.(type) {
	case map[string]any:
		s := &ast.StructLit{}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			s.Elts = append(s.Elts, &ast.Field{Label: ast.NewString(name), Value: o.syntax(v[name], join(path, name))})
		}
		return s
	case []any:
		l := &ast.ListLit{}
		for i, e := range v {
			l.Elts = append(l.Elts, o.syntax(e, join(path, strconv.Itoa(i))))
		}
		return l
	case string:
		out = ast.NewString(v)
	case bool:
		out = ast.NewBool(v)
	case json.Number:
		kind := token.INT
		if strings.ContainsAny(v.String(), ".eE") {
			kind = token.FLOAT
		}
		out = ast.NewLit(kind, v.String())
	default:
		out = ast.NewNull()
	}
	if at, ok := o.literals[path]; ok {
		ast.SetPos(out, at)
	}
	return out
}
