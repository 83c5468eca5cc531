package guard

import (
	"cmp"
	"regexp"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// Severity is what becomes of what a rule finds.
type Severity string

// The severities, the strictest first.
const (
	// Deny: it is refused.
	Deny Severity = "deny"
	// Warn: it is let through, and whoever asked is told.
	Warn Severity = "warn"
	// Audit: it is let through, and only noted.
	Audit Severity = "audit"
)

// severities are all, the strictest first.
func severities() []Severity { return []Severity{Deny, Warn, Audit} }

// Softer reports whether s lets through more than t, or tells less.
func (s Severity) Softer(t Severity) bool {
	return slices.Index(severities(), s) > slices.Index(severities(), t)
}

// Rule is a rule over objects, as its METADATA declares it: intent names it by its ID.
type Rule struct {
	ID       string   `json:"id"`
	Title    string   `json:"title"`
	Severity Severity `json:"severity"`
	// Package is the evaluated package that it lies in.
	Package string `json:"package"`
	// Shipped says that it comes with meshc. Pos is zero then.
	Shipped bool     `json:"shipped"`
	Pos     diag.Pos `json:"pos,omitzero"`
}

// Drift is the rule that is not written in Rego: an object of the release must be what
// the release says.
func Drift() Rule {
	return Rule{ID: release.DriftRule, Title: "Objects of the release are what the release says", Severity: Deny, Shipped: true}
}

// ruleID is the form of a rule's ID: it stands in metrics, in annotations of audit events
// and in intent.
var ruleID = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// maxID bounds an ID; with the webhook's name it is a key of an audit event's annotation.
const maxID = 63

// declarations are the rules over objects of all sets. Each has METADATA with its ID and
// severity; an ID belongs to one package.
func declarations(sets []source) ([]Rule, diag.List) {
	known := map[string]Rule{}
	var problems diag.List
	for _, s := range sets {
		for _, name := range s.names() {
			for _, r := range entries(s.files[name]) {
				rule, problem := declaration(name, packageOf(s.files[name]), r)
				rule.Shipped = s.label != userSet
				if other, ok := known[rule.ID]; ok && problem == nil {
					problem = conflict(rule, other)
				}
				if problem != nil {
					problems = append(problems, *problem)
					continue
				}
				known[rule.ID] = rule
			}
		}
	}
	out := make([]Rule, 0, len(known))
	for _, r := range known {
		if r.Shipped {
			r.Pos = diag.Pos{}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Rule) int { return cmp.Compare(a.ID, b.ID) })
	return out, problems
}

// entries are the rules of a policy over objects that add to its findings.
func entries(m *ast.Module) []*ast.Rule {
	if !under(packageOf(m), objectRoot) {
		return nil
	}
	var out []*ast.Rule
	for _, r := range m.Rules {
		if isEntry(r) && !r.Default {
			out = append(out, r)
		}
	}
	return out
}

// declaration reads the METADATA of one rule.
func declaration(file, pkg string, r *ast.Rule) (Rule, *diag.Diagnostic) {
	rule := Rule{Package: pkg, Pos: diag.Pos{File: file, Line: r.Location.Row, Col: r.Location.Col}}
	for _, a := range r.Annotations {
		if id, ok := a.Custom["id"].(string); ok {
			severity, _ := a.Custom["severity"].(string)
			rule.ID, rule.Title, rule.Severity = id, a.Title, Severity(severity)
		}
	}
	wrong := func(format string, args ...any) (Rule, *diag.Diagnostic) {
		d := diag.New(diag.CodePolicyRule, rule.Pos, format, args...).WithFix("write METADATA above it, with a title and `custom: {id: my-rule, severity: deny}` (or warn, or audit)")
		return rule, &d
	}
	switch {
	case rule.ID == "":
		return wrong("a rule over objects does not declare its id and severity")
	case !ruleID.MatchString(rule.ID) || len(rule.ID) > maxID:
		return wrong("a rule over objects declares the id %q, which is not words in small letters joined by hyphens, at most %d characters", cut(rule.ID), maxID)
	case rule.ID == release.DriftRule:
		return wrong("a rule over objects declares the id %q, which is meshc's own", rule.ID)
	case !slices.Contains(severities(), rule.Severity):
		return wrong("rule %q declares the severity %q, which is none of deny, warn, audit", rule.ID, cut(string(rule.Severity)))
	}
	return rule, nil
}

// conflict is the problem with two declarations of one ID, nil if they are two bodies of
// one rule.
func conflict(rule, other Rule) *diag.Diagnostic {
	if rule.Package == other.Package && rule.Severity == other.Severity {
		return nil
	}
	d := diag.New(diag.CodePolicyRule, rule.Pos, "the rule %q is declared in package %q as well, or with another severity", rule.ID, other.Package).WithFix("give it another id")
	if other.Pos.File != "" && !other.Shipped {
		d = d.WithRelated(other.Pos, "the other")
	}
	return &d
}

// isEntry reports whether a rule adds to a package's findings.
func isEntry(r *ast.Rule) bool { return r.Head.Ref()[0].Value.Compare(ast.Var(entry)) == 0 }

// declare tells each policy which rules it has.
func (e *Engine) declare(rules []Rule) {
	e.declared = rules
	for i := range e.objects {
		own := map[string]Rule{}
		for _, r := range rules {
			if r.Package == e.objects[i].pkg {
				own[r.ID] = r
			}
		}
		e.objects[i].rules = own
	}
}

// Rules are the rules over objects, sorted by ID. Read only.
func (e *Engine) Rules() []Rule { return e.declared }

// Rule is the rule over objects with that ID.
func (e *Engine) Rule(id string) (Rule, bool) {
	i, ok := slices.BinarySearchFunc(e.declared, id, func(r Rule, id string) int { return cmp.Compare(r.ID, id) })
	if !ok {
		return Rule{}, false
	}
	return e.declared[i], true
}
