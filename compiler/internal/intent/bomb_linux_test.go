package intent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/sandbox"
)

// The test binary is its own worker.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sandbox.Word {
		os.Exit(sandbox.Main(os.Args[2:], evaluateTree))
	}
	os.Exit(m.Run())
}

// worker builds this test binary without the race detector, whose own memory would
// hit the limits.
func worker(t *testing.T) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "worker")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("building the worker: %v\n%s", err, out)
	}
	return exe
}

// answer is what the worker gives: problems, or the evaluated packages.
type answer struct {
	Diags    diag.List
	Packages map[string]any
}

func evaluateTree(in []byte, progress func(string, bool)) ([]byte, error) {
	var files map[string][]byte
	if err := json.Unmarshal(in, &files); err != nil {
		return nil, err
	}
	got, l := Load(source.Tree{Files: files}, Options{Progress: progress})
	a := answer{Diags: l, Packages: map[string]any{}}
	for _, p := range got.Packages {
		a.Packages[p.Dir] = p.Mesh.value
	}
	return json.Marshal(a)
}

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

// Every bomb ends within 10 s and 512 MiB with a clear error, and this process
// lives: a limit that names the package, or CUE's own refusal.
func TestBombs(t *testing.T) {
	bombs := []struct{ name, text string }{ // "harmless" ones must end in time, that is all
		{"disjunctions", disjunctions(20)},
		{"arms of a disjunction", arms(9)},
		{"comprehensions", "_n: list.Range(0, 1000, 1)\nmesh: test: {for a in _n for b in _n for c in _n {\"\\(a).\\(b).\\(c)\": {request: to: \"x\", expect: {}}}}\n"},
		{"long list", "_n: list.Range(0, 20000000, 1)\nmesh: owner: \"\\(len(_n))\"\n"},
		{"interpolation", "_a: \"0123456789\"\n_b: \"\\(_a)\\(_a)\\(_a)\\(_a)\\(_a)\\(_a)\\(_a)\\(_a)\\(_a)\\(_a)\"\n" + strings.Join(tens(8), "") + "mesh: owner: _s8\n"},
		{"harmless laughs", laughs(8, 8)},
		{"laughs", laughs(8, 7) + "mesh: service: _l7\n"},
		{"structural cycle", "#A: {b: #A}\n_a: #A\nmesh: owner: \"\\(len(_a.b))\"\n"},
		{"repeat", "mesh: owner: strings.Repeat(\"x\", 8000000000)\n"},
		{"times", "mesh: owner: \"x\" * 1000000000\n"},
		{"list repeat", "mesh: owner: \"\\(len(list.Repeat([1], 100000000)))\"\n"},
		{"power", "mesh: owner: \"\\(math.Pow(10, 100000000))\"\n"},
		{"harmless exponent", "mesh: owner: \"\\(1e1000000000 + 1)\"\n"},
		{"parentheses", "mesh: owner: " + strings.Repeat("(", 200000) + "\n"},
		{"braces", "mesh: " + strings.Repeat("{a:", 100000) + "\n"},
		{"wide output", "mesh: test: {for i in list.Range(0, 345, 1) {\"\\(strings.Repeat(\"x\", 100000))\\(i)\": {request: to: \"x\", expect: {}}}}\n"},
	}
	exe := worker(t)
	for _, b := range bombs {
		t.Run(b.name, func(t *testing.T) { explode(t, exe, b.text, strings.HasPrefix(b.name, "harmless")) })
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		t.Fatal(err)
	}
	t.Logf("largest child: %d MiB", u.Maxrss>>10)
	if u.Maxrss>>10 > 512 {
		t.Errorf("a child needed %d MiB", u.Maxrss>>10)
	}
}

func tens(n int) []string {
	out := []string{"_s0: _b\n"}
	for i := 1; i <= n; i++ {
		out = append(out, fmt.Sprintf("_s%d: \"%s\"\n", i, strings.Repeat(fmt.Sprintf("\\(_s%d)", i-1), 10)))
	}
	return out
}

func explode(t *testing.T, exe, text string, harmless bool) {
	t.Helper()
	in, err := json.Marshal(map[string][]byte{"bomb/a.cue": []byte(bombHead + text)})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	out, err := sandbox.Run(t.Context(), sandbox.Default(), exe, strings.NewReader(string(in)))
	took := time.Since(start)
	if took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	var e *sandbox.Error
	if errors.As(err, &e) {
		d := e.Diagnostic()
		t.Logf("%v: %v", took.Round(time.Millisecond), d)
		// Encoding the answer belongs to no single package.
		if named := strings.Contains(d.Text, `package "bomb"`); d.Code == diag.CodeSandbox || !named && len(e.Subjects) > 0 {
			t.Errorf("not a clear limit: %v", d)
		}
		return
	}
	var a answer
	if err != nil || json.Unmarshal(out, &a) != nil {
		t.Fatalf("%v %.200s", err, out)
	}
	for _, d := range a.Diags {
		t.Logf("%v: %v", took.Round(time.Millisecond), d)
	}
	if !a.Diags.HasErrors() && !harmless {
		t.Errorf("%v: no error, %d bytes", took, len(out))
	}
}
