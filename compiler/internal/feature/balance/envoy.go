package balance

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/internal/target/envoy"
)

// A cluster knows how it chooses, a route (or the proxy of connections) what is hashed for that.
var onEnvoy = envoy.Join(envoy.OnCluster(choice), envoy.OnRoutesTo(hashOfRequest), envoy.OnConnectionsTo(hashOfConnection),
	envoy.Proxyless(envoy.Join(envoy.OnCluster(choiceOfCalls), envoy.OnRoutesTo(hashOfRequest))))

// choiceOfCalls is a choice that gRPC programs without a proxy have, too (gRFC A42, A48).
func choiceOfCalls(c *clusterv3.Cluster, v Balance, x *envoy.Ctx) {
	switch {
	case v.Choice == Random, v.Choice == Hash && (v.Maglev || v.By != Header):
		x.Lost(v, "balance: roundRobin, leastRequest, or hash: header", "choose a workload like that: it has roundRobin, leastRequest, and a ring by the hash of a header")
	case v.SlowStart != 0:
		x.Lost(v, "take slowStart out", "start slowly with a new workload")
	default:
		choice(c, v, x)
	}
}

// choice sets Cluster.lb_policy, and lb_config for a slow start. Where connections have nothing that is hashed it stays as it is.
func choice(c *clusterv3.Cluster, v Balance, x *envoy.Ctx) {
	switch {
	case v.ofRequests() && !x.Port.Protocol.IsHTTP():
	case v.Choice == Hash && v.Maglev:
		c.LbPolicy = clusterv3.Cluster_MAGLEV
	case v.Choice == Hash:
		c.LbPolicy = clusterv3.Cluster_RING_HASH
	case v.Choice == RoundRobin:
		c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
		if s := slowStart(v); s != nil {
			c.LbConfig = &clusterv3.Cluster_RoundRobinLbConfig_{RoundRobinLbConfig: &clusterv3.Cluster_RoundRobinLbConfig{SlowStartConfig: s}}
		}
	case v.Choice == Random:
		c.LbPolicy = clusterv3.Cluster_RANDOM
	case v.Choice == LeastRequest:
		c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
		if s := slowStart(v); s != nil {
			c.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: &clusterv3.Cluster_LeastRequestLbConfig{SlowStartConfig: s}}
		}
	}
}

// slowStart is SlowStartConfig of the cluster's lb_config, which round robin and least request have
// and no other policy; nil for none. While a workload's weight is lowered, Envoy's least request
// chooses by weight over requests under way, in place of between two.
func slowStart(v Balance) *clusterv3.Cluster_SlowStartConfig {
	if v.SlowStart == 0 {
		return nil
	}
	return &clusterv3.Cluster_SlowStartConfig{SlowStartWindow: envoy.Duration(time.Duration(v.SlowStart))}
}

// hashOfRequest sets RouteAction.hash_policy. Envoy would mix what several of them say into one
// hash, so that two different ones hold for no destination.
func hashOfRequest(r *routev3.Route, vs []Balance, x *envoy.Ctx) {
	b, ok := hashed(vs, x)
	if !ok {
		return
	}
	a, own := envoy.Action(r), policy(b)
	switch has := a.HashPolicy; {
	case len(has) == 0:
		a.HashPolicy = []*routev3.RouteAction_HashPolicy{own}
	case !sameThing(has[0], own):
		x.Problem("let both say the same header or cookie, or keep one of them",
			"the route is sticky by one thing, the destinations choose a workload by a hash of another, %s, and a route has one", b.key())
	}
}

// hashOfConnection sets TcpProxy.hash_policy, which knows the source alone.
func hashOfConnection(p *tcpv3.TcpProxy, vs []Balance, _ *envoy.Ctx) {
	for _, b := range vs {
		if b.Choice == Hash && b.By == Source {
			p.HashPolicy = []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_SourceIp_{SourceIp: &typev3.HashPolicy_SourceIp{}}}}
		}
	}
}

// hashed is what the destinations that hash do hash.
func hashed(vs []Balance, x *envoy.Ctx) (Balance, bool) {
	var out Balance
	for _, b := range vs {
		switch {
		case b.Choice != Hash:
		case out.Choice == "":
			out = b
		case out.key() != b.key():
			x.Problem("let both choose by the same thing, or give each a route of its own",
				"the destinations of the route choose by a hash of different things, %s and %s, and a route has one", out.key(), b.key())
			return Balance{}, false
		}
	}
	return out, out.Choice != ""
}

// sameThing reports whether two policies look at one thing of a request; a cookie may be set besides.
func sameThing(a, b *routev3.RouteAction_HashPolicy) bool {
	if a.GetCookie() != nil || b.GetCookie() != nil {
		return a.GetCookie().GetName() == b.GetCookie().GetName()
	}
	return proto.Equal(a, b)
}

func policy(b Balance) *routev3.RouteAction_HashPolicy {
	switch b.By {
	case Header:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: b.Name}}}
	case Cookie: // without a ttl: Envoy would set a cookie that is not there
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{Cookie: &routev3.RouteAction_HashPolicy_Cookie{Name: b.Name}}}
	case Query:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_QueryParameter_{QueryParameter: &routev3.RouteAction_HashPolicy_QueryParameter{Name: b.Name}}}
	default:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{
			ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
		}}
	}
}
