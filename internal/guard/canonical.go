package guard

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// canonicalObject reads a JSON object whose fields are sorted by name, each once, as the
// canonical form has them, without decoding into values of Go first: the mesh is read for
// every judgement, and that takes three times as long. It gives up at whatever is not plain
// (escapes, letters beyond ASCII, fractions, faults), and the decoder is asked.
func canonicalObject(raw []byte) (ast.Object, bool) {
	r := canonicalReader{text: string(raw), names: map[string]*ast.Term{}}
	if r.next() != '{' {
		return nil, false
	}
	v, ok := r.object(0)
	return v, ok && r.next() == 0 && r.at == len(r.text)
}

// maxPlainDepth bounds the nesting of what is read here.
const maxPlainDepth = 1000

type canonicalReader struct {
	text  string
	at    int
	names map[string]*ast.Term // of fields, which come again and again
}

// next skips spaces and returns the byte there, 0 at the end.
func (r *canonicalReader) next() byte {
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; c {
		case ' ', '\n', '\t', '\r':
		default:
			return c
		}
	}
	return 0
}

// take reports whether the byte that comes next is c, and goes past it.
func (r *canonicalReader) take(c byte) bool {
	if r.next() != c {
		return false
	}
	r.at++
	return true
}

func (r *canonicalReader) value(depth int) (ast.Value, bool) {
	switch c := r.next(); {
	case c == '{':
		return r.object(depth)
	case c == '[':
		return r.array(depth)
	case c == '"':
		s, ok := r.string()
		return ast.InternedValueOr(s, func(s string) ast.Value { return ast.String(s) }), ok
	case c == '-' || '0' <= c && c <= '9':
		return r.integer()
	}
	for word, v := range map[string]ast.Value{"true": ast.Boolean(true), "false": ast.Boolean(false), "null": ast.NullValue} {
		if rest := r.text[r.at:]; len(rest) >= len(word) && rest[:len(word)] == word {
			r.at += len(word) // what follows is no comma or bracket if it is another word
			return v, true
		}
	}
	return nil, false
}

func (r *canonicalReader) object(depth int) (ast.Object, bool) {
	r.at++
	if depth > maxPlainDepth {
		return nil, false
	}
	var fields [][2]*ast.Term
	before := ""
	for first := true; !r.take('}'); first = false {
		if !first && !r.take(',') || r.next() != '"' {
			return nil, false
		}
		name, ok := r.string()
		if !ok || !first && name <= before || !r.take(':') {
			return nil, false
		}
		before = name
		key := r.names[name]
		if key == nil {
			key = ast.StringTerm(name)
			r.names[name] = key
		}
		v, ok := r.value(depth + 1)
		if !ok {
			return nil, false
		}
		fields = append(fields, [2]*ast.Term{key, {Value: v}})
	}
	return ast.NewObject(fields...), true
}

func (r *canonicalReader) array(depth int) (*ast.Array, bool) {
	r.at++
	if depth > maxPlainDepth {
		return nil, false
	}
	var elements []*ast.Term
	for first := true; !r.take(']'); first = false {
		if !first && !r.take(',') {
			return nil, false
		}
		v, ok := r.value(depth + 1)
		if !ok {
			return nil, false
		}
		elements = append(elements, &ast.Term{Value: v})
	}
	return ast.NewArray(elements...), true
}

// string reads a string of printable ASCII without escapes.
func (r *canonicalReader) string() (string, bool) {
	r.at++
	from := r.at
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return r.text[from : r.at-1], true
		case c < ' ' || c > '~' || c == '\\':
			return "", false
		}
	}
	return "", false
}

func (r *canonicalReader) integer() (ast.Value, bool) {
	from := r.at
	if r.text[r.at] == '-' {
		r.at++
	}
	digits := r.at
	for r.at < len(r.text) && '0' <= r.text[r.at] && r.text[r.at] <= '9' {
		r.at++
	}
	if n := r.at - digits; n == 0 || n > 1 && r.text[digits] == '0' {
		return nil, false
	}
	if r.at < len(r.text) && (r.text[r.at] == '.' || r.text[r.at]|0x20 == 'e') {
		return nil, false
	}
	text := r.text[from:r.at]
	if interned := ast.InternedIntNumberTermFromString(text); interned != nil {
		return interned.Value, true
	}
	n, err := ast.NumberChecked(text)
	return n, err == nil
}
