package draw

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cuelang.org/go/cue/ast"

	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/schema"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/parallel"
)

var (
	seed    = flag.Uint64("seed", 1, "seed of the first mesh")
	refused = flag.Bool("refused", false, "print every line that the compiler refused")
	meshes  = flag.Int("meshes", 12, "number of meshes; in enough of them everything must have come up")
)

// enough is how many meshes have to have everything. `make pairs` draws them, without the race
// detector, under which each takes seconds.
const enough = 100

// patient is after how many meshes what has not come up by chance is sought, few how many
// fields a mesh seeks at once.
const (
	patient = 48
	few     = 3
)

func drawn(s uint64) *Mesh { return New(rand.New(rand.NewPCG(s, 0))) }

// carries is a field of a feature on a carrier.
type carries struct{ field, carrier string }

// wanted are the fields of features on all of their carriers.
func wanted(rules []resolve.Rule) map[carries]bool {
	out := map[carries]bool{}
	for _, r := range rules {
		for _, on := range r.On {
			if r.Within == "" || on != resolve.OnRoute { // else it is a field of a word that is drawn
				out[carries{r.Field, string(on)}] = true
			}
		}
	}
	// Externals of a mesh that is rehearsed are at written addresses, of which nobody says in which zone they are.
	delete(out, carries{"locality", string(resolve.OnExternal)})
	return out
}

// told are the fields that a mesh has on carriers.
func (m *Mesh) told() map[carries]bool {
	out := map[carries]bool{}
	for _, l := range m.lines {
		for f := range l.fields {
			for _, c := range l.of.carriers {
				if !strings.Contains(f, ".") {
					out[carries{f, c}] = true
				}
			}
		}
	}
	return out
}

// A feature is drawn on all of its carriers, and every field of the language that is not the
// scaffold's is, in meshes that the compiler takes: whatever the schema gets is compared.
func TestEverythingIsDrawn(t *testing.T) {
	features, fields := wanted(catalog.Rules()), map[string]bool{}
	for d := range byHand() {
		for _, f := range (&object{definition: d}).free() {
			in, _ := schema.Definitions()[d].Field(f)
			below(fields, in, f)
		}
	}
	lines, gone, codes := 0, 0, map[diag.Code]int{}
	const round = 8 // are drawn at once
	some := make([]*Mesh, round)
	for s := range uint64(*meshes) {
		if s%round == 0 {
			missing := missed(features, fields)
			parallel.Each(min(round, *meshes-int(s)), func(i int) {
				sought := map[string]bool{}
				if s >= patient {
					for j := i; j < len(missing) && len(sought) < few; j += round {
						sought[missing[j]] = true
					}
				}
				some[i] = seeking(rand.New(rand.NewPCG(*seed+s+uint64(i), 0)), sought)
			})
		}
		m := some[s%round]
		for c := range m.told() {
			delete(features, c)
		}
		for _, l := range m.lines {
			for f := range l.fields {
				delete(fields, f)
			}
		}
		if s < patient { // what is sought is written where it does not fit, too
			lines, gone = lines+m.Drawn, gone+len(m.Refused)
		}
		for _, r := range m.Refused {
			if codes[r.Code]++; *refused {
				t.Log(r)
			}
		}
		if len(features)+len(fields) == 0 {
			t.Logf("all was drawn in %d meshes", s+1)
			break
		}
	}
	if *meshes < enough {
		clear(features)
		clear(fields)
	}
	for c := range features {
		t.Errorf("no mesh has the field %s on the carrier %q", c.field, c.carrier)
	}
	for _, f := range slices.Sorted(maps.Keys(fields)) {
		t.Errorf("no mesh has the field %s", f)
	}
	t.Logf("%d of %d lines were refused: %v", gone, lines, codes)
	if gone*4 > lines {
		t.Errorf("the compiler refused %d of %d lines: the meshes say too little", gone, lines)
	}
}

// missed are the fields that have not come up, sorted.
func missed(features map[carries]bool, fields map[string]bool) []string {
	all := maps.Clone(fields)
	for c := range features {
		all[c.field] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// below adds a field and all that may stand in it, by their paths.
func below(out map[string]bool, f schema.Field, path string) {
	out[path] = true
	d := f.Definition()
	if l, ok := f.Value.(*ast.ListLit); ok && d == nil {
		below(out, schema.Field{Value: l.Elts[0].(*ast.Ellipsis).Type}, path)
	}
	if d == nil {
		return
	}
	if d.Pattern != nil {
		below(out, *d.Pattern, path)
	}
	for _, n := range d.Names() {
		in, _ := d.Field(n)
		below(out, in, path+"."+n)
	}
}

// A feature that is not in the schema where its rule says, or not at all, does not pass for
// drawn.
func TestWhatIsNotDrawnIsMissed(t *testing.T) {
	fake := []resolve.Rule{{Field: "timeout", On: []resolve.On{resolve.OnRoute, resolve.OnGateway}}, {Field: "teleport", On: []resolve.On{resolve.OnRoute}}}
	missed := wanted(fake)
	for s := range uint64(10) {
		for c := range drawn(*seed + s).told() {
			delete(missed, c)
		}
	}
	want := map[carries]bool{{"timeout", string(resolve.OnGateway)}: true, {"teleport", string(resolve.OnRoute)}: true}
	if !maps.Equal(missed, want) {
		t.Errorf("missed %v, want %v", missed, want)
	}
}

// The same numbers give the same mesh, and an edit another one that is mostly the same.
func TestMeshFollowsFromItsNumbers(t *testing.T) {
	a, b := drawn(*seed), drawn(*seed)
	if a.String() != b.String() {
		t.Error("one seed gave two meshes")
	}
	if a.String() == drawn(*seed+1).String() {
		t.Error("two seeds gave one mesh")
	}
	for i := range uint64(5) {
		edited := a.Edit(rand.New(rand.NewPCG(*seed, i)))
		kept := 0
		for _, l := range edited.lines {
			if slices.Contains(a.lines, l) {
				kept++
			}
		}
		if edited.String() == a.String() || kept < len(a.lines)/2 || a.String() != b.String() {
			t.Errorf("an edit kept %d of %d lines", kept, len(a.lines))
		}
	}
}

// What the words of a definition say of its fields is read.
func TestChoices(t *testing.T) {
	fields := []string{"a", "b", "c", "d"}
	for doc, want := range map[string]string{
		"#X is one.":                                       "[]",
		"#X is one: exactly one of the fields.":            "[{1 1 [a b c d]}]",
		"#X is one; at most one of a and d. It is, as is.": "[{0 1 [a d]}]",
		"#X is one: at least one of a, b and c.":           "[{1 2 [a b c]}]",
		"#X is one: at least one of them is there.":        "[]",
	} {
		if got := fmt.Sprint(choices(doc, fields)); got != want {
			t.Errorf("%s: %s, want %s", doc, got, want)
		}
	}
}
