package plan

import (
	"fmt"
	"time"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/release"
)

// enforcement compares what is let through in a cluster although rules refuse it. More of
// it, or for longer, is a weakening, whatever its reason; less is neutral: what it let
// through then is no business of the mesh's.
func (c *comparison) enforcement(before, after release.Enforcement) {
	rules := map[string]bool{}
	for _, e := range []release.Enforcement{before, after} {
		for _, s := range e.Softened {
			rules[s.Rule] = true
		}
	}
	for _, rule := range sortedKeys(rules) {
		b, was := before.Softens(rule)
		a, is := after.Softens(rule)
		c.softened(rule, b, a, was, is)
	}
	names := map[string]bool{}
	old, fresh := exemptions(before, names), exemptions(after, names)
	for _, name := range sortedKeys(names) {
		c.exemption(name, old[name], fresh[name])
	}
}

func exemptions(e release.Enforcement, names map[string]bool) map[string]*release.Exemption {
	out := map[string]*release.Exemption{}
	for i := range e.Exemptions {
		out[e.Exemptions[i].Name] = &e.Exemptions[i]
		names[e.Exemptions[i].Name] = true
	}
	return out
}

// does words a severity.
func does(severity string) string {
	if severity == "audit" {
		return "only notes what it finds"
	}
	return "only warns"
}

func (c *comparison) softened(rule string, b, a release.Softened, was, is bool) {
	path := model.RulePath(rule)
	switch {
	case !was:
		c.term(Weakening, "rule "+rule, "", path, "%s until %s (%s: %s)", does(a.Severity), a.Until, a.Owner, a.Reason)
	case !is:
		c.term(Neutral, "rule "+rule, path, "", "does what it declares again")
	default:
		if b.Severity != a.Severity {
			class := Neutral
			if a.Severity == "audit" {
				class = Weakening
			}
			c.term(class, "rule "+rule, path, path, "%s → %s", does(b.Severity), does(a.Severity))
		}
		c.temporary("rule "+rule, path, b.Temporary, a.Temporary)
	}
}

func (c *comparison) exemption(name string, b, a *release.Exemption) {
	path, scope := model.ExemptionPath(name), "exemption "+name
	if b == nil || a == nil || b.Object != a.Object {
		if b != nil {
			c.term(Neutral, scope, path, ifSide(a != nil, path), "no longer lets %s through", b.Object)
		}
		if a != nil {
			for _, rule := range a.Rules {
				c.term(Weakening, scope, ifSide(b != nil, path), path, "%s until %s (%s: %s)", lets(rule, a.Object), a.Until, a.Owner, a.Reason)
			}
		}
		return
	}
	for _, rule := range without(a.Rules, b.Rules) {
		c.term(Weakening, scope, path, path, "%s as well", lets(rule, a.Object))
	}
	for _, rule := range without(b.Rules, a.Rules) {
		c.term(Neutral, scope, path, path, "no longer exempts %s from rule %s", b.Object, rule)
	}
	c.temporary(scope, path, b.Temporary, a.Temporary)
}

// lets words what an exemption from a rule allows.
func lets(rule string, o release.Objects) string {
	if rule == release.DriftRule {
		return fmt.Sprintf("break-glass: lets %s be edited by hand", o)
	}
	return fmt.Sprintf("exempts %s from rule %s", o, rule)
}

// temporary compares who answers for something and until when.
func (c *comparison) temporary(scope, path string, b, a release.Temporary) {
	if b.Until != a.Until {
		class, word := Neutral, "shortened"
		if later(b.Until, a.Until) {
			class, word = Weakening, "prolonged"
		}
		c.term(class, scope, path, path, "%s: until %s → %s (%s: %s)", word, b.Until, a.Until, a.Owner, a.Reason)
	}
	if b.Owner != a.Owner {
		c.term(Neutral, scope, path, path, "owner %s → %s", b.Owner, a.Owner)
	}
}

// term adds a piece about a rule or an exemption; an empty path leaves the side out.
func (c *comparison) term(class Class, scope, before, after, format string, args ...any) {
	p := piece{class: class, kind: KindRule, scope: scope, name: scope, change: fmt.Sprintf(format, args...)}
	if before != "" {
		p.before = []space.Origin{space.Origin(before)}
	}
	if after != "" {
		p.after = []space.Origin{space.Origin(after)}
	}
	c.add(p)
}

func ifSide(there bool, path string) string {
	if !there {
		return ""
	}
	return path
}

// later reports whether the instant b is after a. What cannot be read is later.
func later(a, b string) bool {
	s, err := time.Parse(time.RFC3339, a)
	if err != nil {
		return true
	}
	t, err := time.Parse(time.RFC3339, b)
	return err != nil || t.After(s)
}
