package guard

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/types"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/policies"
)

// An evaluation that a function does not let end is left behind; while two of a policy
// run, that policy denies at once and all others are asked as before. Policies have no
// such function that is known: the test brings one.
func TestWhatCannotBeStoppedCostsNoOtherItsTime(t *testing.T) {
	e, problems := New(t.Context(), policies.FS, user("mine.rego", objectRule("custom: {id: x, severity: deny}", `input.kind == "Never"`)))
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	release := make(chan struct{})
	var ran atomic.Int32
	q, err := rego.New(rego.Query("stuck(1)"), rego.Function1(&rego.Function{Name: "stuck", Decl: types.NewFunction(types.Args(types.N), types.A)},
		func(rego.BuiltinContext, *ast.Term) (*ast.Term, error) {
			ran.Add(1)
			<-release
			return ast.NewTerm(ast.NewSet()), nil
		})).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e.objects = append(e.objects, policy{pkg: "meshc.object.stuck", query: q, rules: map[string]Rule{}})
	ask := func() diag.Diagnostic {
		t.Helper()
		// More than all others need on a busy machine: the one that is stuck uses it up.
		res, err := e.CheckObject(context.Background(), pod(t, map[string]any{}), 3*time.Second)
		if err != nil || len(res.Findings) != 1 || res.Evaluated != res.Total-1 {
			t.Fatalf("%+v, %v", res, err)
		}
		return res.Findings[0]
	}
	for range maxLeft {
		if d := ask(); d.Code != diag.CodePolicyBudget || !strings.Contains(d.Text, "was not done") {
			t.Errorf("left behind: %v", d)
		}
	}
	for range 3 {
		if d := ask(); d.Code != diag.CodePolicyBudget || !strings.Contains(d.Text, "is not asked") {
			t.Errorf("while they run: %v", d)
		}
	}
	if n := ran.Load(); n != maxLeft {
		t.Errorf("%d evaluations run, of at most %d", n, maxLeft)
	}
	if number, pkg := e.Stuck(); number != 1 || pkg != "meshc.object.stuck" {
		t.Errorf("stuck is evaluation %d of %q", number, pkg)
	}
	close(release)
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if number, _ := e.Stuck(); number == 0 {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatal("what has ended is still counted")
		}
	}
	res, err := e.CheckObject(context.Background(), pod(t, map[string]any{}), time.Minute)
	if err != nil || res.Evaluated != res.Total {
		t.Errorf("it is not asked again: %+v, %v", res, err)
	}
}
