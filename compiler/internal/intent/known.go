package intent

import (
	"cuelang.org/go/cue/ast"

	"meshc.dev/meshc/compiler/internal/schema"
)

// Most edits of a large package change one entry of it. Where the package is literals
// alone, what CUE says of an entry of a map depends on nothing around it: the schema says
// nothing of two entries together. So an entry that stood in the value before, which was
// valid, is not shown to CUE again. An error that comes of it is never told: the package is
// then evaluated whole. A test compares the two ways.

// minKnown is the size of a package's text, in bytes, from which on that is worth it.
const minKnown = 64 << 10

// likeness says how much of a value stood there before: the whole, or, of a struct, all but
// some fields, or, if it is no struct or there was none, nothing.
type likeness struct {
	whole bool
	but   map[string]likeness
}

// part is the likeness of a field.
func (l likeness) part(name string) likeness {
	if l.but == nil {
		return l
	}
	if p, ok := l.but[name]; ok {
		return p
	}
	return likeness{whole: true}
}

// liken compares a value with the one before.
func liken(v, before any) likeness {
	switch v := v.(type) {
	case map[string]any:
		old, ok := before.(map[string]any)
		if !ok {
			return likeness{}
		}
		l := likeness{whole: len(v) == len(old)}
		for name, f := range v {
			if part := liken(f, old[name]); !part.whole {
				if l.but == nil {
					l.but = map[string]likeness{}
				}
				l.but[name], l.whole = part, false
			}
		}
		if !l.whole && l.but == nil { // there were more
			l.but = map[string]likeness{}
		}
		return l
	case []any:
		old, ok := before.([]any)
		if !ok || len(v) != len(old) {
			return likeness{}
		}
		for i := range v {
			if !liken(v[i], old[i]).whole {
				return likeness{}
			}
		}
		return likeness{whole: true}
	}
	return likeness{whole: v != nil && v == before}
}

// dropKnown takes the entries of maps that stood there before out of a literal mesh's files.
func dropKnown(files []parsed, l likeness) {
	mesh, _ := schema.At(nil)
	for _, f := range files {
		for _, d := range f.file.Decls {
			if field, ok := d.(*ast.Field); ok {
				if name, _ := labelName(field.Label); name == "mesh" {
					dropIn(field.Value, mesh.Definition(), l)
				}
			}
		}
	}
}

// dropIn reports whether nothing is left of a struct.
func dropIn(v ast.Expr, def *schema.Definition, l likeness) bool {
	switch v := v.(type) {
	case *ast.StructLit:
		had := len(v.Elts) > 0
		v.Elts = dropFields(v.Elts, def, l)
		return had && len(v.Elts) == 0
	case *ast.BinaryExpr:
		x, y := dropIn(v.X, def, l), dropIn(v.Y, def, l)
		return x && y
	}
	return false
}

func dropFields(in []ast.Decl, def *schema.Definition, l likeness) []ast.Decl {
	if def == nil {
		return in
	}
	out := in[:0]
	for _, d := range in {
		field, ok := d.(*ast.Field)
		if !ok {
			return in // a literal holds fields alone
		}
		name, _ := literalLabel(field.Label)
		of, named := def.Field(name)
		part := l.part(name)
		switch {
		case named:
			if dropIn(field.Value, of.Definition(), part) && !of.Required {
				continue
			}
		case def.Pattern != nil:
			if part.whole || dropIn(field.Value, def.Pattern.Definition(), part) {
				continue
			}
		}
		out = append(out, d)
	}
	return out
}
