package retries

import (
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
)

// onEnvoy sets RouteAction.retry_policy, and CircuitBreakers.retry_budget on the
// destination's clusters. A circuit breaker's written maxRetries stands in place
// of the budget, because Envoy ignores max_retries where a budget is set.
var onEnvoy = envoy.Join(envoy.OnRoute(policy), envoy.OnRouteClusters(budget))

func policy(r *routev3.Route, v Retry, _ *envoy.Ctx) {
	a := envoy.Action(r)
	if a == nil {
		return
	}
	a.RetryPolicy = &routev3.RetryPolicy{RetryOn: strings.Join(v.On, ","), NumRetries: envoy.UInt32(uint32(v.Attempts))}
	if v.PerTry > 0 {
		a.RetryPolicy.PerTryTimeout = envoy.Duration(time.Duration(v.PerTry))
	}
}

func budget(c *clusterv3.Cluster, v Retry, _ *envoy.Ctx) {
	t := envoy.DefaultThresholds(c)
	if t.MaxRetries != nil {
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

var onGatewayAPI = gatewayapi.Refuse("retries in Gateway API are experimental and have neither conditions by name nor a budget per route")
