package intent

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

// maxNodes bounds the syntax tree of one file.
const maxNodes = 2_000_000

// parsed is one file after the lint.
type parsed struct {
	path string
	file *ast.File // nil after a syntax error
}

// parse reads one file and reports what the lint refuses. Comments are dropped:
// nothing needs them.
func (l *layout) parse(p string) (parsed, diag.List) {
	f, err := parser.ParseFile(p, l.tree.Files[p], parser.Version(schemas.LanguageVersion))
	if err != nil {
		return parsed{path: p}, syntaxErrors(p, l.tree.Files[p], err)
	}
	t := &lint{module: l.module}
	t.file(f)
	return parsed{path: p, file: f}, t.diags
}

// conflict is a line with which git marks what it could not merge.
var conflict = regexp.MustCompile(`(?m)^(<<<<<<<|\|\|\|\|\|\|\||>>>>>>>)( |$)`)

func syntaxErrors(p string, text []byte, err error) diag.List {
	if mark := conflict.FindIndex(text); mark != nil {
		line := 1 + bytes.Count(text[:mark[0]], []byte("\n"))
		return diag.List{diag.New(diag.CodeSyntax, diag.Pos{File: p, Line: line, Col: 1}, "a merge left a conflict here that nobody has resolved").
			WithFix("choose between the two sides, remove the lines <<<<<<<, ======= and >>>>>>>, and git add the file")}
	}
	if at, b, ok := notUTF8(p, text); ok {
		return diag.List{diag.New(diag.CodeSyntax, at, "the byte %#02x is no character of UTF-8, in which CUE is written", b).
			WithFix("save the file as UTF-8; a file in Latin-1 becomes one by `iconv -f latin1 -t utf-8`")}
	}
	var out diag.List
	for _, e := range errors.Errors(err) {
		at := userPos(e.Position())
		if at.File == "" {
			at = diag.Pos{File: p}
		}
		d := diag.New(diag.CodeSyntax, at, "%s", oneLine(message(e))).WithFix("run `cue fmt` on the file to see how it is read")
		if name := hyphenated(text, at); name != "" {
			d = d.WithFix("a name with a hyphen stands in quotes: %q", name)
		}
		out = append(out, d)
	}
	return out
}

// notUTF8 is the place of the first byte of a text that is none of UTF-8.
func notUTF8(path string, text []byte) (at diag.Pos, b byte, ok bool) {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			line := 1 + bytes.Count(text[:i], []byte("\n"))
			return diag.Pos{File: path, Line: line, Col: i - bytes.LastIndexByte(text[:i], '\n')}, text[i], true
		}
		i += size
	}
	return diag.Pos{}, 0, false
}

// hyphenated is the bare name with hyphens that ends where CUE gave up, "" if
// there is none: a-b is a difference to CUE.
func hyphenated(text []byte, at diag.Pos) string {
	for n, line := range strings.Split(string(text), "\n") {
		if n+1 == at.Line && at.Col > 0 && at.Col <= len(line)+1 {
			return regexp.MustCompile(`[A-Za-z0-9_]+(-[A-Za-z0-9_]+)+$`).FindString(line[:at.Col-1])
		}
	}
	return ""
}

func unquote(lit *ast.BasicLit) (string, bool) {
	s, err := literal.Unquote(lit.Value)
	return s, err == nil
}

// lint reports what would escape the schema or read more than the tree.
type lint struct {
	module string
	diags  diag.List
	nodes  int
}

func (t *lint) fail(c diag.Code, p token.Pos, format string, args ...any) *diag.Diagnostic {
	t.diags = append(t.diags, diag.New(c, userPos(p), format, args...))
	return &t.diags[len(t.diags)-1]
}

func (t *lint) file(f *ast.File) {
	if f.PackageName() == "" {
		t.fail(diag.CodePackage, f.Pos(), "the file has no package clause").Fix = "write `package <name>` on its first line"
		if at := &t.diags[len(t.diags)-1].Pos; at.Line == 0 {
			*at = diag.Pos{File: f.Filename, Line: 1, Col: 1}
		}
	}
	for spec := range f.ImportSpecs() {
		t.importSpec(spec)
	}
	for _, d := range f.Decls {
		t.topLevel(d)
	}
	ast.Walk(f, t.node, nil)
}

func (t *lint) node(n ast.Node) bool {
	if t.nodes++; t.nodes == maxNodes {
		t.fail(diag.CodeTooLarge, n.Pos(), "the file has more than %d syntax elements", maxNodes)
	}
	if a, ok := n.(*ast.Attribute); ok {
		t.fail(diag.CodeAttribute, a.Pos(), "the attribute %q is not allowed: attributes change what CUE reads", oneLine(a.Text)).
			Fix = "remove the attribute; what differs per environment belongs into environments/<name>/"
	}
	return t.nodes < maxNodes
}

// topLevel allows the field mesh, definitions, hidden fields, let and
// comprehensions. Anything else at the top of a file is not checked by the
// schema, so that a misspelt "mehs" would be dropped in silence.
func (t *lint) topLevel(d ast.Decl) {
	switch d := d.(type) {
	case *ast.EmbedDecl:
		t.fail(diag.CodeTopLevel, d.Pos(), "a value embedded at the top of a file switches the checking of names off").
			Fix = "write `mesh: intent.#Mesh`"
	case *ast.Ellipsis:
		t.fail(diag.CodeTopLevel, d.Pos(), "`...` at the top of a file has no meaning here").Fix = "remove it"
	case *ast.Field:
		name, ok := labelName(d.Label)
		if !ok {
			t.fail(diag.CodeTopLevel, d.Pos(), "a computed field at the top of a file is not checked").Fix = "write it inside `mesh`"
			return
		}
		if id, isIdent := d.Label.(*ast.Ident); name == "mesh" || isIdent && isPrivate(id.Name) {
			return
		}
		t.fail(diag.CodeTopLevel, d.Pos(), "the field %q at the top of a file means nothing to meshc", name).
			Fix = topLevelFix(name)
	}
}

func topLevelFix(name string) string {
	if near, ok := diag.Nearest(name, []string{"mesh"}); ok {
		return "did you mean " + strconv.Quote(near) + "?"
	}
	return "write it inside `mesh`, or as a definition (#" + strings.TrimLeft(name, "_") + ") if other fields use it"
}

func isPrivate(name string) bool { return strings.HasPrefix(name, "_") || strings.HasPrefix(name, "#") }

// builtins are the packages of CUE's library that only compute.
func builtins() []string {
	return []string{"list", "math", "net", "regexp", "strconv", "strings", "struct", "time"}
}
