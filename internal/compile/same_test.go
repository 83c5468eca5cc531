package compile

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// drawn is intent with things that end, at a few instants that are often the same,
// and sometimes with mistakes.
func drawn(t *rapid.T) fstest.MapFS {
	until := func(what string) string {
		return date().Add(time.Duration(rapid.IntRange(-1, 12).Draw(t, what)) * time.Hour).Format(time.RFC3339)
	}
	mode := func(what string) string {
		if !rapid.Bool().Draw(t, what+" is weak") {
			return ""
		}
		return fmt.Sprintf(", mtls: {mode: \"permissive\", owner: \"o\", reason: \"r\", until: %q}", until(what))
	}
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	files := fstest.MapFS{"mesh.cue": {Data: []byte("package mesh\n" + head + "mesh: {owner: \"x\"" + mode("mesh") + "}\n")}}
	packages := rapid.IntRange(1, 3).Draw(t, "packages")
	for p := range packages {
		var b strings.Builder
		fmt.Fprintf(&b, "package team%d\n%smesh: {namespace: \"team%d\", owner: \"x\"%s}\n", p, head, p, mode("namespace"))
		for s := range rapid.IntRange(1, 3).Draw(t, "services") {
			fault, port := "", ""
			if s == 0 || rapid.Bool().Draw(t, "breaks") { // in each package something ends
				fault = fmt.Sprintf(`, fault: {abort: {status: 503, percent: 5}, owner: "o", reason: "r", until: %q}`, until("fault"))
			}
			if rapid.Bool().Draw(t, "port is weak") {
				port = fmt.Sprintf(`, mtls: {mode: "permissive", owner: "o", reason: "r", until: %q}`, until("port"))
			}
			fmt.Fprintf(&b, "mesh: service: s%d: {port: http: {number: 8080%s}, endpoints: file: \"f\", version: v1: {}, route: default: {to: v1: 100, timeout: \"%ds\"%s}, grant: all: from: [%q]}\n",
				s, port, rapid.IntRange(1, 3).Draw(t, "timeout"), fault, rapid.SampledFrom([]string{"s0", "team0/s0", "s0", "team0/s0", "s0", "team0/s0", "s0", "team0/s0", "s0", "team9/s0"}).Draw(t, "caller"))
		}
		if p == 0 && rapid.Bool().Draw(t, "gateway") {
			fmt.Fprintf(&b, "mesh: gateway: edge: {port: http: number: 8000, host: \"a.example\": route: all: {to: s0: 100}}\n")
		}
		files[fmt.Sprintf("team%d/a.cue", p)] = &fstest.MapFile{Data: []byte(b.String())}
	}
	return files
}

// fewer lowers the number of draws, unless another one than the usual 100 was asked
// for with -rapid.checks: each is several processes.
func fewer(t *testing.T) {
	t.Helper()
	const name = "rapid.checks"
	if f := flag.Lookup(name); f != nil && f.Value.String() == f.DefValue {
		if err := flag.Set(name, "15"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set(name, f.DefValue) })
	}
}

// fresh compiles in this process, from nothing, as the child does from what it knows.
func fresh(t *rapid.T, files fs.FS, at time.Time) (*compiler.Program, release.Release, diag.List) {
	by, err := New(Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	court, ds := by.Convene(context.Background(), OwnPolicies(files))
	policy, more := court.Policy()
	ds = append(ds, more...)
	p, more := compiler.Load(files, compiler.Options{At: at, Policy: policy})
	if ds = append(ds, more...); ds.HasErrors() {
		return nil, release.Release{}, ds
	}
	r, more := p.Release()
	res, err := court.Judge(context.Background(), Case{Program: p, At: at, Release: r})
	if err != nil {
		t.Fatal(err)
	}
	ds = append(append(ds, more...), res.Findings...)
	return p, r, ds.Sorted()
}

// What children give is what this process gives: the same programs, releases,
// positions and problems; and each step is what a compile for its date gives.
func TestChildrenGiveTheSame(t *testing.T) {
	fewer(t)
	c := newCompiler(t, Default())
	compiled, steps := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		files := drawn(t)
		want, r, problems := fresh(t, files, date())
		got, err := c.Release(context.Background(), files, compiler.Options{At: date()})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(problems, got.Problems); diff != "" {
			t.Fatalf("problems differ: %s", diff)
		}
		all, err := c.Steps(context.Background(), files, "", date())
		if problems.HasErrors() {
			if err == nil {
				t.Fatalf("steps of intent with problems: %v", problems)
			}
			return
		}
		compiled++
		same(t, r, got.Release)
		if string(want.MeshJSON()) != string(got.Program.MeshJSON()) || !cmp.Equal(want.Owners(), got.Program.Owners()) || !cmp.Equal(want.Exceptions(), got.Program.Exceptions()) {
			t.Fatal("programs differ")
		}
		instants := []time.Time{date()}
		for _, end := range want.Expiries() {
			instants = append(instants, end.Add(time.Second))
		}
		for i, at := range instants {
			_, r, problems := fresh(t, files, at)
			if problems.HasErrors() {
				if err == nil {
					t.Fatalf("at %v: steps, but %v", at, problems)
				}
				return
			}
			if err != nil || len(all) != len(instants) || i > 0 && !all[i].From.Equal(at) || i == 0 && !all[0].From.IsZero() {
				t.Fatalf("%d steps, want %d: %v", len(all), len(instants), err)
			}
			same(t, r, all[i].Release)
			steps++
		}
	})
	t.Logf("%d compile, with %d steps", compiled, steps)
	if compiled < 3 || steps < 2*compiled {
		t.Error("too few of the drawn meshes compile, or end")
	}
}

// same demands that two releases are the same to the byte, with their positions.
func same(t *rapid.T, want, got release.Release) {
	if diff := cmp.Diff(want.Manifest(), got.Manifest()); diff != "" {
		t.Fatalf("manifests differ: %s", diff)
	}
	if diff := cmp.Diff(want.Provenance(), got.Provenance()); diff != "" {
		t.Fatalf("positions differ: %s", diff)
	}
	for _, path := range want.Paths() {
		a, _ := want.Artifact(path)
		if b, ok := got.Artifact(path); !ok || string(a) != string(b) {
			t.Fatalf("%s differs", path)
		}
	}
}
