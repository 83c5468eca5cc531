package webhook

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler/release"
)

// withTerms is the release of shopOf with what intent lets through.
func withTerms(t *testing.T, terms string) release.Release {
	t.Helper()
	plain := shopOf(t)
	arts := []release.Artifact{{Path: release.EnforcementPath, Bytes: []byte(terms)},
		{Path: "kubernetes/shop/deployment-door.yaml", Bytes: []byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: door, namespace: shop}\nspec: {replicas: 2}\n")}}
	for _, p := range plain.Paths() {
		text, _ := plain.Artifact(p)
		arts = append(arts, release.Artifact{Path: p, Bytes: text})
	}
	made, err := release.Seal(arts, plain.Inputs(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// edit is a question about an object that somebody changes by hand.
func edit(operation, kind, resource, sub, name, object string) string {
	group := ""
	if resource == "deployments" {
		group = "apps"
	}
	return fmt.Sprintf(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u-1","operation":%q,"namespace":"shop","name":%q,"subResource":%q,
		"kind":{"group":%q,"version":"v1","kind":%q},"resource":{"group":%q,"version":"v1","resource":%q},"object":%s,"oldObject":%s}}`,
		operation, name, sub, group, kind, group, resource, object, `{"metadata":{"name":"`+name+`"}}`)
}

// An exemption from "drift" lets the one object that it names be edited by hand, with a
// warning on each edit, until it ends. It lets nothing be deleted, nothing of other
// objects, and nothing that says whom to trust.
func TestBreakGlassIsForOneObjectAndEnds(t *testing.T) {
	const until = "2027-01-10T18:00:00Z"
	terms := `{"exemptions":[{"name":"repair","rules":["drift"],"object":{"kind":"Service","namespace":"shop","name":"web"},"owner":"on-call","reason":"incident 4711","until":"` + until + `"},
		{"name":"scale","rules":["drift"],"object":{"kind":"Deployment","namespace":"shop","name":"door"},"owner":"on-call","reason":"incident 4711","until":"` + until + `"},
		{"name":"roots","rules":["drift"],"object":{"kind":"ConfigMap","namespace":"shop","name":"meshc-roots"},"owner":"nobody","reason":"no compiler writes this","until":"` + until + `"}]}`
	end, err := time.Parse(time.RFC3339, until)
	if err != nil {
		t.Fatal(err)
	}
	now := end
	r := start(t)
	r.c.Now = func() time.Time { return now }
	steps := []release.Step{{Release: withTerms(t, terms)}, {From: end.Add(time.Second), Release: withTerms(t, "{}")}}
	if err := r.take(t.Context(), "0123456789abcdef", mark{}, steps); err != nil {
		t.Fatal(err)
	}
	web := `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},"spec":{"ports":[{"port":81}]}}`
	door := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"door","namespace":"shop"},"spec":{"replicas":2,"paused":true}}`
	cases := map[string]struct{ question, code string }{
		"the object":      {edit("UPDATE", "Service", "services", "", "web", web), "MESH0410"},
		"its creation":    {edit("CREATE", "Service", "services", "", "web", web), "MESH0410"},
		"another kind":    {edit("UPDATE", "Deployment", "deployments", "", "door", door), "MESH0410"},
		"its scale":       {strings.Replace(edit("UPDATE", "Scale", "deployments", "scale", "door", `{"metadata":{"name":"door"},"spec":{"replicas":9}}`), `"group":"apps"`, `"group":"autoscaling"`, 1), "MESH0410"},
		"its deletion":    {strings.Replace(edit("DELETE", "Service", "services", "", "web", "null"), `"object":null`, `"object":null`, 1), "MESH0703"},
		"what is trusted": {edit("UPDATE", "ConfigMap", "configmaps", "", "meshc-roots", `{"metadata":{"name":"meshc-roots"},"data":{}}`), "MESH0709"},
	}
	for name, c := range cases {
		for range 2 {
			a, _, _ := r.ask(t, ValidatePath, c.question)
			said := strings.Join(a.Warnings, " ")
			if !a.Allowed {
				said = a.Result.Message
			}
			if a.Allowed != (c.code == "MESH0410") || !strings.HasPrefix(said, c.code) {
				t.Errorf("%s: %v, %q, want %s", name, a.Allowed, said, c.code)
			}
			if c.code == "MESH0410" && (!strings.Contains(said, `on-call until `+until) || !strings.HasPrefix(a.AuditAnnotations["drift"], "MESH0410")) {
				t.Errorf("%s: nobody is told whose exemption it is: %q, %q", name, said, a.AuditAnnotations)
			}
		}
	}
	if page := r.page(t, "/metrics"); !strings.Contains(page, `meshc_webhook_exempted_total{exemption="scale",rule="drift"} 4`) {
		t.Error("the metrics do not count what was let through")
	}
	if page := r.page(t, "/status"); !strings.Contains(page, `"repair"`) || !strings.Contains(page, until) || !strings.Contains(page, "0123456789abcdef") {
		t.Errorf("the status does not show the exemption: %s", page)
	}
	now = end.Add(time.Second)
	for name, c := range cases {
		if a, _, _ := r.ask(t, ValidatePath, c.question); a.Allowed {
			t.Errorf("%s: let through after the end", name)
		}
	}
	if s := r.Status(); len(s.Enforcement.Exemptions) != 0 || len(s.Ended.Exemptions) != 3 || s.Ended.Exemptions[0].Until != until {
		t.Errorf("the status does not say what has ended: %+v, %+v", s.Enforcement, s.Ended)
	}
	if s := r.Status(); !slices.Contains(s.Kinds, Kind{"apps/v1", "Deployment", "kubernetes"}) || slices.ContainsFunc(s.Kinds, func(k Kind) bool { return k.Kind == "Kustomization" }) {
		t.Errorf("the kinds of the release: %v", s.Kinds)
	}
}
