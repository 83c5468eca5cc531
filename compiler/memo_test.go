package compiler_test

import (
	"bytes"
	"flag"
	"io/fs"
	"maps"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
)

// same compiles a world with the memo and without, demands that both give the
// same, and tells whether it compiles.
func same(t fataler, w world, o compiler.Options) bool {
	got := outcome(t, w.files(), o)
	want := outcome(t, w.files(), compiler.Options{At: o.At})
	if !bytes.Equal(got, want) {
		t.Fatalf("incremental and full differ; incremental:\n%s\nfull:\n%s", got, want)
	}
	return bytes.Contains(got, []byte(`"release"`))
}

// fataler is what rapid's T and testing's have in common.
type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func remembering(at time.Time) compiler.Options {
	return compiler.Options{At: at, Cache: compiler.MemoryCache(100, nil), Memo: compiler.NewMemo()}
}

// After any edits, a compile with a memo gives what one without gives: the same
// bytes, positions, owners, instants and problems.
func TestIncrementalIsFull(t *testing.T) {
	fewer(t)
	compiled, tried := 0, 0
	all := edits()
	names := slices.Sorted(maps.Keys(all))
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.IntRange(2, 3).Draw(t, "packages"), rapid.IntRange(1, 3).Draw(t, "services"))
		o := remembering(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
		for range rapid.IntRange(2, 10).Draw(t, "edits") {
			p := &w.packages[rapid.IntRange(0, len(w.packages)-1).Draw(t, "package")]
			s := &p.services[rapid.IntRange(0, len(p.services)-1).Draw(t, "service")]
			all[rapid.SampledFrom(names).Draw(t, "edit")](t, &w, p, s)
			o.At = o.At.AddDate(0, rapid.IntRange(0, 3).Draw(t, "months"), 0)
			tried++
			if same(t, w, o) {
				compiled++
			}
		}
	})
	t.Logf("%d of %d compile", compiled, tried)
	if compiled < 20 {
		t.Errorf("only %d of the drawn meshes compile", compiled)
	}
}

// An edit of one package that another one looks at is seen there, and so is its
// undoing. In each case the package that looks has the same bytes as before.
func TestEditElsewhereIsSeen(t *testing.T) {
	for name, edit := range map[string]func(w *world, s *svc){
		"a version less": func(_ *world, s *svc) { s.versions = 1 },
		"another port":   func(_ *world, s *svc) { s.port = "web" },
		"a number":       func(_ *world, s *svc) { s.number = 8081 },
		"an account":     func(_ *world, s *svc) { s.account = "own" },
		"an external":    func(_ *world, s *svc) { s.external = true },
		"gone":           func(_ *world, s *svc) { s.gone = true },
		"no gateway":     func(w *world, _ *svc) { w.gateway = "" },
		"its account":    func(w *world, _ *svc) { w.gatewayAccount = "door" },
		"its package":    func(w *world, _ *svc) { w.gateway = "team1" },
		"weak mesh":      func(w *world, _ *svc) { w.mtls = "permissive" },
		"domain":         func(w *world, _ *svc) { w.domain = "other.local" },
		"a guest less":   func(w *world, _ *svc) { w.guest = "" },
		"another host":   func(w *world, _ *svc) { w.guest = "team2" },
		"no word":        func(w *world, _ *svc) { w.unasked = true },
		"the owner's":    func(w *world, _ *svc) { w.packages[1].mtls = "permissive" },
		"capture":        func(w *world, _ *svc) { w.capture = "explicit" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(3, 2)
			for _, p := range w.packages {
				p.services[0].grantAll, p.services[1].grantAll = true, true
			}
			looks := w.packages[2].services
			looks[0].calls, looks[0].mirror, looks[0].mirrored = []string{"team0/s1"}, "team0/s1", "v2"
			looks[0].from, looks[0].grantAll = "team0/s1", false
			looks[1].from, looks[1].grantAll = "gateway/edge", false
			o := remembering(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
			if !same(t, w, o) {
				t.Fatal("it does not compile before the edit")
			}
			edited := w.clone()
			edit(&edited, &edited.packages[0].services[1])
			same(t, edited, o)
			same(t, w, o)
		})
	}
}

// What a service says that others lead to is seen at the callers of those, whose packages have the same bytes as
// before.
func TestEditOfWhatIsLedToIsSeen(t *testing.T) {
	files := func(led string) fs.FS {
		const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
		return fstest.MapFS{
			"mesh.cue": {Data: []byte("package mesh\n" + head)},
			"web/web.cue": {Data: []byte("package web\n" + head + `mesh: namespace: "web"
mesh: service: {web: {port: http: number: 80, calls: "shop/app": {}}, till: {port: http: number: 80, calls: "shop/app": {}}}`)},
			"shop/shop.cue": {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"
mesh: service: app: {port: http: number: 80, grant: all: mesh: true, route: next: {to: next: 100, destination: next: service: "next"}}`)},
			"shop/next.cue": {Data: []byte("package shop\n" + head + "mesh: service: next: {port: http: number: 80, grant: all: mesh: true}\n" + led)},
		}
	}
	for name, led := range map[string]string{
		"a timeout":        `mesh: service: next: route: all: {to: default: 100, timeout: "3s"}`,
		"edits":            `mesh: service: next: route: all: {to: default: 100, requestHeaders: set: "x-by": "next"}`,
		"conditions":       `mesh: service: next: route: all: {match: path: prefix: "/a", to: default: 100}`,
		"callers":          `mesh: service: next: route: all: {match: from: ["web/web"], to: default: 100}`,
		"a chosen header":  `mesh: service: next: balance: hash: header: "x-tenant"`,
		"versions":         `mesh: service: next: {version: {v1: {}, v2: {}}, route: all: to: {v1: 50, v2: 50}}`,
		"further":          `mesh: service: {last: {port: http: number: 80, grant: all: mesh: true}, next: route: all: {to: last: 100, destination: last: service: "last"}}`,
		"a copy elsewhere": `mesh: service: {last: {port: http: number: 80, grant: all: mesh: true}, next: route: all: {to: default: 100, mirror: last: {}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			o := remembering(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
			for _, led := range []string{"", led, ""} {
				got, want := outcome(t, files(led), o), outcome(t, files(led), compiler.Options{At: o.At})
				if !bytes.Equal(got, want) || !bytes.Contains(got, []byte(`"release"`)) {
					t.Fatalf("incremental and full differ; incremental:\n%s\nfull:\n%s", got, want)
				}
			}
		})
	}
}

// fewer lowers the number of draws, unless another one than the usual 100 was asked
// for with -rapid.checks: each draw here is a dozen compilations.
func fewer(t *testing.T) {
	t.Helper()
	const name = "rapid.checks"
	if f := flag.Lookup(name); f != nil && f.Value.String() == f.DefValue {
		if err := flag.Set(name, "25"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set(name, f.DefValue) })
	}
}

// outcome is everything that a compile gives.
func outcome(t fataler, files fs.FS, o compiler.Options) []byte {
	p, ds := compiler.Load(files, o)
	all := map[string]any{"load": ds}
	if p != nil {
		whole, err := canon.Reformat(p.MeshJSON())
		if err != nil || !bytes.Equal(whole, p.MeshJSON()) {
			t.Fatalf("the mesh's parts make no canonical form: %v\n%s", err, p.MeshJSON())
		}
		r, more := p.Release()
		arts := map[string]string{}
		for _, path := range r.Paths() {
			b, _ := r.Artifact(path)
			arts[path] = string(b)
		}
		all["release"] = []any{more, r.Digest(), r.Manifest(), r.Provenance(), arts}
		all["program"] = []any{p.Expiries(), p.Exceptions(), p.Owners(), string(p.MeshJSON())}
		if r.Digest() != "" {
			again, err := release.Seal(artifacts(r), r.Inputs(), nil)
			if err != nil || again.Digest() != r.Digest() {
				t.Fatalf("sealed again it is %s, not %s: %v", again.Digest(), r.Digest(), err)
			}
		}
	}
	b, err := canon.JSON(all)
	if err != nil {
		t.Fatalf("encoding what was compiled: %v", err)
	}
	return b
}

func artifacts(r release.Release) []release.Artifact {
	var out []release.Artifact
	for _, p := range r.Paths() {
		b, _ := r.Artifact(p)
		out = append(out, release.Artifact{Path: p, Bytes: b})
	}
	return out
}
