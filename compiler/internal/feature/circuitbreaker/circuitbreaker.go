// Package circuitbreaker is the feature `service.circuitBreaker`: bounds of what
// one caller's proxy may have open towards a service.
package circuitbreaker

import (
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

const name = "circuit-breaker"

// Breaker holds the bounds; 0 leaves Envoy's default (1,024; retries: the budget).
type Breaker struct {
	MaxConnections     int `json:"max_connections,omitempty"`
	MaxPendingRequests int `json:"max_pending_requests,omitempty"`
	MaxRequests        int `json:"max_requests,omitempty"`
	MaxRetries         int `json:"max_retries,omitempty"`
	// PerHost is how many connections one workload gets at most.
	PerHost int `json:"max_connections_per_host,omitempty"`
}

// TraitName is "circuit-breaker".
func (Breaker) TraitName() string { return name }

// Feature is the row.
var Feature = feature.Feature{
	Rule:       resolve.Rule{Name: name, Field: "circuitBreaker", On: []resolve.On{resolve.OnService, resolve.OnVersion, resolve.OnPort, resolve.OnExternal, resolve.OnDefault}, Answers: false, Bytes: true, Defaults: nil, Read: read, Uses: nil},
	Codec:      trait.JSON[Breaker],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.Join(envoy.OnCluster(lower), envoy.Proxyless(envoy.OnCluster(ofCalls))),
	Kubernetes: kubernetes.Nothing("the callers' proxies count"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no circuit breakers"),
}

// lower sets Cluster.circuit_breakers of the default priority. What is not written
// stays as it is: unbounded.
func lower(c *clusterv3.Cluster, v Breaker, _ *envoy.Ctx) {
	t := envoy.DefaultThresholds(c)
	bound(&t.MaxConnections, v.MaxConnections)
	bound(&t.MaxPendingRequests, v.MaxPendingRequests)
	bound(&t.MaxRequests, v.MaxRequests)
	bound(&t.MaxRetries, v.MaxRetries)
	if v.PerHost != 0 { // of these thresholds Envoy reads the connections alone
		c.CircuitBreakers.PerHostThresholds = []*clusterv3.CircuitBreakers_Thresholds{{MaxConnections: envoy.UInt32(uint32(v.PerHost))}}
	}
}

// ofCalls is what gRPC programs without a proxy bound: requests under way (gRFC A32).
func ofCalls(c *clusterv3.Cluster, v Breaker, x *envoy.Ctx) {
	if v != (Breaker{MaxRequests: v.MaxRequests}) {
		x.Lost(v, "bound maxRequests alone", "bound connections, what waits, or retries: of a circuit breaker it has maxRequests")
	}
	bound(&envoy.DefaultThresholds(c).MaxRequests, v.MaxRequests)
}

func bound(field **wrapperspb.UInt32Value, n int) {
	if n != 0 {
		*field = envoy.UInt32(uint32(n))
	}
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	get := func(f string) int { return int(n.Field(f).Int()) }
	b := Breaker{get("maxConnections"), get("maxPendingRequests"), get("maxRequests"), get("maxRetries"), int(n.Field("perHost").Field("maxConnections").Int())}
	if b == (Breaker{}) {
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "the circuit breaker bounds nothing").WithFix("set maxConnections, maxPendingRequests, maxRequests, maxRetries or perHost: maxConnections"))
		return nil
	}
	return b
}

func meaning(v trait.Value) []space.Act {
	b := v.(Breaker)
	var out []space.Field
	for _, f := range []struct {
		n string
		v int
	}{{"max connections", b.MaxConnections}, {"max connections to a workload", b.PerHost}, {"max pending requests", b.MaxPendingRequests}, {"max requests", b.MaxRequests}, {"max retries", b.MaxRetries}} {
		if f.v != 0 {
			out = append(out, space.Field{Feature: name, Name: f.n, Value: strconv.Itoa(f.v)})
		}
	}
	return space.Labels(space.AtWorkload, out...)
}

// change: bounds that appear are neutral; bounds that go or move may protect less.
func change(before, after []space.Field) (plan.Class, string) {
	if len(before) == 0 {
		return plan.Neutral, plan.Arrow("circuit breaker", before, after)
	}
	return plan.Weakening, plan.Arrow("circuit breaker", before, after)
}
