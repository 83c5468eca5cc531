package envoy

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
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
// closed: what intent does not name cannot be called.
func (e *emitter) captureListener() *entry {
	return e.get("listener "+captureOutbound, nil, func(out *entry) {
		l := newListener(captureOutbound, anyAddress, OutboundPort, corev3.TrafficDirection_OUTBOUND)
		l.UseOriginalDst = Bool(true)
		l.ListenerFilters = []*listenerv3.ListenerFilter{originalDst()}
		l.FilterChains = []*listenerv3.FilterChain{{Name: "unknown", Filters: []*listenerv3.Filter{closeFilter()}}}
		e.seal(out, release.ListenerType, captureOutbound, "", l)
	})
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
func (e *emitter) portListener(port uint32, ts []target) *entry {
	name, key := portName(port), "listener "+portName(port)
	tcp := !ts[0].port.Protocol.IsHTTP()
	var of []given // HTTP: nothing of the destinations
	if tcp {
		key += " " + ts[0].path()
		of = givenTargets(ts[:1])
	}
	return e.get(key, of, func(out *entry) {
		l := newListener(name, anyAddress, port, corev3.TrafficDirection_OUTBOUND)
		l.BindToPort = Bool(false)
		routes, path := name, ""
		if tcp {
			routes, path = model.OutboundName(ts[0].id(), ts[0].port.Name), ts[0].path()
		}
		l.FilterChains = []*listenerv3.FilterChain{{Filters: e.outboundFilters(ts[0], routes, out)}}
		e.seal(out, release.ListenerType, name, path, l)
	})
}

// portConfig is the RouteConfiguration for one port number and dependency set,
// with one virtual host per destination. Ports in Host are stripped before
// virtual hosts are matched, so domains have none.
func (e *emitter) portConfig(namespace string, port uint32, ts []target) *entry {
	key := "route " + portName(port)
	for _, t := range ts {
		key += " " + t.path() + "/" + t.port.Name + localMark(namespace, t)
	}
	return e.get(key, givenTargets(ts), func(out *entry) {
		rc := &routev3.RouteConfiguration{Name: portName(port)}
		for _, t := range ts {
			rc.VirtualHosts = append(rc.VirtualHosts, &routev3.VirtualHost{
				Name: t.id(), Domains: domains(namespace, t), Routes: e.targetRoutes(t, out),
			})
		}
		e.sealRoutes(out, ts[0].path(), rc)
	})
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
	ns, name := splitID(t.id())
	out := []string{name + "." + ns, name + "." + ns + ".svc", name + "." + ns + ".svc.cluster.local"}
	if ns == namespace {
		out = append([]string{name}, out...)
	}
	return out
}

// callPath is the mesh path of the class's first call of that destination.
func callPath(c scope, id string) string {
	for _, mb := range c.members {
		if slices.ContainsFunc(mb.service.Calls, func(k model.Call) bool { return k.To == id }) {
			return model.ServicePath(mb.service.ID) + "/calls/" + id
		}
	}
	return c.origin()
}

// byPort groups a class's destinations by port number, and reports those that a
// proxy cannot tell apart: bytes carry no host, so a TCP destination needs its
// port number for itself.
func (e *emitter) byPort(c scope, ts []target) (map[uint32][]target, diag.List) {
	out := map[uint32][]target{}
	var problems diag.List
	for _, t := range ts {
		n := t.port.Number
		if n == OutboundPort || n == InboundPort {
			problems = append(problems, diag.New(diag.CodeSharedPort, e.at(t.path()),
				"port %d of %q is the port at which sidecars take redirected traffic", n, t.id()).WithFix("give it another port number"))
			continue
		}
		i := slices.IndexFunc(out[n], func(o target) bool {
			return !o.port.Protocol.IsHTTP() || !t.port.Protocol.IsHTTP()
		})
		if i >= 0 {
			problems = append(problems, diag.New(diag.CodeSharedPort, e.at(callPath(c, t.id())),
				"proxies of %s call %q and %q on port %d and cannot tell a TCP destination by its port alone", c.class, out[n][i].id(), t.id(), n).
				WithRelated(e.at(callPath(c, out[n][i].id())), "the other call").WithFix("give one of the two another port number"))
			continue
		}
		out[n] = append(out[n], t)
	}
	return out, problems
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
		l := newListener(captureInbound, anyAddress, InboundPort, corev3.TrafficDirection_INBOUND)
		l.ListenerFilters = []*listenerv3.ListenerFilter{originalDst()}
		tls := false
		for _, b := range binds {
			for _, chain := range e.inboundChains(b.service, b.port, b.version, out) {
				match := &listenerv3.FilterChainMatch{DestinationPort: UInt32(b.number), TransportProtocol: transportPlaintext}
				if chain.TransportSocket != nil {
					tls = true
					match.TransportProtocol = transportTLS
					match.ApplicationProtocols = []string{alpnHTTP, alpnTCP}
				}
				chain.Name += "/" + portText(b.number)
				chain.FilterChainMatch = match
				l.FilterChains = append(l.FilterChains, chain)
			}
		}
		if tls {
			l.ListenerFilters = append(l.ListenerFilters, tlsInspector())
		}
		e.seal(out, release.ListenerType, captureInbound, model.ServicePath(binds[0].service.ID), l)
	})
}
