// Package retries is the feature `route.retry`: whether and when a failed request
// is tried again.
package retries

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
)

const name = "retry"

// The default budget is Envoy's: a fifth of what is under way, and three in any case.
const (
	budgetPercent       = 20
	budgetMinConcurrent = 3
)

// baseByDefault and growth are Envoy's.
const (
	baseByDefault = 25 * time.Millisecond
	growth        = 10
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
	// Statuses of answers, 400 to 599, and GRPC, ends of calls in Envoy's words, are failures as well. Both are sorted.
	Statuses []int    `json:"statuses,omitempty"`
	GRPC     []string `json:"grpc,omitempty"`
	// Base is below what the first wait is, and Max what they grow to; 0 and 0 mean Envoy's.
	Base trait.Duration `json:"backoff_base,omitempty"`
	Max  trait.Duration `json:"backoff_max,omitempty"`
	// After is how long an answer may have its caller wait; 0 means that nobody reads it.
	After trait.Duration `json:"retry_after,omitempty"`
	// SameHost lets the workload that has failed be asked again where there are others.
	SameHost bool `json:"same_host,omitempty"`
	// OtherZone has the next try go to workloads of another rank of the callee's locality than those that have failed.
	OtherZone bool `json:"other_zone,omitempty"`
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

// Lost is trait.Overruled.
func (r Retry) Lost(next trait.Value) []string {
	holds := r.Then(next).(Retry)
	var out []string
	for _, w := range []struct {
		word string
		of   func(Retry) any
	}{
		{"perTry", func(r Retry) any { return r.PerTry }}, {"on", func(r Retry) any { return r.On }},
		{"statuses", func(r Retry) any { return r.Statuses }}, {"grpc", func(r Retry) any { return r.GRPC }},
		{"backoff", func(r Retry) any { return [2]trait.Duration{r.Base, r.Max} }}, {"retryAfter", func(r Retry) any { return r.After }},
		{"otherHost", func(r Retry) any { return r.SameHost }}, {"otherZone", func(r Retry) any { return r.OtherZone }}, {"budget", func(r Retry) any { return [2]int{r.Percent, r.MinConcurrent} }},
	} {
		if own := w.of(r); !reflect.DeepEqual(own, w.of(byDefault)) && !reflect.DeepEqual(own, w.of(holds)) {
			out = append(out, w.word)
		}
	}
	return out
}

// Elsewhere is trait.Elsewhere.
func (r Retry) Elsewhere() string {
	if r.OtherZone {
		return "otherZone"
	}
	return ""
}

// Kept is attempts, which are never more than the service wants.
func (Retry) Kept() string { return attempts }

// Try bounds one of several tries.
func (r Retry) Try() time.Duration {
	if r.Attempts == 0 {
		return 0
	}
	return time.Duration(r.PerTry)
}

// Pause bounds the wait between two tries that the callee asks for.
func (r Retry) Pause() time.Duration {
	if r.Attempts == 0 {
		return 0
	}
	return time.Duration(r.After)
}

// Calls reports whether some failures are ends of gRPC calls.
func (r Retry) Calls() bool { return len(r.GRPC) > 0 }

// repeats reports whether the callee may have begun what is sent again.
func (r Retry) repeats() bool {
	return len(r.Statuses)+len(r.GRPC) > 0 || slices.ContainsFunc(r.On, begun)
}

// begun reports whether the callee may have begun what fails so.
func begun(on string) bool { return !slices.Contains(notBegun, on) }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "retry", On: []resolve.On{resolve.OnRoute, resolve.OnHost, resolve.AroundPort, resolve.AroundRoutes, resolve.AroundExternal, resolve.OnCall, resolve.OnDefault}, Answers: false, Forwards: true,
		Defaults: []resolve.Default{
			{Field: "route.retry", Value: "attempts: 1", Why: "a connection that is refused, or closed before the request, costs no caller an answer"},
			{Field: "route.retry.perTry", Value: "the route's timeout", Why: "the whole answer has a bound already"},
			{Field: "route.retry.on", Value: strings.Join(notBegun, ", "), Why: "only what the callee cannot have begun is safe to send twice"},
			{Field: "route.retry.backoff.base", Value: baseByDefault.String(), Why: "a failure that is over at once costs little, and tries that go on leave the callee time"},
			{Field: "route.retry.backoff.max", Value: "ten times the base", Why: "nobody waits much longer than for the answer"},
			{Field: "route.retry.otherHost", Value: "true", Why: "what one workload refuses another one may answer"},
			{Field: "route.retry.otherZone", Value: "false", Why: "the near ones answer soonest, and one that fails says little of the others"},
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

func meaning(v trait.Value) []space.Act {
	r := v.(Retry)
	f := func(n, val string) space.Field { return space.Field{Feature: name, Name: n, Value: val} }
	out := []space.Field{
		{Feature: name, Name: attempts, Value: strconv.Itoa(r.Attempts), Number: float64(r.Attempts)}, f(onFailures, strings.Join(r.On, ",")),
		f("budget", fmt.Sprintf("%d%%, at least %d", r.Percent, r.MinConcurrent)),
	}
	if r.PerTry > 0 {
		out = append(out, space.Field{Feature: name, Name: "per try", Value: r.PerTry.String(), Number: time.Duration(r.PerTry).Seconds(), Bounds: space.OfTry})
	}
	if len(r.Statuses) > 0 {
		out = append(out, f(onStatuses, strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Statuses), " ", ","), "[]")))
	}
	if len(r.GRPC) > 0 {
		out = append(out, f(onGRPC, strings.Join(r.GRPC, ",")))
	}
	if r.Base > 0 {
		out = append(out, space.Field{Feature: name, Name: backOff, Value: r.Base.String() + upTo + r.Max.String(), Number: time.Duration(r.Base).Seconds() + time.Duration(r.Max).Seconds()})
	}
	if r.After > 0 {
		out = append(out, f(asTold, "up to "+r.After.String()))
	}
	if r.SameHost {
		out = append(out, f(sameHost, "as well"))
	}
	if r.OtherZone {
		out = append(out, f(otherZone, "first"))
	}
	tries := 1
	if r.repeats() {
		tries += r.Attempts
	}
	return []space.Act{{At: space.AtWorkload, Tries: tries, Fields: out}}
}

const attempts = "attempts"

// What says on what to try again, and what says when and where.
const (
	onFailures = "on"
	onStatuses = "on statuses"
	onGRPC     = "on gRPC"

	backOff  = "back-off"
	upTo     = " to "
	asTold   = "retry-after"
	sameHost = "same host"

	otherZone = "other zone"
)

// change: more tries are more load on the callee in the worst case, which the plan tells
// along the whole of the calls; fewer are not, if nothing else is. Other failures may repeat what was not, and
// shorter waits press a callee that fails. Where and when else is nobody's load.
func change(before, after []space.Field) (plan.Class, string) {
	b, a := int(plan.Number(before, attempts)), int(plan.Number(after, attempts))
	text := plan.Arrow("retries", before, after)
	if a == 0 || slices.Equal(but(before, attempts), but(after, attempts)) {
		text = fmt.Sprintf("retries %d → %d", b, a)
	}
	switch {
	case a > b:
		return plan.Weakening, text
	case a == 0, slices.Equal(bounds(before), bounds(after)) && within(after, before) && !sooner(before, after):
		return plan.Neutral, text
	}
	return plan.Weakening, text
}

// within reports whether nothing is tried again by one that is not by the other.
func within(one, other []space.Field) bool {
	for _, on := range []string{onFailures, onStatuses, onGRPC} {
		known := strings.Split(plan.Value(other, on), ",")
		if v := plan.Value(one, on); v != "" && slices.ContainsFunc(strings.Split(v, ","), func(f string) bool { return !slices.Contains(known, f) }) {
			return false
		}
	}
	return true
}

// bounds are how long one try may take and how many may be under way.
func bounds(fs []space.Field) []space.Field {
	return but(fs, attempts, onFailures, onStatuses, onGRPC, backOff, asTold, sameHost, otherZone)
}

// but are fields without those of some names.
func but(fs []space.Field, names ...string) []space.Field {
	return slices.DeleteFunc(slices.Clone(fs), func(f space.Field) bool { return slices.Contains(names, f.Name) })
}

// sooner reports whether some try may come back before it could: back-offs begin, or end, with shorter waits.
func sooner(before, after []space.Field) bool {
	b, most := pauses(before)
	a, end := pauses(after)
	return a < b || end < most
}

// pauses are the bounds of the first wait of back-offs and of the last ones.
func pauses(fs []space.Field) (base, most time.Duration) {
	first, last, ok := strings.Cut(plan.Value(fs, backOff), upTo)
	base, err := time.ParseDuration(first)
	most, errLast := time.ParseDuration(last)
	if !ok || err != nil || errLast != nil {
		return baseByDefault, growth * baseByDefault
	}
	return base, most
}
