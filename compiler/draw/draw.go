// Package draw draws intent at random from the language itself: for tests that hold one
// reading of a mesh against another (the evaluator against Envoy, a plan against what it
// tells of).
//
// In: random numbers; the schema, and the catalog's word on where a feature may stand. Out: a
// Mesh, which the compiler takes. What always holds: a feature is drawn, with all of its
// fields, on all of its carriers, because the schema has it. Nobody adds a line here for it,
// and a test says if it did not come up.
//
//   - scaffold.go writes by hand what has to fit together: services with their ports and
//     versions, gateways with their hosts, who sends to whom.
//   - walk.go draws everything else from the schema: each field of each of these objects, by
//     the form of its value.
//   - edit.go changes a mesh, as often as not in what decides who gets through.
//   - words.go has the small alphabets from which names, paths and values are drawn, so that
//     what one line looks for is what another one says. What has no alphabet is drawn from its
//     pattern.
//
// A line that the compiler refuses is drawn once more, and then left out. The same numbers
// give the same mesh:
//
//	r := rand.New(rand.NewPCG(seed, 0))
//	before := draw.New(r)
//	after := before.Edit(r) // the same, but for a line or a few
//
// Shares are 0, 50 or 100 percent, bounds are beyond what a test does, times are long enough
// to be out of the way: but for a share of one half, what becomes of a request does not hang
// on a clock or on chance.
package draw

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
)

// At is the date at which meshes are compiled: some of what they say has ended then, and
// some has not.
func At() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }

// Mesh is intent that the compiler takes. Read only, but for Edit, which makes another one.
type Mesh struct {
	// Files are the intent's, by name.
	Files map[string]string
	// Program is what the compiler makes of them, at the date At.
	Program *compiler.Program
	// Services are those that are worth asking, sorted by ID; Gateways and Externals likewise.
	Services  []Door
	Gateways  []Door
	Externals []Door
	// Refused are the lines that the compiler did not take, in the order in which it said so.
	Refused []Refusal
	// Drawn counts the lines that were drawn, those that were refused among them.
	Drawn int

	lines   []*line
	objects []*object
	decided []space.Decision
	// sought are paths of fields that are drawn wherever they may stand, others by chance.
	sought map[string]bool
}

// Door is where requests can be sent.
type Door struct {
	ID    string // "namespace/name"
	Ports []string
	// Versions are a service's, Hosts a gateway's or an external's.
	Versions, Hosts []string
}

// Refusal is a line that the compiler refused.
type Refusal struct {
	Code diag.Code
	Text string
	Line string
}

// String is one line of text.
func (r Refusal) String() string { return fmt.Sprintf("%s: %s: %s", r.Code, r.Text, r.Line) }

// object is a thing of the mesh whose fields are drawn.
type object struct {
	file string
	// at is what stands before its fields: "mesh: service: s0: ".
	at string
	// definition is its own in the schema, carrier what a feature's rule may name it by.
	definition string
	carriers   []string
	// answers says that it is a route that has no destination.
	answers bool
	// bytes says that it is a port whose bytes nobody reads.
	bytes  bool
	parent *object
}

// line is a declaration in one line of a file.
type line struct {
	of    *object
	field string // of the object, "" for the line that makes it
	text  string
	// again draws its value anew; nil for what is written by hand.
	again func(*pen) string
	// said are the words in it by their kinds, fields the paths of the fields that it sets.
	said   map[string][]string
	fields map[string]bool
}

// New draws a mesh.
func New(r *rand.Rand) *Mesh { return seeking(r, nil) }

func seeking(r *rand.Rand, fields map[string]bool) *Mesh {
	for {
		m := &Mesh{sought: fields}
		m.scaffold(r)
		if m.settle(r) && m.stands() {
			return m
		}
	}
}

// stands reports whether all doors are still there: of a gateway whose last route was refused nothing is left.
func (m *Mesh) stands() bool {
	for kind, doors := range map[string][]Door{"service": m.Services, "gateway": m.Gateways, "external": m.Externals} {
		for _, d := range doors {
			if !slices.ContainsFunc(m.decisions(), func(x space.Decision) bool { return x.Scope.Kind == kind && x.Scope.ID == d.ID }) {
				return false
			}
		}
	}
	return true
}

// Said are the distinct words of a kind ("#Path", "#HeaderName": a definition of the schema)
// that the mesh says, sorted.
func (m *Mesh) Said(kinds ...string) []string {
	var out []string
	for _, l := range m.lines {
		for _, k := range kinds {
			out = append(out, l.said[k]...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// String is the mesh as a case of testdata.
func (m *Mesh) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		fmt.Fprintf(&b, "-- %s --\n%s", name, m.Files[name])
	}
	return b.String()
}

// head is what a file begins with: so many lines.
func head(file string) []string {
	pkg, ns := "mesh", ""
	if dir, _, ok := strings.Cut(file, "/"); ok {
		pkg, ns = dir, fmt.Sprintf("mesh: namespace: %q", dir)
	}
	return []string{"package " + pkg, `import "meshc.dev/intent"`, "mesh: intent.#Mesh", ns}
}

// print writes the files and notes where which line stands.
func (m *Mesh) print() (places map[string]*line) {
	places = map[string]*line{}
	texts := map[string][]string{}
	for _, l := range m.lines {
		f := l.of.file
		if texts[f] == nil {
			texts[f] = head(f)
		}
		texts[f] = append(texts[f], l.text)
		places[place(f, len(texts[f]))] = l
	}
	m.Files = map[string]string{}
	for f, ls := range texts {
		m.Files[f] = strings.Join(ls, "\n") + "\n"
	}
	for f := range texts {
		if dir, _, ok := strings.Cut(f, "/"); ok { // what words of a package may name
			m.Files[dir+"/script.lua"] = "function envoy_on_request(handle)\n\thandle:headers():get(\"x-file\")\nend\n"
			m.Files[dir+"/keys.json"] = KeySet()
			m.Files[dir+"/module.wasm"] = module()
			m.Files[dir+"/shop.pb"] = descriptors()
			m.Files[dir+"/page.html"] = "<p>of a file</p>\n"
		}
	}
	return places
}

func place(file string, line int) string { return fmt.Sprintf("%s:%d", file, line) }

// settle compiles the mesh without what the compiler refuses. It reports whether something
// is left that it takes.
func (m *Mesh) settle(r *rand.Rand) bool {
	m.Drawn = len(m.lines)
	tried := map[*line]bool{}
	for {
		places := m.print()
		ds := m.compile()
		if !ds.HasErrors() {
			return true
		}
		done := false
		gone := map[*line]bool{} // several problems may stand on a line
		for _, d := range ds {
			l := places[place(d.Pos.File, d.Pos.Line)]
			if !d.IsError() || l == nil || gone[l] {
				continue
			}
			gone[l], done = true, true
			m.Refused = append(m.Refused, Refusal{d.Code, d.Text, l.text})
			i := slices.Index(m.lines, l)
			if i < 0 {
				continue // went with another one
			}
			if l.again == nil || tried[l] {
				m.drop(l)
				continue
			}
			m.lines[i] = m.write(r, l.of, l.field, l.again)
			tried[m.lines[i]] = true
			m.Drawn++
		}
		if !done {
			return false
		}
	}
}

func (m *Mesh) compile() diag.List {
	fsys := fstest.MapFS{}
	for name, text := range m.Files {
		fsys[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o444}
	}
	p, ds := compiler.Load(fsys, compiler.Options{At: At(), Workers: 1})
	if ds.HasErrors() {
		return ds
	}
	m.Program = p
	_, ds = p.Release()
	return ds
}

// drop takes a line out, and with the line that makes an object all that is said of it.
func (m *Mesh) drop(l *line) {
	m.lines = slices.DeleteFunc(slices.Clone(m.lines), func(x *line) bool {
		return x == l || l.field == "" && x.of.within(l.of)
	})
}

func (o *object) within(other *object) bool {
	for ; o != nil; o = o.parent {
		if o == other {
			return true
		}
	}
	return false
}

// write draws a line of an object.
func (m *Mesh) write(r *rand.Rand, o *object, field string, value func(*pen) string) *line {
	p := &pen{Rand: r, said: map[string][]string{}, fields: map[string]bool{}, sought: m.sought}
	text := value(p)
	at := o.at
	if field != "" {
		at += field + ": "
	}
	return &line{of: o, field: cmp.Or(field, ""), text: at + text, again: value, said: p.said, fields: p.fields}
}
