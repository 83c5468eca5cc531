package envoy

import (
	"cmp"
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
)

// The ports to which redirection rules send a workload's traffic.
const (
	OutboundPort = 15001
	InboundPort  = 15006
)

// Names of the listeners at those ports.
const (
	captureOutbound = "outbound"
	captureInbound  = "inbound"
)

// captureListener takes all redirected connections of a workload and hands each
// to the listener of its original port. Where there is none, the connection is
// closed: what intent does not name cannot be called. With an open mode of egress it goes on, unless it was dialled here
// itself, where it would come back for ever.
func (e *emitter) captureListener(mode model.Openness) *entry {
	return e.get("listener "+captureOutbound+" "+string(mode), nil, func(out *entry) {
		l := transparentListener(captureOutbound, OutboundPort, corev3.TrafficDirection_OUTBOUND)
		l.UseOriginalDst = Bool(true)
		l.ListenerFilters = []*listenerv3.ListenerFilter{originalDst()}
		l.FilterChains = []*listenerv3.FilterChain{{Name: "unknown", Filters: []*listenerv3.Filter{closeFilter()}}}
		if name := undeclaredName(mode); mode != "" {
			l.FilterChains[0].Name, l.FilterChains[0].FilterChainMatch = "here", &listenerv3.FilterChainMatch{DestinationPort: UInt32(OutboundPort)}
			chain := chainOf(out.tcpProxy(name, []share{{cluster: name, weight: 1}}))
			chain.Name = name
			l.FilterChains = append(l.FilterChains, chain)
		}
		e.seal(out, release.ListenerType, captureOutbound, "", l)
	})
}

// transparentListener takes connections of both families.
func transparentListener(name string, port uint32, dir corev3.TrafficDirection) *listenerv3.Listener {
	l := newListener(name, "", port, dir)
	l.Address = anyFamily(port)
	return l
}

func originalDst() *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{Name: listenerDst, ConfigType: &listenerv3.ListenerFilter_TypedConfig{
		TypedConfig: pack(&originaldstv3.OriginalDst{}),
	}}
}

// portName is the RouteConfiguration and listener of all HTTP destinations of a
// class on one port number. The name does not depend on which they are, so a new
// dependency changes routes and leaves the listener alone.
func portName(port uint32) string { return captureOutbound + "/" + portText(port) }

// portListener takes a workload's connections to one port number.
func (e *emitter) portListener(d *dial) *entry {
	name := portName(d.number)
	proven := !d.isHTTP() && len(d.proven()) > 0
	key := fmt.Sprintf("listener %s %v %v", name, d.isHTTP(), proven) // HTTP: nothing of the destinations
	origin := ""
	if proven {
		origin = d.proven()[0].path()
		key += " " + origin
	}
	for _, t := range slices.Concat(d.bound, d.secret) {
		origin = cmp.Or(origin, t.path())
		key += fmt.Sprintf(" %s/%s %v", t.path(), t.port.Name, t.addresses())
	}
	key += d.beyond.mark()
	return e.get(key, givenTargets(slices.Concat(d.bound, d.secret)), func(out *entry) {
		l := transparentListener(name, d.number, corev3.TrafficDirection_OUTBOUND)
		l.BindToPort = Bool(false)
		for _, t := range d.secret {
			l.FilterChains = append(l.FilterChains, e.namedTLS(t, l, out))
		}
		for _, t := range d.bound {
			chain := chainOf(e.outboundFilters(t, model.OutboundName(t.id(), t.port.Name), out)...)
			chain.Name = t.id()
			chain.FilterChainMatch = &listenerv3.FilterChainMatch{}
			for _, p := range t.addresses() {
				chain.FilterChainMatch.PrefixRanges = append(chain.FilterChainMatch.PrefixRanges, cidr(p))
			}
			l.FilterChains = append(l.FilterChains, chain)
		}
		switch {
		case d.isHTTP():
			chain := chainOf(out.httpManager(atCaller, name))
			if len(d.secret) > 0 { // TLS that asks for another name is nobody's
				chain.FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: transportPlaintext}
			}
			l.FilterChains = append(l.FilterChains, chain)
		case proven:
			l.FilterChains = append(l.FilterChains, chainOf(out.tcpProxy(name, []share{{cluster: dialledName(d.number), weight: 1}})))
		}
		if d.beyond != nil {
			d.open(l, out)
		}
		e.seal(out, release.ListenerType, name, origin, l)
	})
}

// namedTLS is the chain of TLS that the callers themselves begin with one of an external's hosts: the
// name that they ask for (SNI) is read, nothing of what is inside. l has to look for it. What
// asks for no name, or for another one, has no chain, and its connection is closed.
func (e *emitter) namedTLS(t target, l *listenerv3.Listener, out *entry) *listenerv3.FilterChain {
	if len(l.ListenerFilters) == 0 {
		l.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
		waitForHello(l, false)
	}
	chain := chainOf(e.outboundFilters(t, model.OutboundName(t.id(), t.port.Name), out)...)
	chain.Name = t.id()
	chain.FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: transportTLS}
	if hosts := t.external.Hosts; !slices.Contains(hosts, "*") { // for which Envoy has no word: any name
		chain.FilterChainMatch.ServerNames = hosts
	}
	return chain
}

// portConfig is the RouteConfiguration for one port number and dependency set,
// with one virtual host per destination. Ports in Host are stripped before
// virtual hosts are matched, so domains have none.
func (e *emitter) portConfig(namespace string, d *dial) *entry {
	key, origin := "route "+portName(d.number), ""
	for _, t := range d.named {
		key += " " + t.path() + "/" + t.port.Name + localMark(namespace, t) + t.mark()
	}
	pods := podDomains(namespace, d)
	key += fmt.Sprintf(" pods %q", pods) + d.beyond.mark()
	switch {
	case len(d.named) > 0:
		origin = d.named[0].path()
	case len(d.requests) > 0:
		origin = d.requests[0].path()
		key += " " + origin
	default: // nothing is called there
	}
	return e.get(key, givenTargets(d.named), func(out *entry) {
		rc := &routev3.RouteConfiguration{Name: portName(d.number)}
		for _, t := range d.named {
			rc.VirtualHosts = append(rc.VirtualHosts, &routev3.VirtualHost{
				Name: t.id(), Domains: domains(namespace, t), Routes: e.targetRoutes(t, out),
			})
		}
		if len(d.requests) > 0 {
			rc.VirtualHosts = append(rc.VirtualHosts, dialledHosts(d.number, pods, out)...)
		}
		if d.beyond != nil {
			d.openHosts(rc, out)
		}
		e.sealRoutes(out, origin, rc)
	})
}

// podDomains are the names of single pods of what may be dialled, as a headless Service
// gives them: pod-0.db.shop.svc.cluster.local.
func podDomains(namespace string, d *dial) []string {
	var out []string
	taken := map[string]bool{}
	for _, t := range d.named {
		for _, h := range domains(namespace, t) {
			taken[h] = true
		}
	}
	for _, t := range d.requests {
		names := domains(namespace, t)
		if t.service != nil { // its hosts are names of none of its pods
			names = model.NamesFor(t.id(), namespace)
		}
		for _, h := range names {
			if h = "*." + h; !taken[h] {
				taken[h] = true
				out = append(out, h)
			}
		}
	}
	return out
}

// anAddress is a Host that is an IP address, with or without a port.
const anAddress = `([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?`

// podsByAddress is the virtual host of requests to addresses.
const podsByAddress = "pods by address"

// dialledHosts are the virtual hosts of requests to single pods, by the pod's name or by
// address: the pod that was dialled is the pod that is reached. Routes have no part in
// it, for they choose.
func dialledHosts(port uint32, pods []string, out *entry) []*routev3.VirtualHost {
	to := func(match *routev3.RouteMatch) []*routev3.Route {
		action := out.forward([]share{{cluster: dialledName(port), weight: 1}})
		action.Route.Timeout = Duration(answerTimeout)
		match.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
		return []*routev3.Route{{Name: dialledName(port), Match: match, Action: action}}
	}
	return []*routev3.VirtualHost{
		{Name: "pods by name", Domains: pods, Routes: to(&routev3.RouteMatch{})},
		{Name: podsByAddress, Domains: []string{"*"}, Routes: to(&routev3.RouteMatch{Headers: []*routev3.HeaderMatcher{{
			Name: ":authority", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: anAddress}},
			}},
		}}})},
	}
}

// localMark tells a destination of the caller's own namespace from others: only
// it may be called by its short name, as in the DNS of a cluster.
func localMark(namespace string, t target) string {
	if ns, _ := splitID(t.id()); ns == namespace {
		return " local"
	}
	return ""
}

func domains(namespace string, t target) []string {
	if t.external != nil && len(t.external.Hosts) > 0 {
		return t.external.Hosts
	}
	if t.service != nil {
		return t.service.NamesFor(namespace)
	}
	return model.NamesFor(t.id(), namespace)
}

// callPath is the mesh path of the class's first call of that destination.
func callPath(c scope, id string) string {
	for _, mb := range c.members {
		if i := slices.IndexFunc(mb.service.Calls, func(k model.Call) bool { return k.To == id }); i >= 0 {
			return mb.service.CallPath(mb.service.Calls[i])
		}
	}
	return c.origin()
}

// captureInboundListener takes redirected connections to a workload: a chain per
// port and way in. There is no chain for an application's own TLS: its bytes
// could not be authorized.
func (e *emitter) captureInboundListener(c scope, binds []bind) *entry {
	var of []given
	for _, b := range binds {
		of = append(of, b.given()...)
	}
	return e.get("listener "+captureInbound+" "+c.class.String(), of, func(out *entry) {
		l := transparentListener(captureInbound, InboundPort, corev3.TrafficDirection_INBOUND)
		l.ListenerFilters = []*listenerv3.ListenerFilter{originalDst()}
		var tls, both []uint32 // ports
		for _, b := range binds {
			if b.port.MTLS == model.Permissive {
				both = append(both, b.number)
			}
			for _, chain := range e.inboundChains(b.service, b.port, b.version, out) {
				match := &listenerv3.FilterChainMatch{DestinationPort: UInt32(b.number), TransportProtocol: transportPlaintext}
				if chain.TransportSocket != nil {
					tls = append(tls, b.number)
					match.TransportProtocol = transportTLS
					match.ApplicationProtocols = []string{alpnHTTP, alpnTCP}
					if b.port.Protocol == model.GRPC { // programs without a proxy offer no word of ours
						match.ApplicationProtocols = append(match.ApplicationProtocols, alpnProgram)
					}
				}
				chain.Name += "/" + portText(b.number)
				chain.FilterChainMatch = match
				l.FilterChains = append(l.FilterChains, chain)
			}
		}
		if len(binds) == 0 {
			// It only calls. What is redirected still has an end, by which the agent sees that it is.
			l.FilterChains = []*listenerv3.FilterChain{{Name: "closed", Filters: []*listenerv3.Filter{closeFilter()}}}
		}
		if len(tls) > 0 {
			inspector := tlsInspector()
			inspector.FilterDisabled = exceptPorts(tls)
			l.ListenerFilters = append(l.ListenerFilters, inspector)
			waitForHello(l, len(both) > 0)
		}
		e.seal(out, release.ListenerType, captureInbound, c.origin(), l)
	})
}

// exceptPorts matches connections to all ports but these: there is nothing to wait for
// before they are closed, or before a server that speaks first does so.
func exceptPorts(ports []uint32) *listenerv3.ListenerFilterChainMatchPredicate {
	one := make([]*listenerv3.ListenerFilterChainMatchPredicate, len(ports))
	for i, p := range ports {
		one[i] = &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange{
			DestinationPortRange: &typev3.Int32Range{Start: int32(p), End: int32(p) + 1},
		}}
	}
	rule := one[0]
	if len(one) > 1 { // a set has two at least
		rule = &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_OrMatch{
			OrMatch: &listenerv3.ListenerFilterChainMatchPredicate_MatchSet{Rules: one},
		}}
	}
	return &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_NotMatch{NotMatch: rule}}
}
