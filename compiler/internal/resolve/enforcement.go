package resolve

import (
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// readEnforcement reads what the root package lets through in a cluster. Which rules
// there are is not known here: policies are no intent.
func (l *linker) readEnforcement() {
	for _, p := range l.pkgs {
		if !p.root {
			continue
		}
		for _, e := range p.node.Field("rule").Fields() {
			if l.softens(e) && !l.expired(e.Node) {
				l.soften(e)
			}
		}
		for _, e := range p.node.Field("exemption").Fields() {
			if x := exemption(e); l.exempts(x, e.Node) && !l.expired(e.Node) {
				l.exempt(x, e.Node)
			}
		}
	}
	slices.SortFunc(l.terms.Softened, func(a, b release.Softened) int { return strings.Compare(a.Rule, b.Rule) })
	slices.SortFunc(l.terms.Exemptions, func(a, b release.Exemption) int { return strings.Compare(a.Name, b.Name) })
}

func (l *linker) soften(e intent.Entry) {
	s := release.Softened{Rule: e.Name, Severity: e.Node.Field("severity").Str(), Temporary: temporary(e.Node)}
	l.terms.Softened = append(l.terms.Softened, s)
	l.lenient(model.RulePath(e.Name), "rule", s.Severity, s.Temporary, e.Node)
}

func (l *linker) exempt(x release.Exemption, n intent.Node) {
	l.terms.Exemptions = append(l.terms.Exemptions, x)
	l.lenient(model.ExemptionPath(x.Name), "exemption", "", x.Temporary, n)
}

// lenient notes something that is let through, for policies to judge.
func (l *linker) lenient(path, kind, mode string, t release.Temporary, n intent.Node) {
	l.place(path, n.Pos())
	l.exceptions = append(l.exceptions, Exception{Path: path, Kind: kind, Mode: mode, Owner: t.Owner, Reason: t.Reason, Until: t.Until})
}

// temporary reads who answers for something; until is written in UTC, so that one instant
// is one text.
func temporary(n intent.Node) release.Temporary {
	t := release.Temporary{Owner: n.Field("owner").Str(), Reason: n.Field("reason").Str(), Until: n.Field("until").Str()}
	if at, err := time.Parse(time.RFC3339, t.Until); err == nil {
		t.Until = at.UTC().Format(time.RFC3339Nano)
	}
	return t
}

func exemption(e intent.Entry) release.Exemption {
	o := e.Node.Field("object")
	x := release.Exemption{Name: e.Name, Temporary: temporary(e.Node),
		Object: release.Objects{Kind: o.Field("kind").Str(), Namespace: o.Field("namespace").Str(), Name: o.Field("name").Str()}}
	for _, r := range e.Node.Field("rules").List() {
		x.Rules = append(x.Rules, r.Str())
	}
	slices.Sort(x.Rules)
	x.Rules = slices.Compact(x.Rules)
	return x
}

// softens reports whether a rule can be softened for a whole cluster.
func (l *linker) softens(e intent.Entry) bool {
	if e.Name == release.DriftRule {
		l.add(diag.New(diag.CodeExemption, e.Node.Pos(), "the rule %q cannot be softened: anybody could change what was approved, for all objects", e.Name).
			WithFix(`write an exemption for the object to edit: exemption: repair: {rules: ["drift"], object: {…}, …}`))
		return false
	}
	return true
}

// judges are the kinds of objects that say who judges others: whoever may change one
// needs no exemption from anything.
func judges() []string {
	return []string{"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
		"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}
}

// unasked are namespaces about which nobody asks the webhook.
func unasked() []string { return []string{"kube-system", "kube-public", "kube-node-lease"} }

// exempts reports whether an exemption covers something, and nothing that none may.
func (l *linker) exempts(x release.Exemption, n intent.Node) bool {
	drift := slices.Contains(x.Rules, release.DriftRule)
	var d diag.Diagnostic
	switch o := n.Field("object"); {
	case len(x.Rules) == 0:
		d = diag.New(diag.CodeExemption, n.Field("rules").Pos(), "the exemption %q is one from no rule", x.Name).WithFix(`name the rules: rules: ["pod-host-network"]; or delete it`)
	case slices.Contains(judges(), x.Object.Kind):
		d = diag.New(diag.CodeExemption, o.Pos(), "no exemption covers a %s: it says who judges all other objects", x.Object.Kind).WithFix("change the intent, or the webhook's own command line, and leave the object to meshc")
	case x.Object.Kind == "ConfigMap" && x.Object.Cover("ConfigMap", x.Object.Namespace, release.RootsConfigMap, ""):
		d = diag.New(diag.CodeExemption, o.Pos(), "no exemption covers the ConfigMap %q: it says whom pods give their tokens", release.RootsConfigMap).WithFix("leave it to `meshc serve`, which writes it")
	case slices.Contains(unasked(), x.Object.Namespace):
		d = diag.New(diag.CodeExemption, o.Pos(), "the exemption %q covers nothing: the webhook is not asked about namespace %q", x.Name, x.Object.Namespace).WithFix("delete it")
	case drift && strings.HasSuffix(x.Object.Name, "*"):
		d = diag.New(diag.CodeExemption, o.Pos(), "the exemption %q from %q names no single object", x.Name, release.DriftRule).WithFix("write the whole name of the one object that is to be edited by hand")
	default:
		return true
	}
	l.add(d)
	return false
}
