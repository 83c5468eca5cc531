package plan

import (
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
		c.term(Weakening, "rule "+rule, "", path, Change{What: RuleSoftened, Severity: a.Severity, Until: a.Until, Owner: a.Owner, Reason: a.Reason})
	case !is:
		c.term(Neutral, "rule "+rule, path, "", Change{What: RuleRestored})
	default:
		if b.Severity != a.Severity {
			class := Neutral
			if a.Severity == "audit" {
				class = Weakening
			}
			c.term(class, "rule "+rule, path, path, moved(RuleSeverity, b.Severity, a.Severity))
		}
		c.temporary("rule "+rule, path, b.Temporary, a.Temporary)
	}
}

func (c *comparison) exemption(name string, b, a *release.Exemption) {
	path, scope := model.ExemptionPath(name), "exemption "+name
	if b == nil || a == nil || b.Object != a.Object {
		if b != nil {
			c.term(Neutral, scope, path, ifSide(a != nil, path), Change{What: ExemptionGone, Object: b.Object.String()})
		}
		if a != nil {
			for _, rule := range a.Rules {
				c.term(Weakening, scope, ifSide(b != nil, path), path, Change{What: lets(rule, ExemptionNew, BreakGlassNew), Object: a.Object.String(), Rule: rule, Until: a.Until, Owner: a.Owner, Reason: a.Reason})
			}
		}
		return
	}
	for _, rule := range without(a.Rules, b.Rules) {
		c.term(Weakening, scope, path, path, Change{What: lets(rule, ExemptionRule, BreakGlassRule), Object: a.Object.String(), Rule: rule})
	}
	for _, rule := range without(b.Rules, a.Rules) {
		c.term(Neutral, scope, path, path, Change{What: ExemptionEnds, Object: b.Object.String(), Rule: rule})
	}
	c.temporary(scope, path, b.Temporary, a.Temporary)
}

// lets is what an exemption from a rule is, of two: from the one that keeps objects as the
// release has them, it allows edits by hand.
func lets(rule string, exempt, breakGlass What) What {
	if rule == release.DriftRule {
		return breakGlass
	}
	return exempt
}

// temporary compares who answers for something and until when.
func (c *comparison) temporary(scope, path string, b, a release.Temporary) {
	if b.Until != a.Until {
		class, says := Neutral, Change{What: Shortened, Before: []string{b.Until}, After: []string{a.Until}, Owner: a.Owner, Reason: a.Reason}
		if later(b.Until, a.Until) {
			class, says.What = Weakening, Prolonged
		}
		c.term(class, scope, path, path, says)
	}
	if b.Owner != a.Owner {
		c.term(Neutral, scope, path, path, moved(Owner, b.Owner, a.Owner))
	}
}

// term adds a piece about a rule or an exemption; an empty path leaves the side out.
func (c *comparison) term(class Class, scope, before, after string, says Change) {
	p := piece{class: class, kind: KindRule, scope: scope, says: says}
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
