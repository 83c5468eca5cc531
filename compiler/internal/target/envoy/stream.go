package envoy

import (
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
)

const listenerProxy = "envoy.filters.listener.proxy_protocol"

// streamListener takes connections whose bytes go on as they are.
func (e *emitter) streamListener(g *model.Gateway, p model.Port) *entry {
	name := model.GatewayName(g.ID, p.Name)
	return e.getFresh("listener "+name, func(out *entry) {
		l := gatewayListener(g, p)
		if p.Protocol == model.TLS {
			l.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
			waitForHello(l, false)
		}
		l.FilterChains = e.streamChains(g, p, out)
		believeProxies(l, g.Says[p.Name].Proxies)
		e.finishListener(g, l, out)
		e.seal(out, release.ListenerType, name, model.GatewayPath(g.ID), l)
	})
}

// streamChains are the routes of connections at a port. Envoy looks for the longest name and then for
// the longest prefix, as model.Gateway.StreamAt does. "*" is no name to it: what takes all has a
// chain of its own.
func (e *emitter) streamChains(g *model.Gateway, p model.Port, out *entry) []*listenerv3.FilterChain {
	var chains []*listenerv3.FilterChain
	for _, s := range g.Streams(p.Name) {
		path := model.GatewayStreamPath(g.ID, p.Name, s.Name)
		named := slices.DeleteFunc(slices.Clone(s.SNI), func(n string) bool { return n == anyHost })
		if len(named) < len(s.SNI) || len(s.SNI) == 0 {
			chains = append(chains, e.streamChain(path, p, s, nil, out))
		}
		if len(named) > 0 {
			chains = append(chains, e.streamChain(path+"/names", p, s, named, out))
		}
	}
	return chains
}

func (e *emitter) streamChain(name string, p model.Port, s model.Stream, names []string, out *entry) *listenerv3.FilterChain {
	chain := chainOf(e.streamFilter(name, s, out))
	chain.Name, chain.FilterChainMatch = name, &listenerv3.FilterChainMatch{ServerNames: names}
	if p.Protocol != model.TCP {
		chain.FilterChainMatch.TransportProtocol = transportTLS
	}
	chain.FilterChainMatch.SourcePrefixRanges = ranges(s.Sources)
	return chain
}

// streamFilter passes bytes on, as the destinations say that they want connections.
func (e *emitter) streamFilter(name string, s model.Stream, out *entry) *listenerv3.Filter {
	shares := e.shares(e.m.StreamTargets(s))
	if len(shares) == 0 {
		return closeFilter()
	}
	bytes := out.forwardBytes(name, shares)
	first, _ := e.destination(s.To[0].Service, s.To[0].Port)
	x := Ctx{Mesh: e.m, Service: first.service, External: first.external, Port: first.port, path: first.path(), out: out, locate: e.at}
	e.ofDestinations(shares, func(l Lowering, vs []trait.Value) {
		if l.connectionsTo != nil {
			l.connectionsTo(bytes, vs, &x)
		}
	})
	return filter(filterTCP, bytes)
}

// streamNeeds adds the clusters of all connections of a gateway.
func (e *emitter) streamNeeds(g *model.Gateway, n needs) {
	for _, p := range g.Ports {
		for _, s := range g.Streams(p.Name) {
			e.needsOf(e.m.StreamTargets(s), nil, n)
		}
	}
}

// believeProxies lets a listener take connections from these proxies alone, and believe where they say
// that each comes from; one that does not say it is closed. Chains look at the connection itself for who
// the proxy is (direct source), at its word for all else.
func believeProxies(l *listenerv3.Listener, from []string) {
	if len(from) == 0 {
		return
	}
	l.ListenerFilters = append([]*listenerv3.ListenerFilter{{Name: listenerProxy, ConfigType: &listenerv3.ListenerFilter_TypedConfig{
		TypedConfig: pack(&proxyprotocolv3.ProxyProtocol{}),
	}}}, l.ListenerFilters...)
	waitForHello(l, false) // who says nothing is nobody
	for _, c := range l.FilterChains {
		if c.FilterChainMatch == nil {
			c.FilterChainMatch = &listenerv3.FilterChainMatch{}
		}
		c.FilterChainMatch.DirectSourcePrefixRanges = ranges(from)
	}
}

func ranges(prefixes []string) []*corev3.CidrRange {
	var out []*corev3.CidrRange
	for _, text := range prefixes {
		out = append(out, cidr(netip.MustParsePrefix(text))) // as resolve has read it
	}
	return out
}
