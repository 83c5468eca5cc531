// Package retries is the feature `route.retry`: whether and when a failed request
// is tried again.
package retries

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

const name = "retry"

// The default budget is Envoy's: a fifth of what is under way, and three in any case.
const (
	budgetPercent       = 20
	budgetMinConcurrent = 3
)

// notBegun are the failures that the callee cannot have begun to work on.
var notBegun = []string{"connect-failure", "refused-stream", "reset-before-request"}

// tooLong are the failures that take a try which lasts longer than it may.
var tooLong = []string{"5xx", "gateway-error", "reset"}

// byDefault is what holds where nothing is written.
var byDefault = Retry{Attempts: 1, On: notBegun, Percent: budgetPercent, MinConcurrent: budgetMinConcurrent}

// Retry says when a request is tried again.
type Retry struct {
	// Attempts is how many more tries there are after the first, 0 to 10.
	Attempts int `json:"attempts"`
	// PerTry bounds one try; 0 means the route's timeout.
	PerTry trait.Duration `json:"per_try,omitempty"`
	// On names the failures, sorted, in Envoy's words.
	On []string `json:"on"`
	// Percent of the requests under way may be retries; MinConcurrent are allowed in any case.
	Percent       int `json:"budget_percent"`
	MinConcurrent int `json:"budget_min_concurrent"`
}

// TraitName is "retry".
func (Retry) TraitName() string { return name }

// Then is what the service says, who alone knows what may be repeated, with no more attempts than
// its caller wants.
func (r Retry) Then(next trait.Value) trait.Value {
	out := next.(Retry)
	out.Attempts = min(out.Attempts, r.Attempts)
	return out
}

// Try bounds one of several tries.
func (r Retry) Try() time.Duration {
	if r.Attempts == 0 {
		return 0
	}
	return time.Duration(r.PerTry)
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "retry", On: []resolve.On{resolve.OnRoute, resolve.OnHost, resolve.AroundPort, resolve.AroundRoutes, resolve.AroundExternal, resolve.OnCall, resolve.OnDefault}, Answers: false, Forwards: true,
		Defaults: []resolve.Default{
			{Field: "route.retry", Value: "attempts: 1", Why: "a connection that is refused, or closed before the request, costs no caller an answer"},
			{Field: "route.retry.perTry", Value: "the route's timeout", Why: "the whole answer has a bound already"},
			{Field: "route.retry.on", Value: strings.Join(notBegun, ", "), Why: "only what the callee cannot have begun is safe to send twice"},
			{Field: "route.retry.budget.percent", Value: strconv.Itoa(budgetPercent), Why: "a failing service is not buried under retries"},
			{Field: "route.retry.budget.minConcurrent", Value: strconv.Itoa(budgetMinConcurrent), Why: "a quiet service can still be retried"},
		},
		Read: read, Fits: fits, Uses: nil,
	},
	Codec:      trait.JSON[Retry],
	Meaning:    meaning,
	Change:     change,
	Envoy:      onEnvoy,
	Kubernetes: kubernetes.Nothing("the caller's proxy tries again"),
	GatewayAPI: onGatewayAPI,
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		if x.Gateway {
			return nil // the service's own retry holds behind a gateway
		}
		return byDefault
	}
	r := byDefault
	if r.Attempts = int(n.Field("attempts").Int()); r.Attempts == 0 {
		for _, f := range n.Fields() {
			if f.Name != "attempts" {
				x.Problem(diag.New(diag.CodeNever, f.Node.Pos(), "%s means nothing where nothing is tried again", f.Node.Path()).WithFix("delete it, or write `attempts` above 0"))
			}
		}
		return r
	}
	if p := n.Field("perTry"); p.Exists() {
		r.PerTry = x.Duration(p, 0)
	}
	if on := n.Field("on"); on.Exists() {
		r.On = conditions(on, n.Field("idempotent").Bool(), x)
	}
	b := n.Field("budget")
	if p := b.Field("percent"); p.Exists() {
		r.Percent = int(p.Int())
	}
	if m := b.Field("minConcurrent"); m.Exists() {
		r.MinConcurrent = int(m.Int())
	}
	return r
}

// conditions reads `on`. What the callee may have begun is refused without idempotent.
func conditions(on intent.Node, idempotent bool, x *resolve.Place) []string {
	for _, c := range on.List() {
		if slices.Contains(notBegun, c.Str()) || idempotent && x.At != resolve.OnDefault {
			continue
		}
		d := diag.New(diag.CodeNotIdempotent, c.Pos(), "a retry on %q may repeat a request that the service has begun", c.Str())
		if x.At == resolve.OnDefault { // nobody knows that of all services
			x.Problem(d.WithFix("let the services for which repeating is safe say so themselves, with `idempotent: true`, or retry only on %s", strings.Join(notBegun, " and ")))
			continue
		}
		x.Problem(d.WithFix("add `idempotent: true` if repeating is safe, or retry only on %s", strings.Join(notBegun, " and ")))
	}
	out := on.Strings()
	if len(out) == 0 {
		x.Problem(diag.New(diag.CodeNever, on.Pos(), "a retry on nothing never happens").WithFix("leave `on` out for the default, or delete `retry`"))
	}
	return out
}

// fits refuses what cannot take effect together with the rest of the route.
func fits(v trait.Value, route trait.Set, n intent.Node, x *resolve.Place) {
	r, perTry := v.(Retry), n.Field("perTry")
	if r.PerTry == 0 {
		return
	}
	if !slices.ContainsFunc(r.On, func(on string) bool { return slices.Contains(tooLong, on) }) {
		x.Problem(diag.New(diag.CodeNever, perTry.Pos(), "perTry ends a try after %s, and no failure in `on` takes that: it only shortens answers", r.PerTry).
			WithFix("retry on one of %s with `idempotent: true`, or write `timeout` instead", strings.Join(tooLong, ", ")))
	}
	if x.At == resolve.OnDefault {
		return // which other words there are is a matter of others
	}
	for _, name := range route.Names() {
		other, _ := route.Lookup(name)
		if b, ok := other.(trait.Bound); ok && b.Waits() > 0 && time.Duration(r.PerTry) >= b.Waits() {
			x.Problem(diag.New(diag.CodeNever, perTry.Pos(), "perTry is %s, but %s ends all tries after %s: there is no time for another one", r.PerTry, name, trait.Duration(b.Waits())).
				WithFix("write a shorter `perTry` or a longer `%s`", name))
		}
	}
}

func meaning(v trait.Value) []space.Act {
	r := v.(Retry)
	f := func(n, val string) space.Field { return space.Field{Feature: name, Name: n, Value: val} }
	out := []space.Field{
		{Feature: name, Name: "attempts", Value: strconv.Itoa(r.Attempts), Number: float64(r.Attempts)}, f("on", strings.Join(r.On, ",")),
		f("budget", fmt.Sprintf("%d%%, at least %d", r.Percent, r.MinConcurrent)),
	}
	if r.PerTry > 0 {
		out = append(out, space.Field{Feature: name, Name: "per try", Value: r.PerTry.String(), Number: time.Duration(r.PerTry).Seconds(), Bounds: space.OfTry})
	}
	tries := 1
	if slices.ContainsFunc(r.On, func(on string) bool { return !slices.Contains(notBegun, on) }) {
		tries += r.Attempts
	}
	return []space.Act{{At: space.AtWorkload, Tries: tries, Fields: out}}
}

// change: more tries are more load on the callee in the worst case, which the plan tells
// along the whole of the calls; fewer are not. Other conditions may repeat what was not.
func change(before, after []space.Field) (plan.Class, string) {
	b, a := int(plan.Number(before, "attempts")), int(plan.Number(after, "attempts"))
	switch {
	case a > b:
		return plan.Weakening, fmt.Sprintf("retries %d → %d", b, a)
	case a < b:
		return plan.Neutral, fmt.Sprintf("retries %d → %d", b, a)
	}
	return plan.Weakening, plan.Arrow("retries", before, after)
}
