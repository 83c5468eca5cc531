package retries

import (
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/internal/hop"
)

// onEnvoy sets RouteAction.retry_policy, and CircuitBreakers.retry_budget on the
// destination's clusters. A circuit breaker's written maxRetries stands in place
// of the budget, because Envoy ignores max_retries where a budget is set.
var onEnvoy = envoy.Join(envoy.OnRoute(policy), envoy.OnRouteClusters(budget))

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
}

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
