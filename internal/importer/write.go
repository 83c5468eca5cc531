package importer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/format"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// This file writes CUE, and reads nothing but what it wrote.

// tree is a struct of intent that is being written. Its fields keep their order, and each name
// stands there once: a second value, the same or another one, is kept as a clash, and what has one
// is not written (see clashing).
type tree struct {
	fields  []field
	clashes []string // names
}

type field struct {
	name    string
	value   string // of CUE
	sub     *tree  // in place of value
	comment string
	at      *node // what says it
}

// add writes a value, which is CUE.
func (t *tree) add(name, value string) { t.set(field{name: name, value: value}) }

// put writes a struct, which is nobody else's.
func (t *tree) put(name string, sub *tree) { t.set(field{name: name, sub: sub}) }

// join writes the fields of another struct.
func (t *tree) join(o *tree) {
	for _, f := range o.fields {
		t.set(f)
	}
	t.clashes = append(t.clashes, o.clashes...)
}

// set is where every field is written, and the only place.
func (t *tree) set(f field) {
	if t.has(f.name) {
		t.clashes = append(t.clashes, f.name)
		return
	}
	t.fields = append(t.fields, f)
}

// clashing is the path of a name that was to have two values, "" if there is none.
func (t *tree) clashing() string {
	if len(t.clashes) > 0 {
		return t.clashes[0]
	}
	for _, f := range t.fields {
		if f.sub != nil {
			if path := f.sub.clashing(); path != "" {
				return f.name + "." + path
			}
		}
	}
	return ""
}

// child is the struct of a word, to which several may write, made where there is none. What is
// named by somebody is written by put.
func (t *tree) child(name string) *tree {
	for _, f := range t.fields {
		if f.name == name && f.sub != nil {
			return f.sub
		}
	}
	sub := &tree{}
	t.put(name, sub)
	return sub
}

// holds reports whether a name is written in the struct of a word.
func (t *tree) holds(word, name string) bool {
	return slices.ContainsFunc(t.fields, func(f field) bool { return f.name == word && f.sub != nil && f.sub.has(name) })
}

// has reports whether a name is written.
func (t *tree) has(name string) bool {
	return slices.ContainsFunc(t.fields, func(f field) bool { return f.name == name })
}

// text is a string that is written.
func (t *tree) text(name string) (string, bool) {
	for _, f := range t.fields {
		if f.name == name {
			s, err := literal.Unquote(f.value)
			return s, err == nil
		}
	}
	return "", false
}

// copied is a copy, that can be written to.
func (t *tree) copied() *tree {
	out := &tree{fields: slices.Clone(t.fields), clashes: slices.Clone(t.clashes)}
	for i, f := range out.fields {
		if f.sub != nil {
			out.fields[i].sub = f.sub.copied()
		}
	}
	return out
}

// write prints the fields; one that is alone stands on its parent's line.
func (t *tree) write(b *strings.Builder) {
	for _, f := range t.fields {
		if f.comment != "" {
			fmt.Fprintf(b, "// %s\n", f.comment)
		}
		b.WriteString(label(f.name) + ": ")
		f.writeValue(b)
		b.WriteString("\n")
	}
}

func (f field) writeValue(b *strings.Builder) {
	switch {
	case f.sub == nil:
		b.WriteString(f.value)
	case len(f.sub.fields) == 1 && f.sub.fields[0].comment == "":
		b.WriteString(label(f.sub.fields[0].name) + ": ")
		f.sub.fields[0].writeValue(b)
	default:
		b.WriteString("{\n")
		f.sub.write(b)
		b.WriteString("}")
	}
}

// label is a field's name in CUE.
func label(name string) string {
	if ast.IsValidIdent(name) && !token.Lookup(name).IsKeyword() && !strings.HasPrefix(name, "_") && !strings.HasPrefix(name, "#") {
		return name
	}
	return quote(name)
}

func quote(text string) string { return literal.String.Quote(text) }

func quoteList(texts []string) string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = quote(t)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// count is a number of things.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// nameOf makes a name of intent of another one: a DNS label.
func nameOf(text string) string {
	mapped := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return '-'
	}, strings.ToLower(text))
	return cmp.Or(strings.Trim(mapped[:min(len(mapped), 63)], "-"), "x")
}

// names are those that are given to things beside each other: each once. Those in other mean
// something else already.
type names struct {
	other map[string]bool
	given map[string]bool
	next  map[string]int
}

// give is a name like the wanted one that nothing else has.
func (n *names) give(wanted string) string {
	base := nameOf(wanted)
	name := base
	for !n.take(name) {
		n.next[base] = max(n.next[base], 1) + 1
		name = nameOf(fmt.Sprintf("%.52s-%d", base, n.next[base]))
	}
	return name
}

// take takes a name as it is, if nothing has it.
func (n *names) take(name string) bool {
	if n.given == nil {
		n.given, n.next = map[string]bool{}, map[string]int{}
	}
	if n.given[name] || n.other[name] {
		return false
	}
	n.given[name] = true
	return true
}

// folderOf is the folder and the package of a namespace. A folder that is not called as the
// namespace has an underscore, which no namespace has.
func folderOf(namespace string) (folder, name string) {
	folder = namespace
	if slices.Contains([]string{"environments", "policies", "releases"}, namespace) {
		folder = "namespace_" + namespace
	}
	name = strings.ReplaceAll(folder, "-", "_")
	if name[0] >= '0' && name[0] <= '9' || token.Lookup(name).IsKeyword() || name == rootPackage {
		name = "ns_" + name
	}
	return folder, name
}

// Environment is the one that the root package declares.
const Environment = "prod"

// rootPackage is the package around those of the namespaces: CUE would join one of the same name.
const rootPackage = "mesh"

const root = `// What holds for the whole mesh.
package ` + rootPackage + `

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: environment: ` + Environment + `: capture: "transparent"
`

// rootPage is the root package, of what it says of the mesh.
func rootPage(mesh *tree) ([]byte, error) {
	var b strings.Builder
	b.WriteString("// What holds for the whole mesh.\npackage " + rootPackage + "\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n")
	(&tree{fields: []field{{name: "mesh", sub: mesh}}}).write(&b)
	text, err := format.Source([]byte(b.String()))
	if err != nil {
		return nil, fmt.Errorf("writing the root package: %w", err)
	}
	return text, nil
}

// page is a file of one namespace.
func page(namespace string, body *tree) (File, error) {
	folder, name := folderOf(namespace)
	if path := body.clashing(); path != "" {
		return File{}, fmt.Errorf("writing the intent of namespace %q: %s was to have two values", namespace, path)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "package %s\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: namespace: %s\n", name, quote(namespace))
	for _, f := range body.fields {
		b.WriteString("\n")
		(&tree{fields: []field{{name: "mesh", sub: &tree{fields: []field{f}}}}}).write(&b)
	}
	text, err := format.Source([]byte(b.String()))
	if err != nil {
		return File{}, fmt.Errorf("writing the intent of namespace %q: %w", namespace, err)
	}
	return File{Path: folder + "/" + folder + ".cue", Text: text}, nil
}

// pathAt is the path of the innermost field of a file of intent around a line.
func pathAt(f File, line int) []string {
	file, err := parser.ParseFile(f.Path, f.Text)
	if err != nil {
		return nil
	}
	var path []string
	var find func(decls []ast.Decl)
	find = func(decls []ast.Decl) {
		for _, d := range decls {
			x, ok := d.(*ast.Field)
			if !ok || line < lineAt(x.Pos()) || line > lineAt(x.End()) {
				continue
			}
			name, _, err := ast.LabelName(x.Label)
			if err != nil {
				continue
			}
			path = append(path, name)
			if s, ok := x.Value.(*ast.StructLit); ok {
				find(s.Elts)
			}
			return
		}
	}
	find(file.Decls)
	return path
}

func lineAt(p token.Pos) int { return p.Position().Line }
