package guard

import (
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/policies"
)

// pod is a pod of the mesh's account shop/web.
func pod(spec map[string]any) Object {
	spec["serviceAccountName"] = "web"
	return Object{
		Operation: "CREATE", Version: "v1", Kind: "Pod", Namespace: "shop", Name: "web-1",
		New: map[string]any{"metadata": map[string]any{"name": "web-1"}, "spec": spec}, Mesh: NewKnown([]string{"shop/web"}, []string{"shop"}),
		At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
	}
}

func TestObjectsAreJudgedByTheirOwnRules(t *testing.T) {
	e, problems := New(t.Context(), policies.FS, user("mine.rego", `package meshc.object.mine

import rego.v1

findings contains {"id": "no-latest", "path": "spec", "severity": "warn", "msg": "an image without a digest", "fix": "pin it"} if {
	some c in input.object.spec.containers
	endswith(c.image, ":latest")
}
`))
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	for name, c := range map[string]struct {
		spec map[string]any
		want []string
	}{
		"plain":         {map[string]any{}, nil},
		"host network":  {map[string]any{"hostNetwork": true}, []string{"MESH0401: [pod-host-network]"}},
		"a user's rule": {map[string]any{"containers": []any{map[string]any{"image": "x:latest"}}}, []string{"MESH0402: [no-latest]"}},
	} {
		res, err := e.CheckObject(t.Context(), pod(c.spec))
		if err != nil || res.Evaluated != res.Total || res.Total != e.Objects() || len(res.Findings) != len(c.want) {
			t.Errorf("%s: %+v, %v", name, res, err)
			continue
		}
		for i, want := range c.want {
			if got := res.Findings[i]; !strings.Contains(string(got.Code)+": "+got.Text, want) {
				t.Errorf("%s: %v, want %q", name, got, want)
			}
		}
	}
}

func TestAnObjectPolicyWithoutAnAnswerDenies(t *testing.T) {
	e, problems := New(t.Context(), policies.FS, user("mine.rego", `package meshc.object.mine

import rego.v1

findings := x if x := input.object.spec.nowhere
`))
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	res, err := e.CheckObject(t.Context(), pod(map[string]any{}))
	if err != nil || !res.Findings.HasErrors() || res.Findings[0].Code != diag.CodePolicyFailed || res.Evaluated != res.Total-1 {
		t.Errorf("%+v, %v", res, err)
	}
}
