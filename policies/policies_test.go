package policies_test

import (
	"context"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"

	"meshc.dev/meshc/policies"
)

func modules(t *testing.T) map[string]*ast.Module {
	t.Helper()
	files, err := fs.Glob(policies.FS, "baseline/*.rego")
	if err != nil || len(files) == 0 {
		t.Fatalf("no policy is embedded: %v", err)
	}
	out := map[string]*ast.Module{}
	for _, f := range files {
		raw, err := fs.ReadFile(policies.FS, f)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ast.ParseModuleWithOpts(f, string(raw), ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true})
		if err != nil {
			t.Fatal(err)
		}
		out[f] = m
	}
	return out
}

// The rules' own tests pass, and together run every line of every rule.
func TestRulesPassTheirTestsAndAreCovered(t *testing.T) {
	mods := modules(t)
	tracer := cover.New()
	runner := tester.NewRunner().SetDefaultRegoVersion(ast.RegoV1).SetModules(mods).
		SetCompiler(ast.NewCompiler().WithStrict(true).WithDefaultRegoVersion(ast.RegoV1)).
		RaiseBuiltinErrors(true).SetTimeout(10 * time.Second).SetCoverageQueryTracer(tracer)
	results, err := runner.RunTests(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for r := range results {
		ran++
		if !r.Pass() || r.Skip {
			t.Errorf("%s: %s.%s did not pass: %v", r.Location, r.Package, r.Name, r.Error)
		}
	}
	if ran < 30 {
		t.Errorf("only %d Rego tests ran", ran)
	}
	report := tracer.Report(mods)
	for file, r := range report.Files {
		if len(r.NotCovered) > 0 {
			t.Errorf("%s: lines without a test: %v", file, r.NotCovered)
		}
	}
	if report.Coverage != 100 {
		t.Errorf("coverage is %v %%, want 100", report.Coverage)
	}
}

// Every rule file has tests of both verdicts, and every finding says who it is.
func TestEveryRuleHasADenyAndAnAllowCase(t *testing.T) {
	mods := modules(t)
	seen := map[string]string{}
	for file, m := range mods {
		if strings.HasSuffix(file, "_test.rego") || strings.Contains(m.Package.Path.String(), "meshc.lib.") {
			continue
		}
		beside, ok := mods[strings.TrimSuffix(file, ".rego")+"_test.rego"]
		if !ok {
			t.Errorf("%s has no tests beside it", file)
			continue
		}
		for _, kind := range []string{"test_deny", "test_allow"} {
			found := false
			for _, r := range beside.Rules {
				found = found || strings.HasPrefix(string(r.Head.Name), kind) || strings.HasPrefix(r.Head.Ref().String(), kind)
			}
			if !found {
				t.Errorf("%s: no %s… case", file, kind)
			}
		}
		checkAnnotations(t, path.Base(file), m, seen)
	}
	if len(seen) < 4 {
		t.Errorf("only %d rules found: %v", len(seen), seen)
	}
}

// checkAnnotations wants a title, an id and a severity on every rule "findings".
func checkAnnotations(t *testing.T, file string, m *ast.Module, seen map[string]string) {
	t.Helper()
	form := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	for _, r := range m.Rules {
		if r.Head.Ref().String() != "findings" && string(r.Head.Name) != "findings" {
			continue
		}
		if len(r.Annotations) != 1 || r.Annotations[0].Title == "" {
			t.Errorf("%s:%d: rule without METADATA and title", file, r.Location.Row)
			continue
		}
		id, _ := r.Annotations[0].Custom["id"].(string)
		if sev := r.Annotations[0].Custom["severity"]; !form.MatchString(id) || (sev != "deny" && sev != "warn" && sev != "audit") {
			t.Errorf("%s:%d: id %q, severity %v", file, r.Location.Row, id, sev)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%s:%d: id %q stands in %s as well", file, r.Location.Row, id, other)
		}
		seen[id] = file
	}
}
