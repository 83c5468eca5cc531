package intent

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/internal/diag"
)

// index maps CUE paths to places in the user's files. It is filled while the
// files are parsed, because after unification CUE answers with positions of the
// schema. Labels of structs win over later repeats: the first file (in the order
// of names, the environment's after the base's) is where a thing is declared,
// except that within a folder braces win over a label that is only passed through,
// as cart is in "service: cart: grant: …"; a scalar is where it was last written,
// because that is the value in force.
type index struct {
	pos map[string]diag.Pos
	// passed are the paths whose place is a label that is only passed through.
	passed map[string]bool
}

func (x *index) at(path string) (diag.Pos, bool) {
	if x == nil {
		return diag.Pos{}, false
	}
	p, ok := x.pos[path]
	return p, ok
}

// nearest returns the place of path or of its nearest ancestor.
func (x *index) nearest(path string) diag.Pos {
	for path != "" {
		if p, ok := x.at(path); ok {
			return p
		}
		path = parent(path)
	}
	return diag.Pos{}
}

// add walks the declarations of a struct.
func (x *index) add(decls []ast.Decl, path string) {
	for _, d := range decls {
		switch d := d.(type) {
		case *ast.Field:
			name, ok := labelName(d.Label)
			if !ok {
				continue // a pattern or a computed name: the value's ancestor stands for it
			}
			x.field(join(path, name), d.Label.Pos(), d.Value)
		case *ast.EmbedDecl:
			x.value(d.Expr, path)
		case *ast.Comprehension:
			if s, ok := d.Value.(*ast.StructLit); ok {
				x.add(s.Elts, path)
			}
		}
	}
}

func (x *index) field(path string, at token.Pos, v ast.Expr) {
	old, seen := x.pos[path]
	pos, pass := userPos(at), isPassed(v)
	switch {
	case !seen && pass:
		if x.passed == nil {
			x.passed = map[string]bool{}
		}
		x.pos[path], x.passed[path] = pos, true
	case !seen || isScalar(v):
		x.pos[path] = pos
	case x.passed[path] && !pass && sameFolder(old.File, pos.File):
		x.pos[path] = pos
		delete(x.passed, path)
	}
	x.value(v, path)
}

func sameFolder(a, b string) bool { return path.Dir(a) == path.Dir(b) }

// isPassed reports whether v is a struct without braces: the rest of a line of labels.
func isPassed(v ast.Expr) bool {
	s, ok := v.(*ast.StructLit)
	return ok && !s.Lbrace.IsValid()
}

// value walks an expression that makes up the value at path.
func (x *index) value(v ast.Expr, path string) {
	switch v := v.(type) {
	case *ast.StructLit:
		x.add(v.Elts, path)
	case *ast.ListLit:
		for i, e := range v.Elts {
			if _, rest := e.(*ast.Ellipsis); !rest {
				x.field(join(path, strconv.Itoa(i)), e.Pos(), e)
			}
		}
	case *ast.BinaryExpr:
		if v.Op == token.AND || v.Op == token.OR {
			x.value(v.X, path)
			x.value(v.Y, path)
		}
	case *ast.ParenExpr:
		x.value(v.X, path)
	case *ast.UnaryExpr:
		if v.Op == token.MUL {
			x.value(v.X, path)
		}
	}
}

// isScalar reports whether v settles a value by itself; an open default does not
// move the place away from the override.
func isScalar(v ast.Expr) bool {
	switch v.(type) {
	case *ast.BasicLit, *ast.Interpolation:
		return true
	}
	return false
}

func labelName(l ast.Label) (string, bool) {
	switch l := l.(type) {
	case *ast.Ident, *ast.BasicLit:
		name, _, err := ast.LabelName(l)
		if name == overrideLabel {
			name = overrideWord
		}
		return name, err == nil
	case *ast.Alias:
		if inner, ok := l.Expr.(ast.Label); ok {
			return labelName(inner)
		}
	}
	return "", false
}

func userPos(p token.Pos) diag.Pos {
	at := p.Position()
	return diag.Pos{File: at.Filename, Line: at.Line, Col: at.Column}
}

// join appends a label to a path; labels that are no plain words are quoted.
func join(path, name string) string {
	if !plain(name) {
		name = strconv.Quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// plain reports whether a label can be written without quotes. Names with inner
// hyphens are common here and read well as they are.
func plain(name string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '#' || c == '$' {
			continue
		}
		return false
	}
	return true
}

// parent cuts the last label off a path.
func parent(path string) string {
	if strings.HasSuffix(path, `"`) {
		// A quoted label: find the quote that opens it.
		for i := len(path) - 2; i >= 0; i-- {
			if path[i] == '"' && !escaped(path, i) {
				return strings.TrimSuffix(path[:i], ".")
			}
		}
		return ""
	}
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return ""
	}
	return path[:i]
}

// escaped reports whether the quote at i is preceded by an odd number of backslashes.
func escaped(s string, i int) bool {
	n := 0
	for i--; i >= 0 && s[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

// children returns the labels written directly below path, sorted.
func (x *index) children(path string) []string {
	var out []string
	for p := range x.pos {
		if parent(p) == path && p != path {
			out = append(out, strings.Trim(p[len(path)+1:], `"`))
		}
	}
	slices.Sort(out)
	return out
}

// move puts the places of from, and of what is below it, to another path, in place of
// those that are there.
func (x *index) move(from, to string) {
	x.drop(to)
	for p, at := range x.pos {
		if rest, ok := strings.CutPrefix(p, from); ok && (rest == "" || rest[0] == '.') {
			x.pos[to+rest] = at
		}
	}
	x.drop(from)
}

// drop forgets a path and what is below it.
func (x *index) drop(path string) {
	maps.DeleteFunc(x.pos, func(p string, _ diag.Pos) bool {
		rest, ok := strings.CutPrefix(p, path)
		return ok && (rest == "" || rest[0] == '.')
	})
}
