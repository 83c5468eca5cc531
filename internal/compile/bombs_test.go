package compile

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/sandbox"
)

// The test binary is its own child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sandbox.Word {
		os.Exit(Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

var allBombs = flag.Bool("bombs", false, "set off every bomb with every padding, and measure time and memory: about 40 minutes")

const bombHead = "package bomb\n\nimport (\n\t\"list\"\n\t\"strings\"\n\t\"math\"\n\t\"meshc.dev/intent\"\n)\n\n_use: [list.MaxItems, strings.MinRunes, math.Pi]\nmesh: intent.#Mesh\n"

func disjunctions(n int) string {
	var b strings.Builder
	b.WriteString("#D: {\n")
	for i := range n {
		fmt.Fprintf(&b, "\t{p%d: 1} | {q%d: 1}\n", i, i)
	}
	return b.String() + "}\n_d: #D\nmesh: owner: \"\\(_d.p0)\"\n"
}

func arms(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "#A%d: {k: \"a%d\", v%d?: #T}\n", i, i, i)
	}
	b.WriteString("#T: {\n\t#A0")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, " | #A%d", i)
	}
	b.WriteString("\n}\n_t: #T & {")
	for i := range n {
		fmt.Fprintf(&b, "v%d: {v%d: {v%d: {}}}, ", i, (i+1)%n, (i+2)%n)
	}
	return b.String() + "}\nmesh: owner: \"\\(_t.k)\"\n"
}

func laughs(width, depth int) string {
	var b strings.Builder
	b.WriteString("_l0: {a: \"ha\"}\n")
	for d := 1; d <= depth; d++ {
		fmt.Fprintf(&b, "_l%d: {", d)
		for w := range width {
			fmt.Fprintf(&b, "f%d: _l%d, ", w, d-1)
		}
		b.WriteString("}\n")
	}
	return b.String() + fmt.Sprintf("mesh: owner: \"\\(len(_l%d.f0))\"\n_all: _l%d\n", depth, depth)
}

func doubled(n int) string {
	var b strings.Builder
	b.WriteString("#s0: \"laugh\"\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "#s%d: #s%d + #s%d\n", i, i-1, i-1)
	}
	return b.String() + fmt.Sprintf("mesh: owner: \"\\(len(#s%d))\"\n", n-1)
}

func tens(n int) string {
	out := "_a: \"0123456789\"\n_b: \"" + strings.Repeat("\\(_a)", 10) + "\"\n_s0: _b\n"
	for i := 1; i <= n; i++ {
		out += fmt.Sprintf("_s%d: \"%s\"\n", i, strings.Repeat(fmt.Sprintf("\\(_s%d)", i-1), 10))
	}
	return out + fmt.Sprintf("mesh: owner: _s%d\n", n)
}

// bomb is CUE that takes, or would take, all time or memory.
type bomb struct {
	name, text string
	// quick bombs end in a second or two, by a limit on memory or because CUE refuses them.
	quick bool
	// harmless ones only have to end.
	harmless bool
}

func bombs() []bomb {
	return []bomb{
		{name: "disjunctions", text: disjunctions(20)},
		{name: "arms of a disjunction", text: arms(9)},
		{name: "comprehensions", text: "_n: list.Range(0, 1000, 1)\nmesh: test: {for a in _n for b in _n for c in _n {\"\\(a).\\(b).\\(c)\": {request: to: \"x\", expect: {}}}}\n"},
		{name: "long list", text: "_n: list.Range(0, 20000000, 1)\nmesh: owner: \"\\(len(_n))\"\n"},
		{name: "interpolation", text: tens(8), quick: true},
		{name: "doubling", text: doubled(40), quick: true},
		{name: "laughs unused", text: laughs(8, 8), harmless: true},
		{name: "laughs", text: laughs(8, 7) + "mesh: service: _l7\n"},
		{name: "structural cycle", text: "#A: {b: #A}\n_a: #A\nmesh: owner: \"\\(len(_a.b))\"\n", quick: true},
		{name: "repeat", text: "mesh: owner: strings.Repeat(\"x\", 8000000000)\n", quick: true},
		{name: "times", text: "mesh: owner: \"x\" * 1000000000\n", quick: true},
		{name: "list repeat", text: "mesh: owner: \"\\(len(list.Repeat([1], 100000000)))\"\n", quick: true},
		{name: "power", text: "mesh: owner: \"\\(math.Pow(10, 100000000))\"\n", quick: true},
		{name: "exponent", text: "mesh: owner: \"\\(1e1000000000 + 1)\"\n", quick: true, harmless: true},
		{name: "parentheses", text: "mesh: owner: " + strings.Repeat("(", 200000) + "\n", quick: true},
		{name: "braces", text: "mesh: " + strings.Repeat("{a:", 100000) + "\n", quick: true},
		{name: "wide output", text: "mesh: test: {for i in list.Range(0, 345, 1) {\"\\(strings.Repeat(\"x\", 100000))\\(i)\": {request: to: \"x\", expect: {}}}}\n"},
	}
}

// padding is how comments are put beside a bomb.
type padding struct {
	bytes    int
	one      bool // file, the bomb's own; otherwise as many as it takes
	packages int  // over which the comments are spread; the bomb is in the first
}

func (p padding) String() string {
	return fmt.Sprintf("%d MB, one file %v, %d packages", p.bytes>>20, p.one, p.packages)
}

const perFile = 900 << 10

func comments(n int) string {
	const line = "// " // of a hundred bytes
	return strings.Repeat(line+strings.Repeat("x", 96)+"\n", n/100)
}

// set is a mesh with a bomb in package "bomb" and honest packages beside it.
func (b bomb) set(p padding) fstest.MapFS {
	fs := honest(3)
	text := bombHead + b.text
	if p.one {
		text += comments(p.bytes)
	}
	fs["bomb/a.cue"] = &fstest.MapFile{Data: []byte(text)}
	for i := 0; !p.one && i*perFile < p.bytes; i++ {
		dir, clause := "bomb", "bomb"
		if n := i % p.packages; n > 0 {
			dir, clause = fmt.Sprintf("pad%d", n), fmt.Sprintf("pad%d", n)
			fs[dir+"/a.cue"] = &fstest.MapFile{Data: []byte("package " + clause + "\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: owner: \"x\"\n")}
		}
		fs[fmt.Sprintf("%s/pad%d.cue", dir, i)] = &fstest.MapFile{Data: []byte("package " + clause + "\n" + comments(min(perFile, p.bytes-i*perFile)))}
	}
	return fs
}

// honest is a mesh that compiles, one service a package.
func honest(n int) fstest.MapFS {
	fs := fstest.MapFS{"mesh.cue": {Data: []byte("package mesh\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\nmesh: environment: prod: {}\n")}}
	for i := range n {
		fs[fmt.Sprintf("honest%d/a.cue", i)] = &fstest.MapFile{Data: fmt.Appendf(nil, "package honest%d\nimport \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"+
			"mesh: {namespace: \"honest%d\", owner: \"x\", service: web: {port: http: number: 8080, endpoints: file: \"web\"}}\n", i, i)}
	}
	return fs
}

func newCompiler(t *testing.T, b Bounds) *Compiler {
	t.Helper()
	c, err := New(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func date() time.Time { return time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) }

// problems compiles and returns what is wrong.
func problems(t *testing.T, c *Compiler, fs fstest.MapFS) diag.List {
	t.Helper()
	ds, err := Within(t.Context(), c, func(ctx context.Context) (diag.List, error) {
		_, ds, err := c.Load(ctx, fs, compiler.Options{At: date()})
		return ds, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// patiently compiles with a limit for each package's time that the honest ones keep: a machine
// with other work to do gets more.
func patiently(t *testing.T, fs fstest.MapFS, limit time.Duration) (ds diag.List, took time.Duration) {
	t.Helper()
	for ; ; limit *= 2 {
		c := newCompiler(t, Default())
		c.limits.Time = limit
		begin := time.Now()
		ds = problems(t, c, fs)
		took = time.Since(begin)
		late := slices.ContainsFunc(ds, func(d diag.Diagnostic) bool {
			return d.Code == diag.CodeTimeLimit && !strings.HasPrefix(d.Pos.File, "bomb")
		})
		if !late || limit > time.Minute {
			return ds, took
		}
	}
}

// Every bomb, whatever comments stand beside it, fails its package by name within
// the package's limits, and this process lives. Without -bombs: each once, those
// that take time with a shorter one, and the quick ones with some paddings.
func TestBombs(t *testing.T) {
	paddings := []padding{{packages: 1}}
	for _, mb := range []int{1, 10, 60} {
		paddings = append(paddings, padding{bytes: mb << 20, packages: 1}, padding{bytes: mb << 20, packages: 5}, padding{bytes: mb << 20, one: true, packages: 1})
	}
	for _, b := range bombs() {
		some := slices.Clone(paddings)
		if !*allBombs {
			some = []padding{paddings[0]}
			if b.name == "doubling" || b.name == "structural cycle" {
				some = append(some, paddings[1:4]...)
				if raced { // parsing is what takes the time, and the memory is not limited
					some = append(some, paddings[4:7]...)
				} else {
					some = append(some, paddings[7:]...)
				}
			}
		}
		for _, p := range some {
			t.Run(b.name+"/"+p.String(), func(t *testing.T) { explode(t, b, p) })
		}
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		t.Fatal(err)
	}
	t.Logf("largest child: %d MiB", u.Maxrss>>10)
	if _, lacks := sandbox.Warning(); !lacks && !raced && u.Maxrss>>10 > PackageMemory>>20 {
		t.Errorf("a child needed %d MiB", u.Maxrss>>10)
	}
}

func explode(t *testing.T, b bomb, p padding) {
	t.Helper()
	limit := packageLimits().Time
	if !*allBombs && !b.quick {
		limit = 2 * time.Second
	}
	ds, took := patiently(t, b.set(p), slow*limit)
	if *allBombs && took > slow*PackageTime {
		t.Errorf("took %v", took)
	}
	if len(ds) > 5 {
		t.Errorf("%d problems", len(ds))
	}
	for _, d := range ds {
		t.Logf("%v: %.200v", took.Round(time.Millisecond), d)
		limit := slices.Contains([]diag.Code{diag.CodeMemoryLimit, diag.CodeTimeLimit, diag.CodeOutputLimit}, d.Code)
		named := strings.Contains(d.Text, `package "bomb"`) && d.Fix != ""
		if limit && !named || !limit && d.Code > diag.CodeMemoryLimit || !strings.HasPrefix(d.Pos.File, "bomb/") {
			t.Errorf("not clear: %v", d)
		}
	}
	if !ds.HasErrors() && !b.harmless {
		t.Error("it compiles")
	}
}

// Of many bombs a few are set off, and one line says what became of the rest.
func TestManyBombs(t *testing.T) {
	fs := honest(3)
	for i := range 50 {
		fs[fmt.Sprintf("bomb%02d/a.cue", i)] = &fstest.MapFile{Data: []byte(strings.Replace(bombHead, "bomb", fmt.Sprintf("bomb%02d", i), 1) + disjunctions(20))}
	}
	over, rest := 0, 0
	ds, _ := patiently(t, fs, slow*time.Second)
	for _, d := range ds {
		switch {
		case d.Code == diag.CodeTimeLimit && strings.HasPrefix(d.Pos.File, "bomb") && strings.Contains(d.Text, `package "bomb`):
			over++
		case d.Code == diag.CodeNotEvaluated && strings.Contains(d.Text, "packages were not evaluated, because"):
			rest++
		default:
			t.Errorf("%v", d)
		}
	}
	if over < maxOver || over > maxOver+workers() || rest != 1 {
		t.Errorf("%d over their limits, %d lines about the rest", over, rest)
	}
}

// shorter is less than a package may take, and less than this bomb takes on an idle machine to
// have all the memory that it may; enough to begin with one on a busy machine.
const shorter = PackageTime / 2

// What goes over the bound of the whole names the bound, and what took the time.
func TestWholeBound(t *testing.T) {
	fs := honest(3)
	fs["bomb/a.cue"] = &fstest.MapFile{Data: []byte(bombHead + disjunctions(20))}
	ds := problems(t, newCompiler(t, Bounds{Time: shorter, Memory: Default().Memory}), fs)
	if len(ds) != 1 || ds[0].Code != diag.CodeCompileLimit || !strings.Contains(ds[0].Text, "longer than "+shorter.String()) || !strings.Contains(ds[0].Text, `"bomb" (`) || ds[0].Pos.File != "bomb/a.cue" {
		t.Errorf("got %v", ds)
	}
}

// Work that cannot be stopped is left behind when it goes over a bound. What the
// process holds already is none of its memory.
func TestWithin(t *testing.T) {
	held := slices.Repeat([]byte("x"), 256<<20)
	defer runtime.KeepAlive(held)
	debug.FreeOSMemory() // what earlier tests left would be room that nobody sees in use
	c := newCompiler(t, Bounds{Time: time.Second, Memory: Default().Memory})
	room := newCompiler(t, Bounds{Time: time.Minute, Memory: 128 << 20})
	done := make(chan struct{})
	defer close(done)
	over := func(c *Compiler, work func()) error {
		_, err := Within(t.Context(), c, func(context.Context) (int, error) { work(); return 1, nil })
		return err
	}
	var kept [][]byte
	for name, err := range map[string]error{
		"longer than 1s":    over(c, func() { <-done }),
		"more than 128 MiB": over(room, func() { kept = append(kept, slices.Repeat([]byte("x"), 256<<20)); <-done }),
	} {
		var e *ExceededError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), name) || e.Diagnostic().Code != diag.CodeCompileLimit {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v, err := Within(t.Context(), newCompiler(t, Default()), func(context.Context) (string, error) { return "done", nil }); v != "done" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Within(ctx, c, func(context.Context) (int, error) { <-done; return 1, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// A commit that goes over the bound of the whole is told as that, by a parent that lives.
func TestWholeBoundOfSteps(t *testing.T) {
	fs := honest(3)
	fs["bomb/a.cue"] = &fstest.MapFile{Data: []byte(bombHead + disjunctions(20))}
	_, err := newCompiler(t, Bounds{Time: shorter, Memory: Default().Memory}).Steps(t.Context(), fs, "", date())
	if err == nil || !strings.Contains(err.Error(), string(diag.CodeCompileLimit)) || !strings.Contains(err.Error(), `"bomb" (`) {
		t.Errorf("got %v", err)
	}
}

// A child that cannot be started is a problem of this machine, told for each package.
func TestBrokenChild(t *testing.T) {
	c := newCompiler(t, Default())
	c.program = "/nothing/here"
	ds := problems(t, c, honest(1))
	if len(ds) != 1 || ds[0].Code != diag.CodeSandbox || !strings.Contains(ds[0].Text, "starting") {
		t.Errorf("got %v", ds)
	}
}
