package intent

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/scanner"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/compiler/internal/schema"
	"meshc.dev/meshc/internal/diag"
)

// maxProblems bounds the problems of one package; the rest is counted.
const maxProblems = 100

// reducer turns CUE's errors into one line each, at the user's place.
type reducer struct {
	layout *layout
	pos    *index
	done   map[string]bool // paths with a hard error, reported
}

func newReducer(l *layout, pos *index) *reducer {
	return &reducer{layout: l, pos: pos, done: map[string]bool{}}
}

// problem is all that CUE says about one path.
type problem struct {
	path   []string // unquoted labels
	errs   []errors.Error
	joined string
}

// reduce gives one problem per path. Paths that were reported, and what lies
// below them, are left out.
func (r *reducer) reduce(err error) diag.List {
	var out diag.List
	for _, g := range group(err) {
		if len(g.path) > 0 && r.reported(g.joined) {
			continue
		}
		d := r.one(g)
		if d.Code != diag.CodeMissing && len(g.path) > 0 {
			r.done[g.joined] = true
		}
		out = append(out, d)
	}
	return out
}

// reported reports whether path or something around it has a hard error already.
func (r *reducer) reported(path string) bool {
	for ; path != ""; path = parent(path) {
		if r.done[path] {
			return true
		}
	}
	return false
}

// group collects errors by path, without the headers of disjunctions.
func group(err error) []*problem {
	var order []*problem
	seen := map[string]*problem{}
	for _, e := range errors.Errors(err) {
		if format, _ := e.Msg(); strings.Contains(format, "errors in empty disjunction") {
			continue
		}
		labels := pathLabels(e.Path())
		p := &problem{path: labels, joined: joinAll(labels)}
		key := p.joined
		if len(labels) == 0 {
			key = fmt.Sprint(" ", len(order)) // without a path nothing belongs together
		}
		if seen[key] == nil {
			seen[key] = p
			order = append(order, p)
		}
		seen[key].errs = append(seen[key].errs, e)
	}
	return order
}

// pathLabels unquotes the selectors of a path.
func pathLabels(path []string) []string {
	out := make([]string, len(path))
	for i, s := range path {
		out[i] = s
		if s == overrideLabel {
			out[i] = overrideWord
		}
		if strings.HasPrefix(s, `"`) {
			if u, err := literal.Unquote(s); err == nil {
				out[i] = u
			}
		}
	}
	return out
}

func joinAll(labels []string) string {
	s := ""
	for _, l := range labels {
		s = join(s, l)
	}
	return s
}

// one words the problem of a path. What CUE says first decides which kind it
// is, except that a missed bound explains more than a conflict with a default.
func (r *reducer) one(g *problem) diag.Diagnostic {
	e := g.errs[0]
	for _, other := range g.errs {
		if f, _ := other.Msg(); strings.Contains(f, "out of bound") {
			e = other
			break
		}
	}
	format, _ := e.Msg()
	switch {
	case format == "field not allowed":
		return r.unknown(g, e)
	case strings.HasPrefix(format, "field is required"):
		return r.absent(g)
	case strings.HasPrefix(format, "incomplete value"):
		return diag.New(diag.CodeIncomplete, r.at(g, e), "%s: the value is still open", g.joined).WithFix("%s", fixWant(g))
	case strings.HasPrefix(format, "conflicting values"), strings.Contains(format, "out of bound"):
		return r.value(g, e)
	case strings.HasPrefix(format, "imported and not used"):
		return diag.New(diag.CodeImport, r.at(g, e), "%s", oneLine(message(e))).WithFix("remove the import")
	}
	text := strings.TrimSuffix(oneLine(prefixed(g.joined, message(e))), ":")
	return diag.New(diag.CodeEval, r.at(g, e), "%s", text).WithFix("correct the expression, or write the value itself")
}

func prefixed(path, text string) string {
	if path == "" || strings.HasPrefix(text, path+": ") {
		return text
	}
	return path + ": " + text
}

// unknown words a field that the schema does not have.
func (r *reducer) unknown(g *problem, e errors.Error) diag.Diagnostic {
	g.cut()
	pos, ok := r.pos.at(g.joined)
	if !ok {
		pos = r.at(g, e)
	}
	label := g.path[len(g.path)-1]
	around, ok := schema.At(below(g.path[:len(g.path)-1]))
	def := around.Definition()
	if !ok || def == nil {
		return diag.New(diag.CodeUnknownField, pos, "%s: unknown field", g.joined)
	}
	if def.Pattern != nil && def.Pattern.Allows(label) || slices.Contains(def.Names(), label) {
		// What stands in a definition is closed at every depth, but where it says `...`.
		return diag.New(diag.CodeUnknownField, pos, "%s: a definition of your own closes what stands around %q", g.joined, label).
			WithFix("add `...` to the struct in that definition, at the depth where it stands: #Web: port: http: {protocol: \"http2\", ...}")
	}
	if def.Pattern != nil {
		d := diag.New(diag.CodeName, pos, "%s: %q is not a legal name here", g.joined, label).
			WithFix("want %s", schema.WantIdent(def.Pattern.Name))
		if odd := strangeLetter(label); odd != "" {
			d.Text += ": " + odd
		}
		return d
	}
	d := diag.New(diag.CodeUnknownField, pos, "%s: unknown field", g.joined)
	if label == overrideWord {
		return d.WithFix("`%s` stands in a file of an environment, %s/<name>/…, under labels that are written out, and in no other `%s`", overrideWord, environmentsDir, overrideWord)
	}
	if near, ok := diag.Nearest(label, def.Names()); ok {
		return d.WithFix("did you mean %q?", near)
	}
	if len(def.Names()) == 0 {
		return d.WithFix("write {}: there is nothing more to say")
	}
	return d.WithFix("the fields here are %s", strings.Join(def.Names(), ", "))
}

// cut makes a problem one of the first key on its path that no map takes: what lies below
// that has no schema, so that CUE knows none of its fields.
func (g *problem) cut() {
	for i := 1; i < len(g.path)-1; i++ {
		around, ok := schema.At(below(g.path[:i]))
		if def := around.Definition(); ok && def != nil && def.Pattern != nil && !def.Pattern.Allows(g.path[i]) {
			g.path = g.path[:i+1]
			g.joined = joinAll(g.path)
			return
		}
	}
}

// absent words a required field that is not there, at the place around it.
func (r *reducer) absent(g *problem) diag.Diagnostic {
	d := diag.New(diag.CodeMissing, r.pos.nearest(g.joined), "%s: required field is missing", g.joined)
	f, ok := schema.At(below(g.path))
	if !ok {
		return d
	}
	doc := ""
	if f.Doc != "" {
		doc = " (" + strings.TrimSuffix(f.Doc, ".") + ")"
	}
	return d.WithFix("add %q%s: %s", f.Name, doc, f.Want())
}

// value words a value of the wrong type or form, or one that was set twice.
func (r *reducer) value(g *problem, e errors.Error) diag.Diagnostic {
	user, foreign := r.positions(e)
	if !foreign && len(user) > 1 {
		d := diag.New(diag.CodeConflict, user[0].pos, "%s: set twice with different values: %s and %s", g.joined, user[0].text, user[1].text)
		d = d.WithRelated(user[1].pos, "the other value")
		if _, ofEnv := EnvironmentOf(user[0].pos.File); !ofEnv {
			if _, ofEnv = EnvironmentOf(user[1].pos.File); !ofEnv {
				return d.WithFix("keep one of them, or mark the one that an environment may override: *value | _")
			}
		}
		return d.WithFix("let the package offer it, *value | _, or the environment replace it, beside it: %s: %s: …", overrideWord, g.path[len(g.path)-1])
	}
	got, pos := "this value", r.at(g, e)
	if len(user) > 0 {
		got, pos = user[0].text, user[0].pos
	}
	d := diag.New(diag.CodeValue, pos, "%s: got %s", g.joined, got)
	f, ok := schema.At(below(g.path))
	if !ok {
		return d.WithFix("%s", oneLine(message(e)))
	}
	if odd := strangeLetter(got); odd != "" {
		d.Text += " (" + odd + ")"
	}
	d.Text += ", want " + f.Want()
	words, enum := f.Words()
	if near, ok := diag.Nearest(strings.Trim(got, `"`), words); enum && ok {
		return d.WithFix("did you mean %q?", near)
	}
	if fix := around(f, g.path[len(g.path)-1], got); fix != "" {
		return d.WithFix("%s", fix)
	}
	return d
}

// around is the edit for a single value where the schema wants a list or a struct of names, "" for none.
func around(f schema.Field, label, got string) string {
	if slices.Contains([]string{"a struct", "a list", "this value", "null"}, got) {
		return ""
	}
	switch def := f.Definition(); {
	case f.List():
		return fmt.Sprintf("write it as a list: %s: [%s]", label, got)
	case def != nil && def.Pattern != nil && label != "mesh":
		return fmt.Sprintf("put it below a name: %s: <name>: …", label)
	}
	return ""
}

func fixWant(g *problem) string {
	if f, ok := schema.At(below(g.path)); ok {
		return "give it a value: " + f.Want()
	}
	return "give it a value"
}

// below cuts the leading label mesh off.
func below(path []string) []string {
	if len(path) > 0 && path[0] == "mesh" {
		return path[1:]
	}
	return []string{"", ""} // outside mesh the schema says nothing
}

// placed is a position in the user's file with what stands there.
type placed struct {
	pos  diag.Pos
	text string
}

// positions returns the user's places of an error and whether the schema takes
// part in it.
func (r *reducer) positions(e errors.Error) (user []placed, foreign bool) {
	for _, p := range append(e.InputPositions(), e.Position()) {
		if !p.IsValid() {
			continue
		}
		at := userPos(p)
		if strings.HasPrefix(at.File, schemaDir) {
			foreign = true
			continue
		}
		if !slices.ContainsFunc(user, func(q placed) bool { return q.pos == at }) {
			user = append(user, placed{at, r.text(p)})
		}
	}
	return user, foreign
}

// text is what the user wrote at a place: one token, or the kind of a composite.
func (r *reducer) text(p token.Pos) string {
	src, off := r.layout.tree.Files[p.Filename()], p.Offset()
	if off < 0 || off >= len(src) {
		return "this value"
	}
	var s scanner.Scanner
	f := token.NewFile(p.Filename(), -1, len(src)-off)
	s.Init(f, src[off:], nil, 0)
	_, tok, lit := s.Scan()
	switch {
	case tok == token.LBRACE:
		return "a struct"
	case tok == token.LBRACK:
		return "a list"
	case tok == token.SUB, tok == token.ADD:
		_, _, num := s.Scan()
		return tok.String() + oneLine(num)
	case tok == token.INTERPOLATION, lit == "":
		return "this value"
	}
	return oneLine(lit)
}

// at is the place of a problem: the user's first position in the error, else
// the nearest ancestor in the index.
func (r *reducer) at(g *problem, e errors.Error) diag.Pos {
	if p := e.Position(); p.IsValid() && !strings.HasPrefix(p.Filename(), schemaDir) {
		return userPos(p)
	}
	if p, ok := r.pos.at(g.joined); ok {
		return p
	}
	if user, _ := r.positions(e); len(user) > 0 {
		return user[0].pos
	}
	return r.pos.nearest(g.joined)
}

// place is the place of a path, else the one that CUE knows.
func (r *reducer) place(path string, p token.Pos) diag.Pos {
	if at, ok := r.pos.at(path); ok {
		return at
	}
	return userPos(p)
}

// message is CUE's own text without positions. A wrapped cause is only in Error.
func message(e errors.Error) string {
	if errors.Unwrap(e) != nil {
		return e.Error()
	}
	format, args := e.Msg()
	return fmt.Sprintf(format, args...)
}
