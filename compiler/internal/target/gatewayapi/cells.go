package gatewayapi

import (
	"fmt"

	"meshc.dev/meshc/compiler/internal/trait"
)

// Lowering says how one feature reads in Gateway API. Only OnRule, Refuse and
// Approximate make one. The zero Lowering counts as refused.
type Lowering struct {
	rule    func(*Rule, trait.Value, *Ctx)
	refusal string
	loss    string
}

// Column maps the name of a trait to its cell.
type Column map[string]Lowering

// OnRule lowers a route's trait on its HTTPRoute rule. Traits are applied in the order of their names.
func OnRule[T trait.Value](f func(r *Rule, v T, x *Ctx)) Lowering {
	return Lowering{rule: func(r *Rule, v trait.Value, x *Ctx) {
		t, ok := v.(T)
		if !ok {
			panic(fmt.Sprintf("gatewayapi: lowering for %T applied to trait %q", t, v.TraitName()))
		}
		f(r, t, x)
	}}
}

// Refuse says that Gateway API cannot express the feature, and why.
func Refuse(reason string) Lowering { return Lowering{refusal: reason} }

// Approximate says that l expresses the feature with a loss, in words.
func Approximate(loss string, l Lowering) Lowering { l.loss = loss; return l }

// Support says how far the target goes: "exact", "approximate" or "refused", and why.
func (l Lowering) Support() (state, why string) {
	switch {
	case l.rule == nil:
		return "refused", l.refusal
	case l.loss != "":
		return "approximate", l.loss
	}
	return "exact", ""
}
