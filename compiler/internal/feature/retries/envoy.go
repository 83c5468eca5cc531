package retries

import (
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/internal/hop"
)

// onEnvoy sets RouteAction.retry_policy, and CircuitBreakers.retry_budget on the
// destination's clusters. A circuit breaker's written maxRetries stands in place
// of the budget, because Envoy ignores max_retries where a budget is set.
var onEnvoy = envoy.Join(envoy.OnRoute(policy), envoy.OnRouteClusters(budget), envoy.Proxyless(envoy.OnRoute(ofCalls)))

// mostOfCalls is how often gRPC tries again at most, whatever a policy says (gRFC A6).
const mostOfCalls = 4

// ofCalls is what gRPC programs without a proxy try again (gRFC A44): ends of calls by their status. What no server has
// seen they send again by themselves, once, which is all that is done where nothing is written.
func ofCalls(r *routev3.Route, v Retry, x *envoy.Ctx) {
	a := envoy.Action(r)
	if a == nil || x.Traits.IsDefault(name) && len(v.GRPC) == 0 || v.Attempts == 0 {
		return
	}
	lost := func(fix, format string, args ...any) { x.Lost(v, fix, format, args...) }
	switch {
	case len(v.GRPC) == 0:
		lost(`write grpc: ["unavailable"], or another status that is safe to try again`, "try again but by the status with which a call ends")
	case len(v.Statuses) > 0 || slices.ContainsFunc(v.On, func(on string) bool { return !slices.Contains(byDefault.On, on) }):
		lost("write `grpc` alone", "try again by statuses of HTTP or by what becomes of a connection")
	case v.Attempts > mostOfCalls:
		lost("write 4 attempts or less", "try again more often than %d times", mostOfCalls)
	case v.OtherZone:
		lost("take otherZone out", "say where the next try goes")
	case v.After > 0:
		lost("take retryAfter out", "wait as long as an answer asks for by a header")
	}
	a.RetryPolicy = &routev3.RetryPolicy{RetryOn: strings.Join(v.GRPC, ","), NumRetries: envoy.UInt32(uint32(min(v.Attempts, mostOfCalls)))}
	if v.Base > 0 {
		a.RetryPolicy.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: envoy.Duration(time.Duration(v.Base)), MaxInterval: envoy.Duration(time.Duration(v.Max))}
	}
}

func policy(r *routev3.Route, v Retry, x *envoy.Ctx) {
	a := envoy.Action(r)
	if a == nil {
		return
	}
	if v.Attempts == 0 {
		return
	}
	a.RetryPolicy = &routev3.RetryPolicy{RetryOn: strings.Join(v.On, ","), NumRetries: envoy.UInt32(uint32(v.Attempts))}
	if marks := marked(v.On); len(marks) > 0 && x.BehindSidecars() {
		a.RetryPolicy.RetryOn += ",retriable-headers"
		a.RetryPolicy.RetriableHeaders = []*routev3.HeaderMatcher{{Name: hop.NotAnswered, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
			StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: strings.Join(marks, "|")}}},
		}}}
	}
	if v.PerTry > 0 {
		a.RetryPolicy.PerTryTimeout = envoy.Duration(time.Duration(v.PerTry))
	}
	onAnswers(a.RetryPolicy, v)
	between(a.RetryPolicy, v)
	elsewhere(a.RetryPolicy, v)
}

// onAnswers sets retriable_status_codes, and ends of gRPC calls, for which retry_on has words of its own. Envoy
// looks for such an end in the answer's headers: a call that has begun to answer is over.
func onAnswers(p *routev3.RetryPolicy, v Retry) {
	if len(v.Statuses) > 0 {
		p.RetryOn += ",retriable-status-codes"
		for _, s := range v.Statuses {
			p.RetriableStatusCodes = append(p.RetriableStatusCodes, uint32(s))
		}
	}
	if len(v.GRPC) > 0 {
		p.RetryOn += "," + strings.Join(v.GRPC, ",")
	}
}

// between sets retry_back_off and rate_limited_retry_back_off, for when to try, and retry_host_predicate, for where.
// X-RateLimit-Reset is in seconds from now where others of our proxies say it, and an instant elsewhere. No instant is
// as near as max_interval if it is read as a span, and Envoy takes the next reading of what is further away. Asked for
// another host, it takes the last that it has found, however often it was that one: one host alone is tried again.
func between(p *routev3.RetryPolicy, v Retry) {
	if v.Base > 0 {
		p.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: envoy.Duration(time.Duration(v.Base)), MaxInterval: envoy.Duration(time.Duration(v.Max))}
	}
	if v.After > 0 {
		const reset = "x-ratelimit-reset"
		p.RateLimitedRetryBackOff = &routev3.RetryPolicy_RateLimitedRetryBackOff{
			ResetHeaders: []*routev3.RetryPolicy_ResetHeader{
				{Name: "retry-after", Format: routev3.RetryPolicy_SECONDS},
				{Name: reset, Format: routev3.RetryPolicy_SECONDS},
				{Name: reset, Format: routev3.RetryPolicy_UNIX_TIMESTAMP},
			},
			MaxInterval: envoy.Duration(time.Duration(v.After)),
		}
	}
	if !v.SameHost {
		p.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts", ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: envoy.Packed(&previoushostsv3.PreviousHostsPredicate{})},
		}}
		p.HostSelectionRetryMaxAttempts = looks
	}
}

// elsewhere sets retry_priority: what has been tried is left out of the next choice of a rank, until no rank is left whose
// workloads are well; then all are in again. With one rank alone nothing is left out.
func elsewhere(p *routev3.RetryPolicy, v Retry) {
	if v.OtherZone {
		p.RetryPriority = &routev3.RetryPolicy_RetryPriority{
			Name: "envoy.retry_priorities.previous_priorities", ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
				TypedConfig: envoy.Packed(&previousprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: 1}),
			},
		}
	}
}

// looks is how often another host is looked for. Of two workloads that are chosen by chance, one in a thousand
// tries comes to the same again.
const looks = 10

// marked are the marks of the callee's proxy that stand for failures: what went wrong between
// it and its application.
func marked(on []string) []string {
	var out []string
	for _, f := range on {
		switch f {
		case "connect-failure":
			out = append(out, hop.NotConnected)
		case "refused-stream":
			out = append(out, `.*\{remote_refused_stream_reset[|}].*`)
		case "reset":
			out = append(out, hop.NotConnected, "upstream_reset_before_response_started.*")
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func budget(c *clusterv3.Cluster, v Retry, _ *envoy.Ctx) {
	t := envoy.DefaultThresholds(c)
	if t.MaxRetries != nil || v.Attempts == 0 {
		return
	}
	b := t.RetryBudget
	if b == nil {
		b = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{BudgetPercent: &typev3.Percent{}, MinRetryConcurrency: envoy.UInt32(0)}
		t.RetryBudget = b
	}
	b.BudgetPercent.Value = max(b.BudgetPercent.Value, float64(v.Percent))
	b.MinRetryConcurrency.Value = max(b.MinRetryConcurrency.Value, uint32(v.MinConcurrent))
	t.Priority = corev3.RoutingPriority_DEFAULT
}

// What holds where nothing is written is the implementation's own affair there.
var onGatewayAPI = gatewayapi.RefuseWritten(byDefault, "retries in Gateway API are experimental and have neither conditions by name nor a budget per route")
