package guard

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"

	"meshc.dev/meshc/internal/diag"
)

// testTimeout bounds one Rego test.
const testTimeout = 10 * time.Second

// Tested is what became of the Rego tests of a set of policies.
type Tested struct {
	// Cases are sorted by file and line.
	Cases []TestCase `json:"cases"`
	// Files are the policies, sorted by name, without tests.
	Files []Coverage `json:"files"`
	// Lines and Covered count those of all files.
	Lines   int `json:"lines"`
	Covered int `json:"covered"`
}

// TestCase is one rule test_….
type TestCase struct {
	Package string   `json:"package"`
	Name    string   `json:"name"`
	Pos     diag.Pos `json:"pos"`
	// Failure says why it did not pass, "" if it did.
	Failure string `json:"failure,omitempty"`
	// Output is what it printed.
	Output string `json:"output,omitempty"`
}

// Coverage is which lines of a policy the tests ran.
type Coverage struct {
	File    string `json:"file"`
	Lines   int    `json:"lines"`
	Covered int    `json:"covered"`
	// Missed are the first lines of what no test ran, sorted.
	Missed []int `json:"missed,omitempty"`
}

// Failed is the number of cases that did not pass.
func (t Tested) Failed() int {
	n := 0
	for _, c := range t.Cases {
		if c.Failure != "" {
			n++
		}
	}
	return n
}

// Percent is the share of lines that tests ran, rounded down: 100 is all of them.
func (t Tested) Percent() int {
	if t.Lines == 0 {
		return 0
	}
	return 100 * t.Covered / t.Lines
}

// Test runs the Rego tests (*_test.rego) of a user's policies, which may use what the
// shipped policies share. Policies that New refuses are not tested, and their problems
// are returned; so are those of test files. That there is no policy is such a problem,
// that there is no test is not.
func Test(ctx context.Context, baseline, user fs.FS) (Tested, diag.List) {
	if _, problems := New(ctx, baseline, user); problems.HasErrors() {
		return Tested{}, problems
	}
	base, _ := read("baseline", baseline)
	own, _ := read(userSet, user)
	tests, problems := readTests(user, own)
	if problems.HasErrors() {
		return Tested{}, problems.Sorted()
	}
	modules := map[string]*ast.Module{}
	for name, m := range base.files {
		modules["shipped/"+name] = m
	}
	maps.Copy(modules, own.files)
	maps.Copy(modules, tests)
	return runTests(ctx, modules, own.files)
}

// readTests parses the tests beside policies. A test's package is that of a policy, or is
// called like one with _test behind it: a misspelt one would be about nothing.
func readTests(fsys fs.FS, own source) (map[string]*ast.Module, diag.List) {
	tests := source{label: "tests", files: map[string]*ast.Module{}, digests: map[string]string{}}
	var problems diag.List
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, "_test.rego") {
			return err
		}
		if !d.Type().IsRegular() {
			problems = append(problems, diag.New(diag.CodePolicyInvalid, diag.Pos{File: name}, "test %q is no regular file", name).WithFix("put the test's text into the folder; links are not followed"))
			return nil
		}
		problems = append(problems, tests.add(fsys, name)...)
		return nil
	})
	if err != nil {
		problems = append(problems, diag.New(diag.CodePolicyInvalid, diag.Pos{}, "reading tests: %v", err).WithFix("make the policy folder readable"))
	}
	packages := map[string]bool{}
	for _, m := range own.files {
		packages[packageOf(m)] = true
	}
	for name, m := range tests.files {
		pkg := packageOf(m)
		if packages[pkg] || packages[strings.TrimSuffix(pkg, "_test")] {
			continue
		}
		d := diag.New(diag.CodePolicyPackage, diag.Pos{File: name, Line: m.Package.Location.Row, Col: m.Package.Location.Col}, "package %q of a test is that of no policy", pkg).
			WithFix("write: package <the policy's>_test")
		if near, ok := diag.Nearest(strings.TrimSuffix(pkg, "_test"), slices.Sorted(maps.Keys(packages))); ok {
			d = d.WithFix("write: package %s_test", near)
		}
		problems = append(problems, d)
	}
	return tests.files, problems
}

// runTests runs all tests, with the built-in functions that policies have.
func runTests(ctx context.Context, modules, own map[string]*ast.Module) (Tested, diag.List) {
	tracer := cover.New()
	//nolint:staticcheck // as for policies
	compiler := ast.NewCompiler().WithStrict(true).WithCapabilities(capabilities()).WithUnsafeBuiltins(forbidden()).
		WithDefaultRegoVersion(ast.RegoV1).WithEnablePrintStatements(true)
	runner := tester.NewRunner().SetDefaultRegoVersion(ast.RegoV1).SetModules(modules).SetCompiler(compiler).
		RaiseBuiltinErrors(true).CapturePrintOutput(true).SetTimeout(testTimeout).SetCoverageQueryTracer(tracer)
	results, err := runner.RunTests(ctx, nil)
	if err != nil {
		return Tested{}, regoErrors(err)
	}
	var out Tested
	for r := range results {
		out.Cases = append(out.Cases, testCase(r))
	}
	slices.SortFunc(out.Cases, func(a, b TestCase) int {
		if c := a.Pos.Compare(b.Pos); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	report := tracer.Report(own)
	for _, name := range slices.Sorted(maps.Keys(own)) {
		f := report.Files[name]
		if f == nil {
			continue
		}
		c := Coverage{File: name, Lines: f.CoveredLines + f.NotCoveredLines, Covered: f.CoveredLines}
		for _, r := range f.NotCovered {
			c.Missed = append(c.Missed, r.Start.Row)
		}
		out.Files = append(out.Files, c)
		out.Lines, out.Covered = out.Lines+c.Lines, out.Covered+c.Covered
	}
	return out, nil
}

func testCase(r *tester.Result) TestCase {
	c := TestCase{Package: strings.TrimPrefix(r.Package, "data."), Name: r.Name, Output: cut(strings.TrimSpace(string(r.Output)))}
	if r.Location != nil {
		c.Pos = diag.Pos{File: r.Location.File, Line: r.Location.Row, Col: r.Location.Col}
	}
	switch {
	case r.Skip:
		c.Failure = "it is a todo_test, which does not run"
	case r.Error != nil:
		c.Failure = cut(r.Error.Error())
	case r.Fail && r.FailedAt != nil:
		c.Failure = "it is not true: " + cut(strings.TrimSpace(string(r.FailedAt.Location.Text)))
	case r.Fail:
		c.Failure = "it is not true"
	}
	return c
}
