package gatewayapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// Lowering says how one feature reads in Gateway API. Only OnRule, Refuse and
// Approximate make one. The zero Lowering says nothing and counts as refused.
type Lowering struct {
	rule    func(*Rule, trait.Value, *Ctx)
	refusal string
	loss    string
	// unsaid is a value that needs not be said, nil if each does.
	unsaid trait.Value
}

// Column maps the name of a trait to its lowering.
type Column map[string]Lowering

// OnRule lowers a route's trait on its rule, which has its matches and backends.
// Traits are applied in the order of their names.
func OnRule[T trait.Value](f func(r *Rule, v T, x *Ctx)) Lowering {
	return Lowering{rule: func(r *Rule, v trait.Value, x *Ctx) {
		t, ok := v.(T)
		if !ok { // the catalog paired a lowering with another feature's trait
			panic(fmt.Sprintf("gatewayapi: lowering for %T applied to trait %q of type %T", t, v.TraitName(), v))
		}
		f(r, t, x)
	}}
}

// Refuse says that Gateway API cannot express the feature, and why.
func Refuse(reason string) Lowering { return Lowering{refusal: reason} }

// RefuseWritten says that Gateway API cannot express the feature, and why, but that its
// default needs no expression.
func RefuseWritten(byDefault trait.Value, reason string) Lowering {
	return Lowering{refusal: reason, unsaid: byDefault}
}

// Approximate says that l expresses the feature with a loss, in words.
func Approximate(loss string, l Lowering) Lowering { l.loss = loss; return l }

// Support says how far the target goes ("exact", "approximate" or "refused") and
// why not further. The support table is generated from it.
func (l Lowering) Support() (state, why string) {
	switch {
	case l.rule == nil:
		return "refused", l.refusal
	case l.loss != "":
		return "approximate", l.loss
	}
	return "exact", ""
}

// Ctx is what a lowering may know beside its own value. Read only.
type Ctx struct {
	Mesh *model.Mesh

	path     string
	problems *diag.List
	locate   func(string) diag.Pos
}

// Problem reports that this value cannot be lowered, at the intent of its route.
func (x *Ctx) Problem(format string, args ...any) {
	*x.problems = append(*x.problems, diag.New(diag.CodeLowering, x.locate(x.path), format, args...).WithFix(wayOut))
}

// Headers is the modifier for header edits, sorted by name.
//
// Gateway API edits a header once: lines that are added to what is set, or to each other,
// stand on one line, joined by commas (RFC 9110 section 5.3).
func Headers(set map[string]string, add map[string][]string, remove []string) *HeaderModifier {
	var sets, adds []Header
	for _, n := range slices.Sorted(maps.Keys(set)) {
		sets = append(sets, Header{n, strings.Join(append([]string{set[n]}, add[n]...), ",")})
	}
	for _, n := range slices.Sorted(maps.Keys(add)) {
		if _, both := set[n]; !both {
			adds = append(adds, Header{n, strings.Join(add[n], ",")})
		}
	}
	return &HeaderModifier{Set: sets, Add: adds, Remove: slices.Sorted(slices.Values(remove))}
}

// Moving is the modifier that moves the path as m does: it replaces the whole path, or the
// prefix that the rule matches. What it cannot say is a problem.
func (r *Rule) Moving(m space.Move, x *Ctx) *PathModifier {
	if m.How == space.Whole {
		return &PathModifier{Type: "ReplaceFullPath", ReplaceFullPath: m.To}
	}
	match := PathMatch{Type: "PathPrefix", Value: "/"}
	if len(r.Matches) > 0 && r.Matches[0].Path != nil { // alternatives differ in their methods only
		match = *r.Matches[0].Path
	}
	switch {
	case m.How == space.Substituted:
		x.Problem("an HTTPRoute has no rewriting by an expression")
	case match.Type == "Exact":
		return &PathModifier{Type: "ReplaceFullPath", ReplaceFullPath: m.Of(match.Value)}
	case match.Type != "PathPrefix" || m.How == space.Filled:
		x.Problem("an HTTPRoute replaces a whole path or the prefix that it matches, and puts no segment elsewhere")
	case match.Value == "/" || strings.HasSuffix(m.To, "/") && (m.To != "/" || match.Value != m.From):
		x.Problem("what an HTTPRoute makes of the path %q itself is the implementation's, where its prefix is replaced with %q", match.Value, m.To)
	default:
		return &PathModifier{Type: "ReplacePrefixMatch", ReplacePrefixMatch: m.Of(match.Value)}
	}
	return nil
}
