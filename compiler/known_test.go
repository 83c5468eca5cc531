package compiler_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
)

// kept is a Cache.
type kept map[string][]byte

func (k kept) Get(key string) ([]byte, bool) { b, ok := k[key]; return b, ok }
func (k kept) Put(key string, b []byte)      { k[key] = b }

// difference is what differs between two releases, but for the digests of blobs.
func difference(t fataler, before, after release.Release) []any {
	resources, err := release.DiffResources(before, after)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var others []release.Change
	for _, c := range release.Diff(before, after) {
		if !strings.HasPrefix(c.Path, release.BlobPath("")) {
			others = append(others, c)
		}
	}
	return []any{resources, others}
}

// planned is what a plan says, later instants included.
func planned(t fataler, before, after *compiler.Program) compiler.Plan {
	c, err := compiler.CompareAhead(before, after, compiler.Limits{})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return c.Plan
}

// snapshotsOf counts the classes of whose snapshots a release is.
func snapshotsOf(r release.Release) int { return len(r.Classes()) }

// Whatever is known from earlier meshes: what differs between two is what differs between
// their whole releases, and what one says of itself is said all the same.
func TestWhatIsKnownChangesNoAnswer(t *testing.T) {
	fewer(t)
	all := edits()
	names := slices.Sorted(maps.Keys(all))
	compared, less := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		known := compiler.Known{Cache: kept{}, Build: "this"}
		at := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
		w := newWorld(rapid.IntRange(2, 3).Draw(t, "packages"), rapid.IntRange(1, 3).Draw(t, "services"))
		for range rapid.IntRange(2, 6).Draw(t, "edits") {
			edited := w.clone()
			for range rapid.IntRange(0, 2).Draw(t, "at once") {
				p := &edited.packages[rapid.IntRange(0, len(edited.packages)-1).Draw(t, "package")]
				s := &p.services[rapid.IntRange(0, len(p.services)-1).Draw(t, "service")]
				all[rapid.SampledFrom(names).Draw(t, "edit")](t, &edited, p, s)
			}
			o := remembering(at)
			after, _ := compiler.Load(edited.files(), o)
			before, _ := compiler.Load(w.files(), o)
			was := w
			w = edited
			if before == nil || after == nil {
				continue
			}
			old, fresh, were, problems := known.Differing(before, after)
			whole, wantBefore := before.Release()
			wholeAfter, want := after.Release()
			if !reflect.DeepEqual(problems, want) || !reflect.DeepEqual(were, wantBefore) {
				t.Fatalf("problems %v and %v, of the whole %v and %v", were, problems, wantBefore, want)
			}
			if problems.HasErrors() {
				continue
			}
			if got, want := difference(t, old, fresh), difference(t, whole, wholeAfter); !reflect.DeepEqual(got, want) {
				t.Fatalf("differs %v\nof the whole %v", got, want)
			}
			own, _ := compiler.Load(edited.files(), compiler.Options{At: at})
			alone, _ := compiler.Load(was.files(), compiler.Options{At: at})
			if got, want := planned(t, before, after), planned(t, alone, own); !reflect.DeepEqual(got, want) {
				t.Fatalf("the plan of what shares objects is\n%+v\nand else\n%+v", got, want)
			}
			compared++
			if snapshotsOf(fresh) < snapshotsOf(wholeAfter) {
				less++
			}
			again, _ := compiler.Load(edited.files(), remembering(at))
			if _, ds := known.Checked(again); !reflect.DeepEqual(ds, want) {
				t.Fatalf("checked: %v, of the whole %v", ds, want)
			}
		}
	})
	t.Logf("%d compared, in %d something was left out", compared, less)
	if less < compared/4 || compared < 20 {
		t.Errorf("%d compared, in %d something was left out: it helps nobody", compared, less)
	}
}

// A service that is one object on both sides is not thought to be the same for callers who say
// something else of their calls, or for a mesh whose identities are others.
func TestPlanSeesWhatIsAroundASharedService(t *testing.T) {
	const root = "package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n"
	const head = "package %s\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: namespace: %q\n"
	files := func(domain, call string) fstest.MapFS {
		return fstest.MapFS{
			"mesh.cue":      {Data: []byte(root + domain)},
			"web/web.cue":   {Data: fmt.Appendf(nil, head+"mesh: service: web: {port: http: number: 80, calls: \"shop/cart\": {%s}}\n", "web", "web", call)},
			"shop/cart.cue": {Data: fmt.Appendf(nil, head+"mesh: service: cart: {port: http: number: 80, grant: web: from: [\"web/web\"]}\n", "shop", "shop")},
		}
	}
	for name, c := range map[string]struct {
		before, after fstest.MapFS
		changes       bool
	}{
		"nothing":      {files("", `timeout: "2s"`), files("", `timeout: "2s"`), false},
		"a word":       {files("", `timeout: "2s"`), files("", `timeout: "3s"`), true},
		"a new word":   {files("", ""), files("", `timeout: "3s"`), true},
		"a word gone":  {files("", `timeout: "2s"`), files("", ""), true},
		"trust domain": {files("", ""), files("mesh: trustDomain: \"other.local\"\n", ""), true},
	} {
		o := remembering(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
		before, ds := compiler.Load(c.before, o)
		if before == nil {
			t.Fatal(name, ds)
		}
		after, ds := compiler.Load(c.after, o)
		if after == nil {
			t.Fatal(name, ds)
		}
		alone, _ := compiler.Load(c.before, compiler.Options{At: o.At})
		own, _ := compiler.Load(c.after, compiler.Options{At: o.At})
		got, want := planned(t, before, after), planned(t, alone, own)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the plan of what shares objects is\n%+v\nand else\n%+v", name, got, want)
		}
		if (len(got.Lines) > 0) != c.changes {
			t.Errorf("%s: %+v", name, got.Lines)
		}
	}
}

// What another build made, another mesh's trust domain, environment or namespaces say, or what
// does not read, is not known.
func TestWhatIsKnownIsOfOneBuild(t *testing.T) {
	cache := kept{}
	load := func(edit func(*world)) *compiler.Program {
		w := newWorld(2, 2)
		edit(&w)
		p, ds := compiler.Load(w.files(), remembering(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)))
		if p == nil {
			t.Fatal(ds)
		}
		return p
	}
	left := func(build string, edit func(*world)) int {
		p := load(edit)
		r, ds := compiler.Known{Cache: cache, Build: build}.Checked(p)
		if ds.HasErrors() {
			t.Fatal(ds)
		}
		return len(p.Classes()) - snapshotsOf(r)
	}
	nothing := func(*world) {}
	if n := left("one", nothing); n != 0 {
		t.Errorf("%d are known before anything was made", n)
	}
	all := len(load(nothing).Classes())
	if n := left("one", nothing); n != all {
		t.Errorf("%d of %d are known", n, all)
	}
	if n := left("other", nothing); n != 0 {
		t.Errorf("another build knows %d", n)
	}
	if n := left("one", func(w *world) { w.domain = "other.local" }); n != 0 {
		t.Errorf("another trust domain has %d", n)
	}
	if n := left("one", func(w *world) { *w = newWorld(3, 1) }); n != 0 {
		t.Errorf("a repository with other namespaces has %d", n)
	}
	if n := left("one", nothing); n != all {
		t.Errorf("beside the other repository %d of %d are known", n, all)
	}
	for key := range cache {
		cache[key] = []byte("{torn")
	}
	if n := left("one", nothing); n != 0 {
		t.Errorf("of a torn file %d are known", n)
	}
	var none compiler.Known
	if r, _ := none.Checked(load(nothing)); snapshotsOf(r) != all {
		t.Errorf("who knows nothing makes %d of %d", snapshotsOf(r), all)
	}
}
