package intent

import (
	"strconv"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/compiler/internal/schema"
)

// While any hard error exists CUE does not tell which required fields are
// missing. So what was reported is cut out of the syntax and the rest is
// evaluated again: all problems come at once.

// prune cuts the paths for which cut answers true out of a file: an unknown
// field goes, the value of a known one becomes open. It reports whether
// something changed.
func prune(f *ast.File, cut func(path string) bool) bool {
	p := &pruner{cut: cut}
	f.Decls = p.decls(f.Decls, "")
	return p.changed
}

type pruner struct {
	cut     func(path string) bool
	changed bool
}

func (p *pruner) decls(in []ast.Decl, path string) []ast.Decl {
	out := in[:0]
	for _, d := range in {
		switch d := d.(type) {
		case *ast.Field:
			name, ok := labelName(d.Label)
			if ok && p.cut(join(path, name)) {
				p.changed = true
				if !p.known(join(path, name)) {
					continue
				}
				d.Value = ast.NewIdent("_")
			} else if ok {
				d.Value = p.expr(d.Value, join(path, name))
			}
		case *ast.EmbedDecl:
			d.Expr = p.expr(d.Expr, path)
		case *ast.Comprehension:
			if s, ok := d.Value.(*ast.StructLit); ok {
				s.Elts = p.decls(s.Elts, path)
			}
		}
		out = append(out, d)
	}
	return out
}

func (p *pruner) expr(v ast.Expr, path string) ast.Expr {
	switch v := v.(type) {
	case *ast.StructLit:
		v.Elts = p.decls(v.Elts, path)
	case *ast.ListLit:
		for i, e := range v.Elts {
			at := join(path, strconv.Itoa(i))
			if p.cut(at) {
				p.changed = true
				v.Elts[i] = ast.NewIdent("_")
			} else {
				v.Elts[i] = p.expr(e, at)
			}
		}
	case *ast.BinaryExpr:
		if v.Op == token.AND || v.Op == token.OR {
			v.X, v.Y = p.expr(v.X, path), p.expr(v.Y, path)
		}
	case *ast.ParenExpr:
		v.X = p.expr(v.X, path)
	case *ast.UnaryExpr:
		v.X = p.expr(v.X, path)
	}
	return v
}

// known reports whether the schema has the field.
func (p *pruner) known(path string) bool {
	labels := splitPath(path)
	around, ok := schema.At(below(labels[:len(labels)-1]))
	if !ok || len(labels) < 2 {
		return true
	}
	def := around.Definition()
	if def == nil {
		return true
	}
	_, ok = def.Field(labels[len(labels)-1])
	return ok
}

// splitPath is the reverse of join.
func splitPath(path string) []string {
	var out []string
	for path != "" {
		up := parent(path)
		label := path[len(up):]
		if up != "" {
			label = label[1:]
		}
		if u, err := strconv.Unquote(label); err == nil {
			label = u
		}
		out = append([]string{label}, out...)
		path = up
	}
	return out
}
