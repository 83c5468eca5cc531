package reference_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/golden"
	"meshc.dev/meshc/schemas/reference"
)

const (
	casesDir = "../../compiler/testdata"
	// What an example may be: one line is best, and more than a screen's width is no example.
	wideExample = 110
	// So many cases are tried until one compiles without the word too.
	tries = 5
	// and without what it stands in, so far up.
	climbs = 3
	// What a target goes without has to be something that it refuses, and this one refuses nothing.
	neverWritten = "#KubernetesTarget.without"
	// So many places of a configuration tell what a word does.
	mostPlaces = 4
)

// archive is a tested case: intent and how it is compiled.
type archive struct {
	name  string
	files fstest.MapFS
	opts  compiler.Options
	told  string // problems that people read
}

// archives are the cases of a folder. What a plan compares with or other targets have in place
// of a file is left out.
func archives(t *testing.T, dir string) []archive {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%d cases in %s, %v", len(names), dir, err)
	}
	var out []archive
	for _, name := range names {
		a, err := golden.Archive(name)
		if err != nil {
			t.Fatal(err)
		}
		c := archive{name: filepath.Base(name), files: fstest.MapFS{}, opts: compiler.Options{At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}}
		for _, f := range a.Files {
			first, _, _ := strings.Cut(f.Name, "/")
			switch {
			case f.Name == "want/diag":
				c.told = string(f.Data)
			case f.Name == "options":
				c.option(t, string(f.Data))
			case slices.Contains([]string{"want", "before", "gateway-api", "kubernetes"}, first):
			case strings.HasSuffix(f.Name, ".cue"), strings.Contains(f.Name, "/"): // which words may name
				c.files[f.Name] = &fstest.MapFile{Data: f.Data}
			}
		}
		if c.files["mesh.cue"] == nil {
			c.files["mesh.cue"] = &fstest.MapFile{Data: []byte("package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n")}
		}
		out = append(out, c)
	}
	return out
}

func (c *archive) option(t *testing.T, text string) {
	t.Helper()
	for l := range strings.Lines(text) {
		word, value, _ := strings.Cut(strings.TrimSpace(l), " ")
		switch word {
		case "env":
			c.opts.Environment = value
		case "at":
			at, err := time.Parse(time.RFC3339, value)
			if err != nil {
				t.Fatal(err)
			}
			c.opts.At = at
		}
	}
}

// compile is the release of a case with one of its files replaced; false if it is none.
func (c *archive) compile(file string, text []byte) (release.Release, bool) {
	files := maps.Clone(c.files)
	if file != "" {
		files[file] = &fstest.MapFile{Data: text}
	}
	p, ds := compiler.Load(files, c.opts)
	if p == nil || ds.HasErrors() {
		return release.Release{}, false
	}
	r, more := p.Release()
	return r, !more.HasErrors()
}

// use is one place of a case where a word stands.
type use struct {
	*archive
	file string
	spot
	shown string
	in    *use // the word or the name below which it stands
	own   bool // it is a name of the user's own, as a service has
}

// spot is where a field stands in its file.
type spot struct {
	from, to int  // bytes
	bare     bool // no braces are around it
}

// without is the file without the word.
func (u use) without() []byte {
	text, rest := u.files[u.file].Data, ""
	if u.bare {
		rest = "{}"
	}
	return slices.Concat(text[:u.from], []byte(rest), text[u.to:])
}

// finder finds words in intent.
type finder struct {
	defs map[string]reference.Definition
	uses map[string][]use
}

func newFinder() *finder {
	f := &finder{defs: map[string]reference.Definition{}, uses: map[string][]use{}}
	for _, d := range reference.Definitions() {
		f.defs[d.ID] = d
	}
	return f
}

// field is the word of a definition, and the definition whose own it is.
func (f *finder) field(id, name string) (string, reference.Field, bool) {
	for _, w := range f.defs[id].Fields {
		if w.Name == name {
			return id, w, true
		}
		if w.Name == "" {
			for _, of := range w.Of {
				if in, found, ok := f.field(of, name); ok {
					return in, found, true
				}
			}
		}
	}
	return "", reference.Field{}, false
}

func (f *finder) archive(t *testing.T, c *archive) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		file, err := parser.ParseFile(name, c.files[name].Data)
		if err != nil {
			continue // a mistake of form is what the case is about
		}
		for _, d := range file.Decls {
			if x, ok := d.(*ast.Field); ok && label(x) == "mesh" {
				f.value(c, name, x.Value, []string{reference.Root}, nil)
			}
		}
	}
}

// value looks at a value that may be of any of these definitions, the value of the word around it.
func (f *finder) value(c *archive, file string, v ast.Expr, ids []string, around *use) {
	switch v := v.(type) {
	case *ast.BinaryExpr:
		f.value(c, file, v.X, ids, around)
		f.value(c, file, v.Y, ids, around)
	case *ast.UnaryExpr:
		f.value(c, file, v.X, ids, around)
	case *ast.ParenExpr:
		f.value(c, file, v.X, ids, around)
	case *ast.ListLit:
		for _, e := range v.Elts {
			f.value(c, file, e, ids, around)
		}
	case *ast.StructLit:
		for _, e := range v.Elts {
			if x, ok := e.(*ast.Field); ok {
				f.word(c, file, v, x, ids, around)
			}
		}
	}
}

func (f *finder) word(c *archive, file string, in *ast.StructLit, x *ast.Field, ids []string, around *use) {
	for _, id := range ids {
		owner, w, ok := f.field(id, label(x))
		if !ok {
			continue
		}
		from, to := x.Pos().Offset(), x.End().Offset()
		own := string(c.files[file].Data[from:to])
		shown := own
		if around != nil && !around.own && len(around.shown) <= wideExample && !strings.Contains(around.shown, "\n") {
			shown = around.shown
		}
		key, u := owner+"."+w.Name, use{c, file, spot{from, to, in.Lbrace == token.NoPos}, shown, around, false}
		f.uses[key] = append(f.uses[key], u)
		if !w.Named {
			f.value(c, file, x.Value, w.Of, &u)
			return
		}
		f.named(c, file, x.Value, w.Of, &u)
		return
	}
}

// named looks at a value whose fields are names of the user's own.
func (f *finder) named(c *archive, file string, v ast.Expr, ids []string, around *use) {
	switch v := v.(type) {
	case *ast.BinaryExpr:
		f.named(c, file, v.X, ids, around)
		f.named(c, file, v.Y, ids, around)
	case *ast.StructLit:
		for _, e := range v.Elts {
			if x, ok := e.(*ast.Field); ok {
				at := spot{x.Pos().Offset(), x.End().Offset(), v.Lbrace == token.NoPos}
				f.value(c, file, x.Value, ids, &use{c, file, at, "", around, true})
			}
		}
	}
}

func label(f *ast.Field) string {
	name, _, err := ast.LabelName(f.Label)
	if err != nil {
		return ""
	}
	return name
}

// better orders uses by how well they serve as an example: on one line and not too wide, then the
// one that shows most, then by case and place, so that the choice is always the same.
func better(a, b use) int {
	rank := func(u use) int {
		lines := strings.Count(u.shown, "\n")
		if strings.Contains(u.shown, "| ") { // a default that an environment may replace
			lines++
		}
		if lines > 0 || len(u.shown) > wideExample {
			return 10 * wideExample * (1 + lines)
		}
		return -len(u.shown)
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	if d := strings.Compare(a.archive.name+"/"+a.file, b.archive.name+"/"+b.file); d != 0 {
		return d
	}
	return a.from - b.from
}

// TestWhatIsSeenIsUpToDate finds every word in the cases that are compiled: an example of it, what
// Envoy is told because of it, by a compile with and one without it, and what people read who get it
// wrong. A word that no case has fails. docs/intent.md says all of it.
func TestWhatIsSeenIsUpToDate(t *testing.T) {
	good, bad := newFinder(), newFinder()
	whole, releases := append(archives(t, casesDir), archives(t, "testdata")...), map[string]release.Release{}
	for i := range whole {
		c := &whole[i]
		if r, ok := c.compile("", nil); ok {
			releases[c.name] = r
			good.archive(t, c)
		}
	}
	mistaken := archives(t, filepath.Join(casesDir, "codes"))
	for i := range mistaken {
		bad.archive(t, &mistaken[i])
	}
	out := map[string]reference.Seen{}
	for _, d := range reference.Definitions() {
		for _, w := range d.Fields {
			key := d.ID + "." + w.Name
			if w.Name == "" || key == neverWritten {
				continue
			}
			uses := good.uses[key]
			if slices.SortFunc(uses, better); len(uses) == 0 {
				t.Errorf("no case of %s that compiles has %s of %s", casesDir, w.Name, d.ID)
				continue
			}
			s := reference.Seen{Example: dedented(uses[0])}
			// The root's words bring whole parts of a mesh, and who answers why is for people.
			if d.ID != reference.Root && !slices.Contains([]string{"owner", "reason"}, w.Name) {
				s.At, s.Envoy = toldFirst(t, releases, uses)
			}
			out[key] = s
		}
	}
	for i := range mistaken {
		mistakes(t, &mistaken[i], bad, out)
	}
	text, err := json.MarshalIndent(out, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	golden.File(t, "seen.json", append(text, '\n'))
	golden.File(t, filepath.Join("..", "..", "docs", "intent.md"), page(out))
}

// dedented is a use's text as if it stood at the left.
func dedented(u use) string {
	text := u.files[u.file].Data
	begin := bytes.LastIndexByte(text[:u.from], '\n') + 1
	indent := text[begin : begin+len(text[begin:])-len(bytes.TrimLeft(text[begin:], "\t"))]
	return spaces.ReplaceAllString(strings.ReplaceAll(u.shown, "\n"+string(indent), "\n"), ": ")
}

// toldFirst is what Envoy is told because of a word in the first of its uses that tells, or, where
// it has to be written, because of what it is a part of.
func toldFirst(t *testing.T, releases map[string]release.Release, uses []use) (at, places []string) {
	t.Helper()
	for _, u := range uses[:min(len(uses), tries)] {
		if at, places := told(t, releases[u.archive.name], u); places != nil {
			return at, places
		}
	}
	for range climbs {
		for i, u := range uses[:min(len(uses), tries)] {
			if u.in == nil {
				continue
			}
			uses[i] = *u.in
			if at, places := told(t, releases[u.archive.name], *u.in); places != nil {
				return at, places
			}
		}
	}
	return nil, nil
}

// told is what Envoy is told because of a word, nil if nothing, or if nothing compiles without it.
func told(t *testing.T, with release.Release, u use) (at, places []string) {
	t.Helper()
	without, ok := u.compile(u.file, u.without())
	if !ok {
		return nil, nil
	}
	changes, err := release.DiffResources(without, with)
	if err != nil {
		t.Fatal(err)
	}
	whose, where := map[string]bool{}, map[string]bool{}
	for _, c := range changes {
		typ := strings.ToLower(c.Type[strings.LastIndexByte(c.Type, '.')+1:])
		if typ == "routeconfiguration" {
			typ = "route"
		}
		before, after := resource(t, without, c.Before), resource(t, with, c.After)
		paths := map[string]bool{}
		differ(before, after, typ, paths)
		for p := range paths {
			where[p] = true
		}
		for _, class := range c.Classes {
			whose[proxy(c.Name, class)] = true
		}
	}
	return slices.Sorted(maps.Keys(whose)), shortened(where)
}

func proxy(name string, c release.Class) string {
	first, _, _ := strings.Cut(name, "/")
	switch {
	case c.Role == "gateway":
		return "gateway's"
	case first == "inbound" || first == "app":
		return "callee's"
	}
	return "caller's"
}

func resource(t *testing.T, r release.Release, digest string) any {
	t.Helper()
	if digest == "" {
		return nil
	}
	raw, err := r.Blob(digest)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// differ notes the fields that differ, without the places of lists and without the names of users.
func differ(a, b any, at string, out map[string]bool) {
	x, isX := a.(map[string]any)
	y, isY := b.(map[string]any)
	if isX && isY {
		for k := range join(x, y) {
			if !same(x[k], y[k]) {
				differ(x[k], y[k], below(at, k), out)
			}
		}
		return
	}
	l, isL := a.([]any)
	m, isM := b.([]any)
	if isL && isM && len(l) == len(m) {
		for i := range l {
			if !same(l[i], m[i]) {
				differ(l[i], m[i], at, out)
			}
		}
		return
	}
	out[at] = true
}

// below is a field's place: names of Envoy's own stay, names of users do not.
func below(at, key string) string {
	switch {
	case strings.HasPrefix(key, "envoy."):
		return at + "[" + key + "]"
	case strings.HasSuffix(at, ".policies") || !field.MatchString(key):
		return at
	}
	return at + "." + key
}

var (
	field   = regexp.MustCompile(`^@?[a-z][a-z0-9_]*$`)
	outside = regexp.MustCompile(`\[[^\]]*\]`)
	spaces  = regexp.MustCompile(`: +`)
)

func join(x, y map[string]any) map[string]any {
	all := maps.Clone(x)
	maps.Copy(all, y)
	return all
}

func same(a, b any) bool {
	x, _ := json.Marshal(a) //nolint:errchkjson // it was read from JSON
	y, _ := json.Marshal(b) //nolint:errchkjson // it was read from JSON
	return bytes.Equal(x, y)
}

// shortened leaves so many places that a reader sees what they have in common: the longest lose
// their ends first.
func shortened(places map[string]bool) []string {
	for len(places) > mostPlaces {
		longest := ""
		for p := range places {
			if d := strings.Count(p, ".") - strings.Count(longest, "."); d > 0 || d == 0 && p > longest {
				longest = p
			}
		}
		end := strings.LastIndexByte(outside.ReplaceAllStringFunc(longest, func(s string) string { return strings.ReplaceAll(s, ".", "_") }), '.')
		if end < 0 {
			break
		}
		delete(places, longest)
		places[longest[:end]] = true
	}
	for p := range places {
		for q := range places {
			if strings.HasPrefix(q, p+".") {
				delete(places, q)
			}
		}
	}
	return slices.Sorted(maps.Keys(places))
}

var problem = regexp.MustCompile(`(?m)^([^\s:]+):(\d+):(\d+): (?:error|warning) (MESH\d+): (.*)(?:\n    (?:fix|help): (.*))?`)

// mistakes notes what a case tells at the place of a word, the innermost.
func mistakes(t *testing.T, c *archive, f *finder, out map[string]reference.Seen) {
	t.Helper()
	for _, m := range problem.FindAllStringSubmatch(c.told, -1) {
		file, known := c.files[m[1]]
		if !known {
			continue
		}
		line, column := number(t, m[2]), number(t, m[3])
		offset := column - 1
		for range line - 1 {
			offset += bytes.IndexByte(file.Data[offset-(column-1):], '\n') + 1
		}
		best, narrowest := "", len(file.Data)+1
		for key, uses := range f.uses {
			for _, u := range uses {
				if u.archive == c && u.file == m[1] && u.from <= offset && offset < u.to && u.to-u.from < narrowest {
					best, narrowest = key, u.to-u.from
				}
			}
		}
		s, ok := out[best]
		if !ok || slices.ContainsFunc(s.Mistakes, func(o reference.Mistake) bool { return o.Code == m[4] }) {
			continue
		}
		s.Mistakes = append(s.Mistakes, reference.Mistake{Code: m[4], Text: m[5], Fix: m[6]})
		out[best] = s
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The cases of this folder hold words that no other case has, and compile.
func TestCasesCompile(t *testing.T) {
	for _, c := range archives(t, "testdata") {
		p, ds := compiler.Load(c.files, c.opts)
		if p != nil {
			_, more := p.Release()
			ds = append(ds, more...)
		}
		if ds.HasErrors() {
			t.Errorf("%s:\n%s", c.name, ds)
		}
	}
}
