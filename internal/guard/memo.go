package guard

import (
	"encoding/json"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"meshc.dev/meshc/internal/parallel"
)

// Memo remembers the parts of a mesh as OPA reads them from one Check to the next,
// so that a mesh which differs little costs little; findings are the same. A part is
// known by where its bytes lie. A Memo holds the parts of one mesh, and is safe for
// concurrent use. The zero Memo is empty.
type Memo struct {
	mu    sync.Mutex
	parts map[*byte]part
}

// part is a JSON object as OPA reads it, and the bytes that it was read from: while
// they are held, no others lie there.
type part struct {
	bytes []byte
	value ast.Object
}

// mesh is a mesh as OPA reads it. m may be nil.
func (m *Memo) mesh(mesh Mesh) (*ast.Term, error) {
	before := m.load()
	texts := append([]json.RawMessage{mesh.Rest}, mesh.Services...)
	parts, errs := make([]part, len(texts)), make([]error, len(texts))
	parallel.Each(len(texts), func(i int) {
		b := texts[i]
		if len(b) > 0 {
			if p, ok := before[&b[0]]; ok && len(p.bytes) == len(b) {
				parts[i] = p
				return
			}
		}
		parts[i].bytes = b
		parts[i].value, errs[i] = decodedObject(b)
	})
	now := make(map[*byte]part, len(texts))
	for i, p := range parts {
		if errs[i] != nil {
			return nil, errs[i]
		}
		now[&p.bytes[0]] = p
	}
	rest := parts[0].value
	out := ast.NewTerm(rest)
	if len(mesh.Services) > 0 {
		services := make([]*ast.Term, len(mesh.Services))
		for i, p := range parts[1:] {
			services[i] = ast.NewTerm(p.value)
		}
		fields := ast.NewObject() // rest is shared, and stays as it is
		rest.Foreach(fields.Insert)
		fields.Insert(ast.StringTerm(servicesField), ast.ArrayTerm(services...))
		out = ast.NewTerm(fields)
	}
	m.keep(now)
	return out, nil
}

func (m *Memo) load() map[*byte]part {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.parts
}

func (m *Memo) keep(now map[*byte]part) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parts = now
}
