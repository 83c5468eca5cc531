package envoy

import (
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
)

// An external with `via` is called in two legs. Callers' proxies do what its routes and the calls say, and send
// to the gateway by mTLS, asking for the external's port by name (SNI). There each port of an external has a
// filter chain of its own, so that what a caller writes in a request chooses nothing: its identity is looked
// for among those who may call, and the gateway does what the external itself says: TLS, limits, choice.

// goesVia reports whether the class in hand reaches an external through a gateway: all do but the gateway's own.
func (e *emitter) goesVia(x *model.External) bool {
	return x.Via != nil && !slices.Contains(x.Via.Classes(), e.of)
}

// buildViaCluster leads to the gateway, on behalf of one external's port.
func (e *emitter) buildViaCluster(t target, routes []routeTrait, out *entry) {
	x, path := t.external, model.ExternalPath(t.external.ID)
	c, live := viaCluster(t)
	requests := t.port.Protocol.IsHTTP()
	c.TransportSocket = upstreamTLS(model.ExitHost(x.ID, t.port.Name), requests, e.named(x.Via.Classes()), e.roots())
	ctx := Ctx{Mesh: e.m, External: x, Port: t.port, path: path, out: out, locate: e.at, keys: e.profile.Keys}
	if requests {
		ctx.Protocol = protocolOptions(model.HTTP2, fromMesh())
	}
	e.applyRouteTraits(c, routes, ctx)
	speak(c, ctx.Protocol)
	out.discovers(live)
	e.seal(out, release.ClusterType, c.Name, path, c)
}

// viaCluster is where the gateway listens, as intent or the platform says.
func viaCluster(t target) (*clusterv3.Cluster, *release.Endpoints) {
	c := baseCluster(t.cluster())
	c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
	if host := t.external.Via.Host; host != "" {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		c.LoadAssignment = assignment(c.Name, []*corev3.Address{address(host, t.external.Via.Number)})
		return c, nil
	}
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource()}
	c.IgnoreHealthOnHostRemoval = true
	return c, &release.Endpoints{Cluster: c.Name}
}

// exits adds what the proxies of a gateway have at a port for proxies of the mesh.
func (s *snapshot) exits(e *emitter, g *model.Gateway, p model.Port, n needs) {
	var out []target
	for _, x := range g.Exits {
		to := e.m.External(x.External)
		if x.Port != p.Name || to == nil {
			continue
		}
		for _, own := range to.Ports {
			t := target{external: to, port: own}
			out = append(out, t)
			n.add(t, nil)
			if own.Protocol.IsHTTP() {
				s.entries = append(s.entries, e.exitConfig(g, x, t))
			}
		}
	}
	if len(out) > 0 { // Envoy refuses a listener that takes no connection
		s.entries = append(s.entries, e.exitListener(g, p, out))
	}
}

// exitListener takes connections of the mesh's proxies: the name for which they ask says which external's port
// they want. One that asks for another is closed.
func (e *emitter) exitListener(g *model.Gateway, p model.Port, to []target) *entry {
	name := model.GatewayName(g.ID, p.Name)
	return e.getFresh("listener "+name, func(out *entry) {
		l := gatewayListener(g, p)
		l.PerConnectionBufferLimitBytes = newListener(name, "", 0, corev3.TrafficDirection_OUTBOUND).PerConnectionBufferLimitBytes
		l.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
		waitForHello(l, false)
		for _, t := range to {
			chain := e.exitChain(g, t, out)
			chain.Name = model.ExitName(t.external.ID, t.port.Name)
			chain.FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: transportTLS, ServerNames: []string{model.ExitHost(t.external.ID, t.port.Name)}}
			l.FilterChains = append(l.FilterChains, chain)
		}
		e.finishListener(g, l, out)
		e.seal(out, release.ListenerType, name, model.GatewayPath(g.ID), l)
	})
}

// exitChain takes the connections to one port: of requests any caller's, who is answered 403 if he may not
// (routes say so, so that a new grant drains nothing), of bytes those of callers who may.
func (e *emitter) exitChain(g *model.Gateway, t target, out *entry) *listenerv3.FilterChain {
	name := model.ExitName(t.external.ID, t.port.Name)
	if t.port.Protocol.IsHTTP() {
		m := e.ownManager(atExit, name, g.Traits, Ctx{Gateway: g, External: t.external, Port: t.port, path: model.GatewayPath(g.ID)}, out)
		chain := chainOf(oneIdentity(name), filter(filterHCM, m))
		chain.TransportSocket = downstreamTLS([]string{"h2"}, e.everyone(), e.roots())
		return chain
	}
	admits := admitsAt(g, t)
	var who identities
	for _, a := range admits {
		who = append(who, e.identities(a.Terms)...)
	}
	if len(who) == 0 {
		chain := chainOf(closeFilter())
		chain.TransportSocket = downstreamTLS([]string{alpnTCP}, e.everyone(), e.roots())
		return chain
	}
	rules := e.allow(admits, t.asked())
	bytes := out.forwardBytes(name, []share{{cluster: t.cluster(), weight: 1}})
	x := Ctx{Mesh: e.m, External: t.external, Port: t.port, path: t.path(), out: out, locate: e.at, keys: e.profile.Keys}
	e.ofDestinations(e.shares(outsideTargets(t.external, t.port, []model.Target{{Weight: 1}})), func(l Lowering, vs []trait.Value) {
		if l.connectionsTo != nil {
			l.connectionsTo(bytes, vs, &x)
		}
	})
	chain := chainOf(oneIdentity(name), filter(filterRBAC, &networkrbacv3.RBAC{StatPrefix: name, Rules: rules}), filter(filterTCP, bytes))
	chain.TransportSocket = downstreamTLS([]string{alpnTCP}, who.matchers(), e.roots())
	return chain
}

// asked is the external's port as callers have it at the gateway: with an identity.
func (t target) asked() model.Port {
	p := t.port
	p.MTLS = model.Strict
	return p
}

// admitsAt are those who may call an external's port through a gateway.
func admitsAt(g *model.Gateway, t target) []model.Grant {
	i := slices.IndexFunc(g.Exits, func(x model.Exit) bool { return x.External == t.external.ID })
	return slices.DeleteFunc(slices.Clone(g.Exits[i].Admits), func(a model.Grant) bool { return !slices.Contains(a.Ports, t.port.Name) })
}

// exitConfig has one route for all that comes to an external's port, behind who may call. How long an answer
// takes, how often it is asked for and what may change its protocol is the callers' proxies' business.
func (e *emitter) exitConfig(g *model.Gateway, x model.Exit, t target) *entry {
	name := model.ExitName(x.External, t.port.Name)
	return e.getFresh("route "+name, func(out *entry) {
		path := model.ExternalPath(x.External)
		action := out.forward([]share{{cluster: t.cluster(), weight: 1}})
		action.Route.Timeout, action.Route.IdleTimeout = Duration(0), Duration(0)
		if t.port.Protocol == model.HTTP {
			action.Route.UpgradeConfigs = []*routev3.RouteAction_UpgradeConfig{{UpgradeType: "websocket"}}
		}
		r := &routev3.Route{Name: path, Match: everyRequest(), Action: action}
		ctx := Ctx{Mesh: e.m, External: t.external, Port: t.port, Gateway: g, path: path, out: out, locate: e.at, keys: e.profile.Keys}
		e.ofDestinations(e.shares(outsideTargets(t.external, t.port, []model.Target{{Weight: 1}})), func(l Lowering, vs []trait.Value) {
			if l.routesTo != nil {
				l.routesTo(r, vs, &ctx)
			}
		})
		h := &routev3.VirtualHost{Name: x.External, Domains: []string{"*"}, Routes: []*routev3.Route{r}}
		if t.external.Endpoints.Dynamic {
			lookUpHost(r, t.external, t.port)
			h.Domains, h.Routes = t.external.Hosts, append([]*routev3.Route{otherPorts(t.port)}, h.Routes...)
		}
		HostFilter(h, SlotRBAC, perRoute(e.allow(admitsAt(g, t), t.asked())))
		e.sealRoutes(out, path, &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{h}})
	})
}
