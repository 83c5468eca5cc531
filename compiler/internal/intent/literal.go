package intent

import (
	"encoding/json"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

// Most intent is literals alone. CUE then has nothing to compute: once it has
// found the package valid, the value is what the syntax says, since the schema
// adds no values. Reading it from the syntax saves half of a cold load, because
// CUE sorts every struct's fields when it hands them out. Anything that is not a
// plain literal makes the reader give up, and CUE is asked. A test compares the
// two ways.

// literalMesh returns the field mesh of a valid package, or false if it holds
// anything but literals.
func literalMesh(files []parsed) (any, bool) {
	var mesh any
	for _, f := range files {
		for _, d := range f.file.Decls {
			switch d := d.(type) {
			case *ast.Package, *ast.ImportDecl, *ast.LetClause:
			case *ast.Field:
				name, ok := labelName(d.Label)
				if !ok {
					return nil, false
				}
				if name != "mesh" {
					continue // the lint has let only definitions and hidden fields through
				}
				if !isRegular(d) {
					return nil, false
				}
				if mesh, ok = mergeLiteral(mesh, d.Value, true); !ok {
					return nil, false
				}
			default:
				return nil, false
			}
		}
	}
	return mesh, mesh != nil
}

// isRegular reports whether a field is neither a constraint nor named by an alias.
func isRegular(f *ast.Field) bool {
	_, aliased := f.Label.(*ast.Alias)
	return f.Constraint == token.ILLEGAL && f.Alias == nil && !aliased
}

// mergeLiteral unifies what is there already (nil: nothing) with a literal. top
// allows the schema's own #Mesh, which adds nothing.
func mergeLiteral(old any, e ast.Expr, top bool) (any, bool) {
	switch e := e.(type) {
	case *ast.StructLit:
		return mergeStruct(old, e)
	case *ast.ListLit:
		return mergeList(old, e)
	case *ast.BasicLit:
		v, ok := scalar(e)
		return v, ok && (old == nil || old == v)
	case *ast.BinaryExpr:
		if e.Op != token.AND {
			return nil, false
		}
		x, ok := mergeLiteral(old, e.X, top)
		if !ok {
			return nil, false
		}
		return mergeLiteral(x, e.Y, top)
	case *ast.SelectorExpr:
		if !top || !isMeshExpr(e) {
			return nil, false
		}
		if old == nil {
			old = map[string]any{}
		}
		return old, true
	}
	return nil, false
}

func mergeStruct(old any, s *ast.StructLit) (any, bool) {
	m, ok := old.(map[string]any)
	if old == nil {
		m, ok = make(map[string]any, len(s.Elts)), true
	}
	if !ok {
		return nil, false
	}
	for _, d := range s.Elts {
		f, ok := d.(*ast.Field)
		if !ok || !isRegular(f) {
			return nil, false
		}
		name, ok := literalLabel(f.Label)
		if !ok {
			return nil, false
		}
		if m[name], ok = mergeLiteral(m[name], f.Value, false); !ok {
			return nil, false
		}
	}
	return m, true
}

func mergeList(old any, l *ast.ListLit) (any, bool) {
	list, ok := old.([]any)
	if old == nil {
		list, ok = make([]any, len(l.Elts)), true
	}
	if !ok || len(list) != len(l.Elts) {
		return nil, false
	}
	for i, e := range l.Elts {
		if list[i], ok = mergeLiteral(list[i], e, false); !ok {
			return nil, false
		}
	}
	return list, true
}

func literalLabel(l ast.Label) (string, bool) {
	switch l := l.(type) {
	case *ast.Ident:
		return l.Name, !isPrivate(l.Name)
	case *ast.BasicLit:
		s, ok := scalar(l)
		name, isString := s.(string)
		return name, ok && isString
	}
	return "", false
}

// scalar reads the simple spellings: "text" in ASCII without escapes, decimal
// digits, true and false.
func scalar(l *ast.BasicLit) (any, bool) {
	switch l.Kind {
	case token.TRUE:
		return true, true
	case token.FALSE:
		return false, true
	case token.INT:
		return json.Number(l.Value), isDecimal(l.Value)
	case token.STRING:
		return simpleString(l.Value)
	}
	return nil, false
}

func isDecimal(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s == "0" || s != "" && s[0] != '0'
}

func simpleString(s string) (any, bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return nil, false
	}
	inner := s[1 : len(s)-1]
	for i := range len(inner) {
		if c := inner[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return nil, false
		}
	}
	return inner, true
}
