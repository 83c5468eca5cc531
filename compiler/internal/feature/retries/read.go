package retries

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

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
	r = failures(r, n, x)
	r = waits(r, n, x)
	if o := n.Field("otherHost"); o.Exists() {
		r.SameHost = !o.Bool()
	}
	if z := n.Field("otherZone"); z.Bool() {
		if r.OtherZone = true; r.SameHost {
			x.Problem(diag.New(diag.CodeNever, n.Field("otherHost").Pos(), "a workload in another zone is another one, so that `otherHost: false` means nothing beside otherZone").WithFix("delete one of them"))
		}
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

// failures reads on what is tried again. What the callee may have begun is refused without idempotent.
func failures(r Retry, n intent.Node, x *resolve.Place) Retry {
	safe := n.Field("idempotent").Bool() && x.At != resolve.OnDefault
	if on := n.Field("on"); on.Exists() {
		for _, c := range listed(on, "leave `on` out for the default, or delete `retry`", x) {
			if begun(c.Str()) && !safe {
				repeated(c, strconv.Quote(c.Str()), x)
			}
		}
		r.On = on.Strings()
	}
	const none = "leave it out, or name one"
	for _, c := range listed(n.Field("statuses"), none, x) {
		status := int(c.Int())
		if !safe {
			repeated(c, strconv.Itoa(status), x)
		}
		if by := covers(r.On, status); by != "" {
			x.Problem(diag.New(diag.CodeNever, c.Pos(), "%d is tried again already: that is %q in `on`", status, by).WithFix("delete one of them"))
		}
		r.Statuses = append(r.Statuses, status)
	}
	slices.Sort(r.Statuses)
	r.Statuses = slices.Compact(r.Statuses)
	calls := n.Field("grpc")
	for _, c := range listed(calls, none, x) {
		if !safe {
			repeated(c, strconv.Quote(c.Str()), x)
		}
	}
	switch {
	case !calls.Exists() || x.ElsewhereCalls() && !x.NoCalls():
	case x.NoCalls():
		x.Problem(diag.New(diag.CodeProtocol, calls.Pos(), "statuses of gRPC are about calls, and no port here speaks grpc").
			WithFix("let the port say protocol: \"grpc\", or name statuses of HTTP in `statuses`"))
	default:
		r.GRPC = calls.Strings()
	}
	return r
}

// listed are the entries of a list, which has some if it is written.
func listed(n intent.Node, fix string, x *resolve.Place) []intent.Node {
	out := n.List()
	if n.Exists() && len(out) == 0 {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "a retry on nothing never happens").WithFix("%s", fix))
	}
	return out
}

// repeated refuses a failure behind which the callee may have begun the request.
func repeated(c intent.Node, what string, x *resolve.Place) {
	d := diag.New(diag.CodeNotIdempotent, c.Pos(), "a retry on %s may repeat a request that the service has begun", what)
	if x.At == resolve.OnDefault { // nobody knows that of all services
		x.Problem(d.WithFix("let the services for which repeating is safe say so themselves, with `idempotent: true`, or retry only on %s", strings.Join(notBegun, " and ")))
		return
	}
	x.Problem(d.WithFix("add `idempotent: true` if repeating is safe, or retry only on %s", strings.Join(notBegun, " and ")))
}

// covers is which of the failures an answer with that status is, "" for none.
func covers(on []string, status int) string {
	for _, f := range on {
		switch {
		case f == "5xx" && status >= 500, f == "gateway-error" && status >= 502 && status <= 504, f == "retriable-4xx" && status == 409:
			return f
		}
	}
	return ""
}

// answers reports whether some failures are answers, which can say when to come again.
func answers(r Retry, n intent.Node) bool {
	return n.Has("statuses") || n.Has("grpc") || slices.ContainsFunc(r.On, func(f string) bool { return f == "5xx" || f == "gateway-error" || f == "retriable-4xx" })
}

// waits reads what is between two tries.
func waits(r Retry, n intent.Node, x *resolve.Place) Retry {
	if b := n.Field("backoff"); b.Exists() {
		base, most := b.Field("base"), b.Field("max")
		if !base.Exists() && !most.Exists() {
			x.Problem(diag.New(diag.CodeOneOf, b.Pos(), "the back-off says nothing").WithFix("add base or max, or delete `backoff`"))
			return r
		}
		r.Base = x.Counted(base, baseByDefault)
		r.Max = x.Counted(most, growth*time.Duration(r.Base))
		if most.Exists() && r.Max < r.Base {
			x.Problem(diag.New(diag.CodeRange, most.Pos(), "waits begin with up to %s and would grow to %s", r.Base, r.Max).WithFix("write a `max` that is not below `base`"))
		}
	}
	if a := n.Field("retryAfter"); a.Exists() {
		r.After = x.Counted(a, 0)
		if !answers(r, n) {
			x.Problem(diag.New(diag.CodeNever, a.Pos(), "an answer says when to come again, and no answer is tried again here").
				WithFix("name one in `statuses`, such as 429, with `idempotent: true`, or delete `retryAfter`"))
		}
	}
	return r
}

// fits refuses what cannot take effect together with the rest of the route.
func fits(v trait.Value, route trait.Set, n intent.Node, x *resolve.Place) {
	r, perTry := v.(Retry), n.Field("perTry")
	if r.PerTry > 0 && !slices.ContainsFunc(r.On, func(on string) bool { return slices.Contains(tooLong, on) }) {
		x.Problem(diag.New(diag.CodeNever, perTry.Pos(), "perTry ends a try after %s, and no failure in `on` takes that: it only shortens answers", r.PerTry).
			WithFix("retry on one of %s with `idempotent: true`, or write `timeout` instead", strings.Join(tooLong, ", ")))
	}
	if x.At == resolve.OnDefault {
		return // which other words there are is a matter of others
	}
	for _, name := range route.Names() {
		other, _ := route.Lookup(name)
		b, ok := other.(trait.Bound)
		if !ok || b.Waits() == 0 {
			continue
		}
		whole := trait.Duration(b.Waits())
		if r.PerTry >= whole {
			x.Problem(diag.New(diag.CodeNever, perTry.Pos(), "perTry is %s, but %s ends all tries after %s: there is no time for another one", r.PerTry, name, whole).
				WithFix("write a shorter `perTry` or a longer `%s`", name))
		}
		if r.After >= whole {
			x.Problem(diag.New(diag.CodeNever, n.Field("retryAfter").Pos(), "retryAfter lets a callee ask for %s, but %s ends all tries after %s: its caller would get no answer", r.After, name, whole).
				WithFix("write a shorter `retryAfter` or a longer `%s`", name))
		}
	}
}
