// Package reference is what the words of the intent language are, as data.
//
// In: the files of the schema, and what a test has seen of their use (seen.json). Out: its
// definitions, in the order in which they are met, and each word under the name by which people
// speak of it: `retry.perTry`. It holds no sentence of its own about a word.
package reference

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/format"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/schemas"
)

// Root is the definition that all others are met from.
const Root = "#Mesh"

// Definition is a definition of the schema, the pieces of all files joined.
type Definition struct {
	ID    string // as the schema writes it: "#Retry"
	Name  string // by which people speak of its values: "retry"; "" for the root
	Also  string // another name, where two fields of one definition hold such values: "responseHeaders"
	Means string // a sentence
	// Fields are what its values hold. None: its values are no structs, and Form says what
	// they are.
	Fields []Field
	Form   string
}

// Field is one word.
type Field struct {
	Name     string // "perTry"; "" if all fields of another definition are its own
	Form     string // "#Duration"
	Means    string
	Required bool
	// Of are the definitions that Form names; Named says that its values have names of the
	// user's own, as services have.
	Of    []string
	Named bool
}

// Definitions are those of the schema, each behind the one that names it first, the forms
// of values last. Read only.
var Definitions = sync.OnceValue(func() []Definition {
	s := read()
	s.nameAll()
	out := make([]Definition, 0, len(s.defs))
	for _, id := range s.met() {
		out = append(out, *s.defs[id])
	}
	return out
})

// schema is the schema while it is read.
type schema struct {
	defs  map[string]*Definition
	order []string // as the files have them
}

func read() *schema {
	s := &schema{defs: map[string]*Definition{}}
	files := slices.Clone(schemas.Files())
	slices.SortStableFunc(files, func(a, b schemas.File) int { return cmp.Compare(rank(a), rank(b)) })
	for _, f := range files {
		file, err := parser.ParseFile(f.Name, f.Text, parser.ParseComments)
		if err != nil {
			panic(fmt.Sprintf("reference: the schema's own file: %v", err))
		}
		for _, d := range file.Decls {
			if x, ok := d.(*ast.Field); ok {
				s.add(x)
			}
		}
	}
	return s
}

// rank puts the files of features and conditions behind those that they add to.
func rank(f schemas.File) int {
	if strings.HasPrefix(f.Name, "feature_") || strings.HasPrefix(f.Name, "condition_") {
		return 1
	}
	return 0
}

// add joins one piece of a definition.
func (s *schema) add(x *ast.Field) {
	id := label(x)
	d := s.defs[id]
	if d == nil {
		d = &Definition{ID: id}
		s.defs[id], s.order = d, append(s.order, id)
	}
	if doc := docOf(x); doc != "" {
		d.Means = strings.TrimPrefix(doc, id+" ")
		for _, verb := range []string{"is ", "are "} {
			d.Means = strings.TrimPrefix(d.Means, verb)
		}
		d.Means = strings.ToUpper(d.Means[:1]) + d.Means[1:]
	}
	body, ok := x.Value.(*ast.StructLit)
	if !ok {
		d.Form = text(x.Value)
		return
	}
	for _, e := range body.Elts {
		switch e := e.(type) {
		case *ast.EmbedDecl:
			d.Fields = append(d.Fields, Field{Form: text(e.Expr), Means: "and all of its fields", Of: named(text(e.Expr))})
		case *ast.Field:
			form := text(e.Value)
			d.Fields = append(d.Fields, Field{
				Name: label(e), Form: form, Means: docOf(e), Required: e.Constraint == token.NOT,
				Of: named(withoutKeys(form)), Named: mapOf.MatchString(form),
			})
		}
	}
}

var (
	ids   = regexp.MustCompile(`#[A-Z][A-Za-z0-9]*`)
	mapOf = regexp.MustCompile(`\{\[[^\]]*\]: `)
)

func named(form string) []string { return ids.FindAllString(form, -1) }

// withoutKeys is a form without what names are like.
func withoutKeys(form string) string { return mapOf.ReplaceAllString(form, "") }

// met are the definitions in the order in which they are met, forms last in their own.
func (s *schema) met() []string {
	var out []string
	seen := map[string]bool{}
	var meet func(string)
	meet = func(id string) {
		d := s.defs[id]
		if seen[id] || d.Form != "" {
			return
		}
		seen[id] = true
		out = append(out, id)
		for _, f := range d.Fields {
			for _, other := range f.Of {
				meet(other)
			}
		}
	}
	meet(Root)
	for _, id := range s.order {
		if s.defs[id].Form != "" {
			out = append(out, id)
		}
	}
	return out
}

// Unmet are definitions that nothing of the root leads to. There should be none.
func Unmet() []string {
	var out []string
	s := read()
	met := s.met()
	for _, id := range s.order {
		if !slices.Contains(met, id) {
			out = append(out, id)
		}
	}
	return out
}

// place is where a definition is named: a field of another one, or all of it (field "").
type place struct {
	in    string
	field string
	named bool
}

// nameAll gives each definition the name by which people speak of its values: the field that holds
// them, alone where they stand at several places or on something that has a name of its own, else
// behind what they are a part of.
func (s *schema) nameAll() {
	nearest, all := s.places()
	owned := map[string]bool{Root: true} // what has names of the user's own
	for id, p := range nearest {
		owned[id] = owned[id] || p.named
	}
	for id, p := range nearest { // and what is a part of their definition
		owned[id] = owned[id] || p.field == "" && owned[p.in]
	}
	alone := func(id string) bool {
		p := nearest[id]
		return p.named || owned[p.in] || slices.ContainsFunc(all[id], func(o place) bool { return o.in != p.in })
	}
	uses := map[string]int{}
	for id, p := range nearest {
		if p.field != "" && s.defs[id].Form == "" && alone(id) {
			uses[p.field]++
		}
	}
	var nameOf func(string) string
	nameOf = func(id string) string {
		p, ok := nearest[id]
		switch {
		case !ok:
			return ""
		case p.field == "":
			name := nameOf(p.in)
			if len(all[id]) > 1 { // a part of several has the name that they have in common
				name = name[strings.LastIndexByte(name, '.')+1:]
			}
			return name
		case alone(id) && uses[p.field] == 1:
			return p.field
		}
		return strings.TrimPrefix(nameOf(p.in)+"."+p.field, ".")
	}
	for id, d := range s.defs {
		d.Name = nameOf(id)
		for _, p := range all[id] {
			if of := nearest[id]; p.in == of.in && p.field != of.field && p.field != "" {
				d.Also = strings.TrimSuffix(d.Name, of.field) + p.field
			}
		}
	}
}

// places are where each definition is named: the fewest steps from the root, and all.
func (s *schema) places() (nearest map[string]place, all map[string][]place) {
	nearest, all = map[string]place{}, map[string][]place{}
	for level := []string{Root}; len(level) > 0; {
		var next []string
		for i := 0; i < len(level); i++ { // what is a part of a definition joins its level
			for _, f := range s.defs[level[i]].Fields {
				for _, of := range f.Of {
					p := place{level[i], f.Name, f.Named}
					all[of] = append(all[of], p)
					if _, known := nearest[of]; known || of == Root {
						continue
					}
					nearest[of] = p
					if f.Name == "" {
						level = append(level, of)
					} else {
						next = append(next, of)
					}
				}
			}
		}
		level = next
	}
	return nearest, all
}

func label(f *ast.Field) string { return strings.Trim(text(f.Label), `"`) }

// text is a node on one line.
func text(n ast.Node) string {
	if s, ok := n.(*ast.StructLit); ok && len(s.Elts) == 1 {
		if f, ok := s.Elts[0].(*ast.Field); ok {
			return "{" + label(f) + ": " + text(f.Value) + "}"
		}
	}
	b, err := format.Node(n)
	if err != nil {
		panic(fmt.Sprintf("reference: the schema's own text: %v", err))
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

func docOf(n ast.Node) string {
	var lines []string
	for _, g := range ast.Comments(n) {
		if g.Doc {
			lines = append(lines, strings.Fields(g.Text())...)
		}
	}
	return strings.Join(lines, " ")
}
