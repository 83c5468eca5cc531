package guard

import (
	"strings"
	"testing"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/policies"
)

// What intent softens or exempts is let through and told; everything else is as the rule
// declares.
func TestIntentSoftensAndExempts(t *testing.T) {
	answers := release.Temporary{Owner: "platform", Reason: "old images", Until: "2027-01-10T18:00:00Z"}
	exempt := func(name string, rules ...string) release.Enforcement {
		return release.Enforcement{Exemptions: []release.Exemption{{Name: "agents", Rules: rules, Temporary: answers,
			Object: release.Objects{Kind: "Pod", Namespace: "shop", Name: name}}}}
	}
	soften := func(rule, severity string) release.Enforcement {
		return release.Enforcement{Softened: []release.Softened{{Rule: rule, Severity: severity, Temporary: answers}}}
	}
	type want struct {
		code diag.Code
		says string
	}
	denied := want{diag.CodePolicyDenied, "[pod-host-network]"}
	for name, c := range map[string]struct {
		declared Severity
		terms    release.Enforcement
		pod      string // its name; one that ends in - is what a name is made from
		want
	}{
		"nothing said":            {Deny, release.Enforcement{}, "web-1", denied},
		"warns":                   {Deny, soften("pod-host-network", "warn"), "web-1", want{diag.CodePolicyWarned, "denied after 2027-01-10T18:00:00Z: [pod-host-network]"}},
		"audits":                  {Deny, soften("pod-host-network", "audit"), "web-1", want{diag.CodePolicyNoted, "(platform: old images)"}},
		"another rule":            {Deny, soften("pod-net-admin", "warn"), "web-1", denied},
		"a stricter word":         {Audit, soften("x", "warn"), "web-1", want{diag.CodePolicyNoted, "[x]"}},
		"a softer word":           {Warn, soften("x", "audit"), "web-1", want{diag.CodePolicyNoted, "warned of after"}},
		"exempt":                  {Deny, exempt("web-1", "pod-host-network"), "web-1", want{diag.CodeExempted, `exemption "agents" of platform until 2027-01-10T18:00:00Z lets through: [pod-host-network]`}},
		"exempt by beginning":     {Deny, exempt("web-*", "pod-host-network"), "web-1", want{diag.CodeExempted, "old images"}},
		"exempt before a name":    {Deny, exempt("web-*", "pod-host-network"), "web-7d9f-", want{diag.CodeExempted, ""}},
		"another name":            {Deny, exempt("web-2", "pod-host-network"), "web-1", denied},
		"a beginning of a name":   {Deny, exempt("web", "pod-host-network"), "web-1", denied},
		"one name, made later":    {Deny, exempt("web-1", "pod-host-network"), "web-", denied},
		"a longer beginning":      {Deny, exempt("web-agent-*", "pod-host-network"), "web-", denied},
		"exempt from another":     {Deny, exempt("web-1", "pod-net-admin"), "web-1", denied},
		"exempt from what audits": {Audit, exempt("web-1", "x"), "web-1", want{diag.CodeExempted, ""}},
	} {
		own := `input.kind == "Never"`
		spec := map[string]any{"hostNetwork": true}
		if strings.Contains(c.says, "[x]") || c.declared != Deny {
			own, spec = `input.kind == "Pod"`, map[string]any{}
		}
		e, problems := New(t.Context(), policies.FS, user("mine.rego", objectRule("custom: {id: x, severity: "+string(c.declared)+"}", own)))
		if problems.HasErrors() {
			t.Fatal(problems)
		}
		o := pod(t, spec)
		o.Enforcement, o.Name = c.terms, c.pod
		if strings.HasSuffix(c.pod, "-") {
			o.Name, o.New["metadata"] = "", map[string]any{"generateName": c.pod}
		}
		res, err := e.CheckObject(t.Context(), o, ObjectTimeout)
		if err != nil || len(res.Findings) != 1 || len(res.Found) != 1 {
			t.Errorf("%s: %+v, %v", name, res, err)
			continue
		}
		d := res.Findings[0]
		if d.Code != c.code || !strings.Contains(d.Text, c.says) || d.IsError() != (c.code == diag.CodePolicyDenied) || (res.Found[0].Exemption != "") != (c.code == diag.CodeExempted) {
			t.Errorf("%s: %v, want %s with %q", name, d, c.code, c.says)
		}
		if c.declared == Audit && d.Severity != diag.Note {
			t.Errorf("%s: what is only noted is told as %s", name, d.Severity)
		}
	}
}

// An exemption is for objects of one kind in one namespace, and never for a policy that
// gave no answer.
func TestAnExemptionIsNarrow(t *testing.T) {
	pods := release.Objects{Kind: "Pod", Namespace: "shop", Name: "agent-*"}
	for _, other := range [][3]string{{"Service", "shop", "agent-1"}, {"Pod", "shop2", "agent-1"}, {"Pod", "", "agent-1"}, {"Pod", "shop", "agent"}} {
		if pods.Cover(other[0], other[1], other[2], "") {
			t.Errorf("%s covers %v", pods, other)
		}
	}
	if !pods.Cover("Pod", "shop", "agent-1", "") || !pods.Cover("Pod", "shop", "agent-", "") || pods.Cover("Pod", "shop", "", "") {
		t.Errorf("%s does not cover what it names, or covers what has no name", pods)
	}
	e, problems := New(t.Context(), policies.FS, user("mine.rego", strings.Replace(objectRule("custom: {id: x, severity: deny}", `input.kind == "Pod"`), `"path"`, `"nonsense"`, 1)))
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	o := pod(t, map[string]any{})
	o.Enforcement.Exemptions = []release.Exemption{{Name: "all", Rules: []string{"x"}, Object: release.Objects{Kind: "Pod", Namespace: "shop", Name: "web-1"}}}
	if res, err := e.CheckObject(t.Context(), o, ObjectTimeout); err != nil || !res.Findings.HasErrors() || res.Findings[0].Code != diag.CodePolicyFailed {
		t.Errorf("%+v, %v", res, err)
	}
}
