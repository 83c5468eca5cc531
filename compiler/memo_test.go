package compiler_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
)

// world is intent that a test edits: what differs between versions is drawn.
type world struct {
	packages []pkg
	domain   string
	gateway  bool
}

type pkg struct {
	lines    int // comments above, which move all positions
	services []svc
	mtls     string
}

type svc struct {
	timeout, versions, weight, port int
	grantAll, fault, mirror, bad    bool
	calls                           []int
}

func draw(t *rapid.T) world {
	w := world{domain: "mesh.local"}
	for range rapid.IntRange(2, 3).Draw(t, "packages") {
		p := pkg{mtls: "strict"}
		for range rapid.IntRange(2, 4).Draw(t, "services") {
			p.services = append(p.services, svc{timeout: 3, versions: 2, weight: 50, port: 8080, calls: drawCalls(t)})
		}
		w.packages = append(w.packages, p)
	}
	return w
}

// edit changes one thing.
func (w *world) edit(t *rapid.T) {
	p := &w.packages[rapid.IntRange(0, len(w.packages)-1).Draw(t, "package")]
	s := &p.services[rapid.IntRange(0, len(p.services)-1).Draw(t, "service")]
	switch rapid.SampledFrom([]string{"timeout", "weight", "version", "port", "grant", "fault", "mirror", "call", "lines", "mtls", "domain", "gateway", "none", "add", "bad"}).Draw(t, "edit") {
	case "timeout":
		s.timeout = rapid.IntRange(1, 9).Draw(t, "timeout")
	case "weight":
		s.weight = rapid.IntRange(0, 100).Draw(t, "weight")
	case "version":
		s.versions = rapid.IntRange(1, 3).Draw(t, "versions")
	case "port":
		s.port = rapid.IntRange(8080, 8082).Draw(t, "port")
	case "grant":
		s.grantAll = !s.grantAll
	case "fault":
		s.fault = !s.fault
	case "mirror":
		s.mirror = !s.mirror
	case "call":
		s.calls = drawCalls(t)
	case "lines":
		p.lines = rapid.IntRange(0, 3).Draw(t, "lines")
	case "mtls":
		p.mtls = rapid.SampledFrom([]string{"strict", "permissive", "disable"}).Draw(t, "mtls")
	case "domain":
		w.domain = rapid.SampledFrom([]string{"mesh.local", "other.local"}).Draw(t, "domain")
	case "gateway":
		w.gateway = !w.gateway
	case "add":
		p.services = append(p.services, svc{timeout: 3, versions: 1, weight: 0, port: 8080})
	case "bad":
		s.bad = !s.bad
	}
}

func drawCalls(t *rapid.T) []int {
	return rapid.SliceOfNDistinct(rapid.IntRange(0, 11), 1, 3, rapid.ID[int]).Draw(t, "calls")
}

func (w world) files() fs.FS {
	out := fstest.MapFS{}
	put := func(name, text string) { out[name] = &fstest.MapFile{Data: []byte(text)} }
	put("mesh.cue", fmt.Sprintf("package mesh\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: {trustDomain: %q}\n", w.domain))
	var names []string
	for i, p := range w.packages {
		for j := range p.services {
			names = append(names, fmt.Sprintf("team%d/s%d", i, j))
		}
	}
	for i, p := range w.packages {
		var b strings.Builder
		fmt.Fprintf(&b, "%spackage team%d\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: {namespace: \"team%d\", mtls: {mode: %q, owner: \"x\", reason: \"y\", until: \"2030-01-01T00:00:00Z\"}}\n",
			strings.Repeat("// a line\n", p.lines), i, i, p.mtls)
		for j, s := range p.services {
			s.write(&b, j, names)
		}
		if w.gateway && i == 0 {
			b.WriteString("mesh: gateway: edge: {port: 8000, host: \"*\": route: all: to: s0: 100}\n")
		}
		put(fmt.Sprintf("team%d/services.cue", i), b.String())
	}
	return out
}

func (s svc) write(b *strings.Builder, j int, names []string) {
	fmt.Fprintf(b, "mesh: service: s%d: {\n\tport: http: number: %d\n\tversion: {v1: {}", j, s.port)
	for v := 2; v <= s.versions; v++ {
		fmt.Fprintf(b, ", v%d: {}", v)
	}
	first := 100
	if s.versions > 1 {
		first -= s.weight
	}
	if s.bad {
		first++
	}
	fmt.Fprintf(b, "}\n\tendpoints: dns: \"s%d.example:8080\"\n\troute: default: {timeout: \"%ds\", to: {v1: %d", j, s.timeout, first)
	if s.versions > 1 {
		fmt.Fprintf(b, ", v2: %d", s.weight)
	}
	b.WriteString("}")
	if s.fault {
		b.WriteString(`, fault: {abort: {status: 503, percent: 5}, owner: "o", reason: "r", until: "2027-06-01T00:00:00Z"}`)
	}
	if s.mirror {
		fmt.Fprintf(b, ", mirror: {to: %q, percent: 5}", names[len(names)-1])
	}
	b.WriteString("}\n")
	seen := map[string]bool{}
	for _, c := range s.calls {
		if to := names[c%len(names)]; !seen[to] {
			seen[to] = true
			fmt.Fprintf(b, "\tcalls: %q: {}\n", to)
		}
	}
	if s.grantAll {
		b.WriteString("\tgrant: all: mesh: true\n")
	} else {
		fmt.Fprintf(b, "\tgrant: first: {from: [%q], methods: [\"GET\"]}\n", names[0])
	}
	b.WriteString("}\n")
}

// After any edits, a compile with a memo gives what one without gives: the same
// bytes, positions, owners, instants and problems.
func TestIncrementalIsFull(t *testing.T) {
	compiled := 0
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		o := compiler.Options{Cache: compiler.MemoryCache(100, nil), Memo: compiler.NewMemo()}
		at := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
		for range rapid.IntRange(2, 8).Draw(t, "edits") {
			w.edit(t)
			at = at.AddDate(0, rapid.IntRange(0, 3).Draw(t, "months"), 0)
			o.At = at
			got := outcome(t, w.files(), o)
			want := outcome(t, w.files(), compiler.Options{At: at})
			if bytes.Contains(got, []byte(`"release"`)) {
				compiled++
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("incremental and full differ; incremental:\n%s\nfull:\n%s", got, want)
			}
		}
	})
	if compiled < 20 {
		t.Errorf("only %d of the drawn meshes compile", compiled)
	}
}

// outcome is everything that a compile gives.
func outcome(t *rapid.T, files fs.FS, o compiler.Options) []byte {
	p, ds := compiler.Load(files, o)
	all := map[string]any{"load": ds}
	if p != nil {
		r, more := p.Release()
		arts := map[string]string{}
		for _, path := range r.Paths() {
			b, _ := r.Artifact(path)
			arts[path] = string(b)
		}
		all["release"] = []any{more, r.Digest(), r.Manifest(), r.Provenance(), arts}
		all["program"] = []any{p.Expiries(), p.Exceptions(), p.Owners(), string(p.MeshJSON())}
		if r.Digest() != "" {
			again, err := release.Seal(artifacts(r), r.Manifest().Inputs, nil)
			if err != nil || again.Digest() != r.Digest() {
				t.Fatalf("sealed again it is %s, not %s: %v", again.Digest(), r.Digest(), err)
			}
		}
	}
	b, err := canon.JSON(all)
	if err != nil {
		t.Fatal(err)
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
