package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Memo remembers the parts of a mesh as OPA reads them from one Check to the next,
// so that a mesh which differs little costs little; findings are the same. It holds
// the parts of one mesh, and is safe for concurrent use. The zero Memo is empty.
type Memo struct {
	mu    sync.Mutex
	parts map[string]part
}

// part is a value, and its JSON.
type part struct {
	text string
	term *ast.Term
}

// mesh is a mesh as OPA reads it, nil if it cannot be told by parts.
func (m *Memo) mesh(raw []byte) *ast.Term {
	if m == nil {
		return nil
	}
	fields, ok := members(raw)
	if !ok {
		return nil
	}
	m.mu.Lock()
	before := m.parts
	m.mu.Unlock()
	now := make(map[string]part, len(before))
	read := func(text []byte) *ast.Term {
		p, ok := before[string(text)]
		if !ok {
			v, err := decoded(text)
			if err != nil {
				return nil
			}
			p = part{string(text), ast.NewTerm(v)}
		}
		now[p.text] = p
		return p.term
	}
	var pairs [][2]*ast.Term
	for _, f := range fields {
		value := f.read(read)
		if value == nil {
			return nil
		}
		pairs = append(pairs, [2]*ast.Term{ast.StringTerm(f.name), value})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parts = now
	return ast.ObjectTerm(pairs...)
}

// read reads a field by its parts, nil if one cannot be read.
func (f member) read(part func([]byte) *ast.Term) *ast.Term {
	if f.elements == nil {
		return part(f.value)
	}
	terms := make([]*ast.Term, 0, len(f.elements))
	for _, text := range f.elements {
		t := part(text)
		if t == nil {
			return nil
		}
		terms = append(terms, t)
	}
	return ast.ArrayTerm(terms...)
}

// member is a field of a JSON object: its value, or the elements of a list.
type member struct {
	name     string
	value    []byte
	elements [][]byte
}

// members cuts an object in canonical form into its fields, and lists of objects
// into their elements. No string of that form holds a line break, so that what
// stands at a line's beginning is structure.
func members(raw []byte) ([]member, bool) {
	rest, ok := bytes.CutPrefix(raw, []byte("{\n"))
	if !ok {
		return nil, false
	}
	if rest, ok = bytes.CutSuffix(rest, []byte("\n}\n")); !ok {
		return nil, false
	}
	var out []member
	for more := true; more; {
		var text []byte
		text, rest, more = bytes.Cut(rest, []byte(",\n  \""))
		if text = bytes.TrimPrefix(text, []byte("  \"")); len(text) == 0 {
			return nil, false
		}
		name, value, ok := bytes.Cut(text, []byte("\": "))
		if !ok || bytes.ContainsAny(name, `\"`) {
			return nil, false
		}
		m := member{name: string(name), value: value}
		if list, ok := bytes.CutPrefix(value, []byte("[\n    {")); ok {
			list, ok = bytes.CutSuffix(list, []byte("\n    }\n  ]"))
			if !ok {
				return nil, false
			}
			for _, e := range bytes.Split(list, []byte("\n    },\n    {")) {
				m.elements = append(m.elements, bytes.Join([][]byte{[]byte("{"), e, []byte("\n    }")}, nil))
			}
		}
		out = append(out, m)
	}
	return out, true
}

// decoded reads JSON as OPA does. Numbers keep their spelling.
func decoded(raw []byte) (ast.Value, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("policy input: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("policy input: something follows the value")
	}
	v, err := ast.InterfaceToValue(doc)
	if err != nil {
		return nil, fmt.Errorf("policy input: %w", err)
	}
	return v, nil
}
