package intent

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
)

// Intent is what all packages of a repository say, for one environment.
type Intent struct {
	Environment string     // the chosen environment's name, "default" if the root declares none
	Packages    []*Package // sorted by Dir; a package whose evaluation failed is left out
	Tree        string     // digest of the tree that it was loaded from
	// Files lists the files of each package by its folder, sorted: its own, and those of
	// every environment that join it there, the chosen one's or not.
	Files map[string][]string
	tree  source.Tree
}

// Package is what one package says. Read only: it may be shared with later loads.
type Package struct {
	Dir  string // relative to the repository's root, "." is the root package
	Mesh Node   // the value of its field mesh
	// Replaced are the fields in whose place the environment's stand, sorted by path.
	Replaced []Replaced
}

// Node is one value of the user's intent with its place. The zero Node does not
// exist. A Node is immutable.
type Node struct {
	value any // map[string]any, []any, string, json.Number, bool; nil: does not exist
	path  string
	field string // of a Node that does not exist: its name below path, which few ask for
	pos   *index
	last  diag.Pos // position of the nearest ancestor, if the index has none for path
}

// Entry is one field of a struct.
type Entry struct {
	Name string
	Node Node
}

// NewNode makes a Node from a decoded JSON value (json.Number, float64 or an int
// for numbers). pos maps paths as Node.Path spells them to positions.
func NewNode(jsonValue any, path string, pos map[string]diag.Pos) Node {
	x := &index{pos: pos}
	return Node{value: jsonValue, path: path, pos: x, last: x.nearest(path)}
}

// Exists reports whether the user wrote the value.
func (n Node) Exists() bool { return n.value != nil }

// Field returns a field of a struct. A missing one does not Exist; its Pos is
// that of n.
func (n Node) Field(name string) Node {
	m, _ := n.value.(map[string]any)
	return n.child(m[name], name)
}

// Has reports whether a struct has a field: whether Field gives one that Exists.
func (n Node) Has(name string) bool {
	m, _ := n.value.(map[string]any)
	return m[name] != nil
}

func (n Node) child(v any, name string) Node {
	if v == nil {
		return Node{path: n.Path(), field: name, pos: n.pos, last: n.last}
	}
	c := Node{value: v, path: join(n.path, name), pos: n.pos, last: n.last}
	if p, ok := n.pos.at(c.path); ok {
		c.last = p
	}
	return c
}

// Fields returns the fields of a struct, sorted by name.
func (n Node) Fields() []Entry {
	m, _ := n.value.(map[string]any)
	out := make([]Entry, 0, len(m))
	for name, v := range m {
		out = append(out, Entry{name, n.child(v, name)})
	}
	slices.SortFunc(out, func(a, b Entry) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// List returns the elements of a list in the user's order.
func (n Node) List() []Node {
	l, _ := n.value.([]any)
	out := make([]Node, len(l))
	for i, v := range l {
		out[i] = n.child(v, strconv.Itoa(i))
	}
	return out
}

// Strings returns the strings of a list, sorted, each once: a list of the language is a set.
func (n Node) Strings() []string {
	var out []string
	for _, v := range n.List() {
		out = append(out, v.Str())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Str returns a string, or "".
func (n Node) Str() string { s, _ := n.value.(string); return s }

// Int returns a whole number, or 0.
func (n Node) Int() int64 {
	switch v := n.value.(type) {
	case json.Number:
		i, err := v.Int64()
		if err != nil {
			return 0
		}
		return i
	case float64:
		return int64(v)
	case int:
		return int64(v)
	case int64:
		return v
	}
	return 0
}

// Hundredths returns a number in hundredths; exact is false if that is not all of it.
func (n Node) Hundredths() (hundredths int64, exact bool) {
	r, ok := new(big.Rat).SetString(fmt.Sprint(n.value))
	if !ok {
		return 0, false
	}
	r.Mul(r, big.NewRat(100, 1))
	return new(big.Int).Quo(r.Num(), r.Denom()).Int64(), r.IsInt()
}

// JSON returns the value as it is written, in canonical form; null if it does not exist.
func (n Node) JSON() (json.RawMessage, error) { return json.Marshal(n.value) }

// Bool returns a truth value, or false.
func (n Node) Bool() bool { b, _ := n.value.(bool); return b }

// Pos returns the place of the value's label in the user's file, or that of the
// nearest ancestor that was written there.
func (n Node) Pos() diag.Pos { return n.last }

// Path returns the CUE path of the value, "mesh.service.reviews".
func (n Node) Path() string {
	if n.field == "" {
		return n.path
	}
	return join(n.path, n.field)
}
