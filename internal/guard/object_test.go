package guard

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/policies"
)

// pod is a pod of the mesh's account shop/web.
func pod(t *testing.T, spec map[string]any) Object {
	t.Helper()
	known, err := NewKnown(Knowledge{Accounts: []string{"shop/web"}, Namespaces: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	spec["serviceAccountName"] = "web"
	return Object{
		Operation: "CREATE", Version: "v1", Kind: "Pod", Namespace: "shop", Name: "web-1",
		New: map[string]any{"metadata": map[string]any{"name": "web-1"}, "spec": spec}, Mesh: known,
		At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
	}
}

func TestObjectsAreJudgedByTheirOwnRules(t *testing.T) {
	e, problems := New(t.Context(), policies.FS, user("mine.rego", `package meshc.object.mine

import rego.v1

# METADATA
# title: no-latest
# custom:
#   id: no-latest
#   severity: warn
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
		res, err := e.CheckObject(t.Context(), pod(t, c.spec), ObjectTimeout)
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

# METADATA
# custom: {id: nowhere, severity: deny}
findings := x if x := input.object.spec.nowhere
`))
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	res, err := e.CheckObject(t.Context(), pod(t, map[string]any{}), ObjectTimeout)
	if err != nil || !res.Findings.HasErrors() || res.Findings[0].Code != diag.CodePolicyFailed || res.Evaluated != res.Total-1 {
		t.Errorf("%+v, %v", res, err)
	}
}

// objectRule is a policy over objects with one rule, whose findings have the id "x".
func objectRule(metadata, body string) string {
	return "package meshc.object.mine\n\n# METADATA\n# " + metadata + "\nfindings contains {\"id\": \"x\", \"path\": \"p\", \"msg\": \"m\"} if {\n\t" + body + "\n}\n"
}

func TestARuleOverObjectsSaysWhoItIs(t *testing.T) {
	const always = `input.kind == "Pod"`
	for metadata, says := range map[string]string{
		"title: nothing else":                            "does not declare its id",
		"custom: {id: X, severity: deny}":                "small letters",
		"custom: {id: a--b, severity: deny}":             "small letters",
		"custom: {id: drift, severity: deny}":            "meshc's own",
		"custom: {id: x}":                                "none of deny, warn, audit",
		"custom: {id: x, severity: fatal}":               "none of deny, warn, audit",
		"custom: {id: pod-host-network, severity: deny}": `declared in package "meshc.object.pods"`,
	} {
		e, problems := New(t.Context(), policies.FS, user("mine.rego", objectRule(metadata, always)))
		if e != nil || len(problems) != 1 || problems[0].Code != diag.CodePolicyRule || problems[0].Pos.Line != 5 || !strings.Contains(problems[0].Text, says) {
			t.Errorf("%s: %v, want %q at line 5", metadata, problems, says)
		}
	}
	for severity, code := range map[Severity]diag.Code{Deny: diag.CodePolicyDenied, Warn: diag.CodePolicyWarned, Audit: diag.CodePolicyNoted} {
		e, problems := New(t.Context(), policies.FS, user("mine.rego", objectRule("custom: {id: x, severity: "+string(severity)+"}", always)))
		if problems.HasErrors() {
			t.Fatal(problems)
		}
		if r, ok := e.Rule("x"); !ok || r.Severity != severity || r.Shipped || r.Pos.Line != 5 {
			t.Errorf("the engine knows %+v", r)
		}
		res, err := e.CheckObject(t.Context(), pod(t, map[string]any{}), ObjectTimeout)
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != code || res.Findings.HasErrors() != (severity == Deny) {
			t.Errorf("%s: %+v, %v", severity, res, err)
		}
	}
}

// What a rule finds under another name or severity could escape those who soften it.
func TestAFindingIsItsRules(t *testing.T) {
	for name, text := range map[string]string{
		"another id":       objectRule("custom: {id: y, severity: deny}", `input.kind == "Pod"`),
		"another severity": strings.Replace(objectRule("custom: {id: x, severity: deny}", `input.kind == "Pod"`), `"path"`, `"severity": "audit", "path"`, 1),
	} {
		e, problems := New(t.Context(), policies.FS, user("mine.rego", text))
		if problems.HasErrors() {
			t.Fatal(problems)
		}
		res, err := e.CheckObject(t.Context(), pod(t, map[string]any{}), ObjectTimeout)
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != diag.CodePolicyFailed {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}

// What rules see of an object is what its JSON text says.
func TestAnObjectIsSeenAsItsJSON(t *testing.T) {
	o := Object{
		Operation: "UPDATE", Group: "g", Version: "v1", Kind: "K", Subresource: "scale", Namespace: "n", Name: "x\"y", User: "u", Groups: []string{"a", "b"},
		At: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		New: map[string]any{
			"text": "a\nb<c>é", "yes": true, "none": nil, "whole": int64(-1 << 53), "float": 0.25, "large": 1e300, "said": json.Number("1.50"), "plain": 7,
			"list": []any{int64(1), "x", []any{}, map[string]any{}}, "words": []string{"p"}, "nested": map[string]any{"": map[string]any{"k": false}},
		},
	}
	got, err := o.value()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{
		"operation": o.Operation, "group": o.Group, "version": o.Version, "kind": o.Kind, "subresource": o.Subresource, "namespace": o.Namespace, "name": o.Name,
		"object": o.New, "old": map[string]any{}, "user": map[string]any{"name": o.User, "groups": o.Groups}, "at": "2026-01-02T03:04:05.000000006Z",
		"mesh": knowsNothing(),
	})
	if err != nil {
		t.Fatal(err)
	}
	want, err := decodedObject(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got.Compare(want) != 0 || got.String() != want.String() {
		t.Errorf("rules see\n%v\nthe JSON says\n%v", got, want)
	}
}

// knowsNothing is input.mesh of a mesh that knows nothing.
func knowsNothing() map[string]any {
	return map[string]any{
		"accounts": []any{}, "namespaces": []any{}, "injected": []any{}, "image": "",
		"services": map[string]any{}, "gateways": map[string]any{}, "selected": map[string]any{}, "hosts": map[string]any{}, "objects": map[string]any{},
	}
}
