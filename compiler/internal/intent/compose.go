package intent

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/schemas"
)

// Every word that the schema knows costs time for every object on which it may stand. So a
// package is evaluated with those files of the schema of whose words its text holds one,
// and again with all of them before anything is called a problem: a word that is put
// together, or misspelt, is then judged by the whole schema.

// schemaPart is a file of the schema.
type schemaPart struct {
	schemas.File
	// words are those without one of which no text can mean anything of the file: fields
	// that it adds to what stands in other files, and its own definitions. None: always.
	words []wanted
	// needs are the indexes of files whose definitions it uses.
	needs []int
}

// wanted is a word of a file.
type wanted struct {
	word string
	// below are the fields that hold what it is a field of, if only fields do: without one of them, and
	// without the definition's own name, which is among them, a text cannot mean it.
	below []string
}

// in reports whether some of the texts can mean it.
func (w wanted) in(texts [][]byte) bool {
	has := func(word string) bool {
		return slices.ContainsFunc(texts, func(text []byte) bool { return holdsWord(text, word) })
	}
	return has(w.word) && (len(w.below) == 0 || slices.ContainsFunc(w.below, has))
}

// schemaFiles returns the files of the schema that a package with these texts can mean,
// in the order of their names.
func schemaFiles(texts [][]byte) []schemas.File {
	parts := schemaParts()
	chosen := make([]bool, len(parts))
	var choose func(i int)
	choose = func(i int) {
		if chosen[i] {
			return
		}
		chosen[i] = true
		for _, j := range parts[i].needs {
			choose(j)
		}
	}
	for i, p := range parts {
		if len(p.words) == 0 || slices.ContainsFunc(p.words, func(w wanted) bool { return w.in(texts) }) {
			choose(i)
		}
	}
	var out []schemas.File
	for i, p := range parts {
		if chosen[i] {
			out = append(out, p.File)
		}
	}
	return out
}

// holdsWord reports whether a text has a word, and not as a part of a longer one: "end-user" says nothing of users.
func holdsWord(text []byte, word string) bool {
	part := func(c byte) bool {
		return c == '-' || c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
	}
	for {
		i := bytes.Index(text, []byte(word))
		if i < 0 {
			return false
		}
		end := i + len(word)
		if (i == 0 || !part(text[i-1])) && (end == len(text) || !part(text[end])) {
			return true
		}
		text = text[end:]
	}
}

// schemaParts cuts the schema.
//
//nolint:gochecknoglobals // a constant that Go cannot express: the embedded schema, read once.
var schemaParts = sync.OnceValue(func() []schemaPart {
	files := schemas.Files()
	parts, trees := make([]schemaPart, len(files)), make([]*ast.File, len(files))
	defined := map[string][]int{} // definition → files that have a piece of it
	for i, f := range files {
		tree, err := parser.ParseFile(f.Name, f.Text, parser.Version(schemas.LanguageVersion))
		if err != nil {
			panic(fmt.Sprintf("intent: the schema's file %q: %v", f.Name, err))
		}
		parts[i].File, trees[i] = f, tree
		for _, d := range tree.Decls {
			if field, ok := d.(*ast.Field); ok {
				name, _ := labelName(field.Label)
				defined[name] = append(defined[name], i)
			}
		}
	}
	holders := holdersOf(trees)
	for i, tree := range trees {
		parts[i].words = words(tree, func(name string) bool { return len(defined[name]) == 1 }, holders)
		ast.Walk(tree, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				if in := defined[id.Name]; len(in) == 1 && in[0] != i && !slices.Contains(parts[i].needs, in[0]) {
					parts[i].needs = append(parts[i].needs, in[0])
				}
			}
			return true
		}, nil)
	}
	return parts
})

// holdersOf are the names of the fields that hold what a definition says, by the definition, with its own
// name; none of a definition that stands elsewhere, too, as one that another one takes in does.
func holdersOf(files []*ast.File) map[string][]string {
	held, all := map[string][]string{}, map[string]int{}
	for _, f := range files {
		ast.Walk(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Ident:
				all[n.Name]++
			case *ast.Field:
				name, named := labelName(n.Label)
				if of, ok := heldBy(n.Value); ok && named && !strings.HasPrefix(name, "#") {
					held[of] = append(held[of], name)
				}
			}
			return true
		}, nil)
		for _, d := range f.Decls {
			if field, ok := d.(*ast.Field); ok { // which declares it
				if name, ok := labelName(field.Label); ok {
					all[name]--
				}
			}
		}
	}
	maps.DeleteFunc(held, func(of string, names []string) bool { return all[of] != len(names) })
	for of := range held {
		held[of] = append(held[of], strings.TrimLeft(of, "_#"))
	}
	return held
}

// heldBy is the definition that a field's value is, by itself, in a list or by any name.
func heldBy(v ast.Expr) (of string, ok bool) {
	switch v := v.(type) {
	case *ast.Ident:
		return v.Name, true
	case *ast.ListLit:
		if len(v.Elts) == 1 {
			if e, ok := v.Elts[0].(*ast.Ellipsis); ok {
				return heldBy(e.Type)
			}
		}
	case *ast.StructLit:
		if len(v.Elts) == 1 {
			if f, ok := v.Elts[0].(*ast.Field); ok {
				if _, pattern := f.Label.(*ast.ListLit); pattern {
					return heldBy(f.Value)
				}
			}
		}
	}
	return "", false
}

// words are those of a file that holds definitions of its own, and optional fields of
// others; nil if it says more of others than that. own tells definitions of the file's, holders by
// which fields others are held.
func words(f *ast.File, own func(name string) bool, holders map[string][]string) []wanted {
	var out []wanted
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.Package, *ast.CommentGroup:
			continue
		case *ast.Field:
			name, _ := labelName(d.Label)
			if own(name) {
				out = append(out, wanted{word: strings.TrimLeft(name, "_#")})
				continue
			}
			fields, ok := optional(d.Value)
			if !ok {
				return nil
			}
			for _, field := range fields {
				out = append(out, wanted{field, holders[name]})
			}
		default:
			return nil
		}
	}
	return out
}

// optional are the names of a struct's fields, if all are optional ones.
func optional(v ast.Expr) ([]string, bool) {
	lit, ok := v.(*ast.StructLit)
	if !ok {
		return nil, false
	}
	var out []string
	for _, d := range lit.Elts {
		field, ok := d.(*ast.Field)
		if !ok || field.Constraint != token.OPTION {
			return nil, false
		}
		name, ok := labelName(field.Label)
		if !ok {
			return nil, false
		}
		out = append(out, name)
	}
	return out, true
}
