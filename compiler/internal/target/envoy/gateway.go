package envoy

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/hop"
)

// gateway adds what the proxies of a gateway have.
func (s *snapshot) gateway(e *emitter, g *model.Gateway, n needs) {
	for _, p := range g.Ports {
		if p.Protocol == model.MeshTLS {
			s.exits(e, g, p, n)
			continue
		}
		if !p.Protocol.IsHTTP() {
			if len(g.Streams(p.Name)) > 0 {
				s.entries = append(s.entries, e.streamListener(g, p))
			}
			continue
		}
		if p.Protocol == model.HTTPS {
			groups := tlsGroups(g, p)
			if len(groups) == 0 && len(g.Streams(p.Name)) == 0 {
				continue // Envoy refuses a listener that takes no connection
			}
			s.entries = append(s.entries, e.tlsListener(g, p, groups))
			if groups := overUDP(g, groups); len(groups) > 0 {
				s.entries = append(s.entries, e.quicListener(g, p, groups))
			}
			for _, hosts := range groups {
				s.entries = append(s.entries, e.tlsConfig(g, p, hosts))
			}
			continue
		}
		s.entries = append(s.entries, e.plainListener(g, p), e.plainConfig(g, p))
	}
	e.gatewayNeeds(g, n)
}

// gatewayListener is a listener for anyone at a port of a gateway.
func gatewayListener(g *model.Gateway, p model.Port) *listenerv3.Listener {
	l := newListener(model.GatewayName(g.ID, p.Name), cmp.Or(g.Host, model.AnyIPv4), p.Number, corev3.TrafficDirection_OUTBOUND)
	if g.Host == model.AnyAddress {
		l.Address = anyFamily(p.Number)
	}
	l.PerConnectionBufferLimitBytes = UInt32(hop.At(hop.Gateway).Buffer)
	return l
}

// finishListener lets those have their say of a gateway's listener whose say comes last.
func (e *emitter) finishListener(g *model.Gateway, l *listenerv3.Listener, out *entry) {
	e.finish(l, g.Traits, &Ctx{Mesh: e.m, Gateway: g, path: model.GatewayPath(g.ID), out: out, locate: e.at, keys: e.profile.Keys})
}

// gatewayManager takes requests at a gateway. The scheme that HTTP/2 says is the visitor's word;
// the connection is not, nor is what proxies in front say that the gateway believes.
func (e *emitter) gatewayManager(g *model.Gateway, p model.Port, hosts []model.Host, routes string, out *entry) *hcmv3.HttpConnectionManager {
	x := Ctx{Gateway: g, path: model.GatewayPath(g.ID)}
	m := e.ownManager(atGateway, routes, g.Traits, x, out)
	e.door(m, g, hosts, x)
	if g.HTTP10 {
		m.HttpProtocolOptions = &corev3.Http1ProtocolOptions{AcceptHttp_10: true}
	}
	if g.TrustedHops > 0 {
		m.XffNumTrustedHops = g.TrustedHops
		m.EarlyHeaderMutationExtensions[0] = earlyMutations(hop.Gateway, true)
		return m
	}
	m.SchemeHeaderTransformation = &corev3.SchemeHeaderTransformation{Transformation: &corev3.SchemeHeaderTransformation_SchemeToOverwrite{SchemeToOverwrite: string(p.Protocol)}}
	return m
}

// door says on a gateway's manager what the routes of hosts cannot say.
func (e *emitter) door(m *hcmv3.HttpConnectionManager, g *model.Gateway, hosts []model.Host, x Ctx) {
	for _, name := range slices.Sorted(maps.Keys(e.cells)) {
		f := e.cells[name].Lowering.door
		if f == nil {
			continue
		}
		var of []Routed[trait.Value]
		for _, h := range hosts {
			if at := routed(g, h, name); slices.ContainsFunc(at, func(r Routed[trait.Value]) bool { return r.Says }) {
				of = append(of, at...)
			}
		}
		if len(of) > 0 {
			f(m, of, &x)
		}
	}
}

func routed(g *model.Gateway, h model.Host, name string) []Routed[trait.Value] {
	var out []Routed[trait.Value]
	for _, r := range h.Routes {
		if len(r.To) > 0 {
			v, says := r.Traits.Lookup(name)
			out = append(out, Routed[trait.Value]{h.Name, model.GatewayRoutePath(g.ID, h.Name, r.Name), v, says})
		}
	}
	return out
}

// believed tells those behind a gateway's route what it believes of a visitor, and nothing of what
// stood there before: one address, and one scheme. What intent itself makes of one of the headers
// stays; filters have done so before the router adds headers.
func (e *emitter) believed(g *model.Gateway, r model.EffectiveRoute, route *routev3.Route) {
	told := []struct{ name, value string }{{"x-forwarded-for", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}, {"x-forwarded-proto", "%REQ(:SCHEME)%"}}
	if g.TrustedHops == 0 { // Envoy has written both itself, but its own address for that of a visitor from its host
		if !e.asksVisitors(r.To) {
			return
		}
		told = told[:1]
	}
	for _, h := range told {
		edits := func(s trait.Set) bool {
			return slices.ContainsFunc(s.Image().Headers, func(e space.Edit) bool { return e.Name == h.name })
		}
		common, each := model.Apart(r.Traits, targetsOf(e.shares(r.To)))
		add := &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: h.name, Value: h.value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}
		switch {
		case edits(common):
		case !slices.ContainsFunc(each, edits):
			route.RequestHeadersToAdd = append(route.RequestHeadersToAdd, add)
		default: // what a route adds is added behind what its weighted clusters do
			for i, c := range route.GetRoute().GetWeightedClusters().GetClusters() {
				if !edits(each[i]) {
					c.RequestHeadersToAdd = append(c.RequestHeadersToAdd, add)
				}
			}
		}
	}
}

// asksVisitors reports whether some of the services to which a route sends ask for addresses of visitors.
func (e *emitter) asksVisitors(to []model.Target) bool {
	return slices.ContainsFunc(to, func(t model.Target) bool {
		s := e.m.Service(t.Service)
		return s != nil && s.AsksVisitors()
	})
}

// plainListener takes plain HTTP.
func (e *emitter) plainListener(g *model.Gateway, p model.Port) *entry {
	name := model.GatewayName(g.ID, p.Name)
	return e.getFresh("listener "+name, func(out *entry) {
		l := gatewayListener(g, p)
		l.FilterChains = []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{filter(filterHCM, e.gatewayManager(g, p, g.HostsAt(p.Name), name, out))}}}
		believeProxies(l, g.Says[p.Name].Proxies)
		e.finishListener(g, l, out)
		e.seal(out, release.ListenerType, name, model.GatewayPath(g.ID), l)
	})
}

// plainConfig has a virtual host per host of the gateway that plain HTTP reaches. Once a host
// is chosen only its routes count, without falling back to a wildcard host.
func (e *emitter) plainConfig(g *model.Gateway, p model.Port) *entry {
	name := model.GatewayName(g.ID, p.Name)
	return e.getFresh("route "+name, func(out *entry) {
		rc := &routev3.RouteConfiguration{Name: name}
		for _, h := range g.HostsAt(p.Name) {
			rc.VirtualHosts = append(rc.VirtualHosts, e.plainHost(g, p, h, out))
		}
		e.sealRoutes(out, model.GatewayPath(g.ID), rc)
	})
}

func (e *emitter) gatewayHost(g *model.Gateway, h model.Host, out *entry) *routev3.VirtualHost {
	vh, refused, shadow := virtualHost(h), visitorDenials(g, g.Denies, h, h.Denies), visitorDenials(g, g.ShadowDenies, h, h.ShadowDenies)
	logins := e.m.LoginIDsAt(g, h)
	again := newAgain(h)
	for _, r := range e.m.GatewayRoutes(g, h) {
		path := model.GatewayRoutePath(g.ID, h.Name, r.Outer.Name)
		for _, route := range e.effectiveRoute(path, r, Ctx{Gateway: g, Again: again != nil}, out) {
			if len(refused.Policies)+len(shadow.Policies) > 0 { // not on the virtual host: to what no proxy takes it answers 400
				RouteFilter(route, SlotDeny, counting(refused, shadow))
			}
			keepSessions(route, logins)
			e.believed(g, r, route)
			vh.Routes = append(vh.Routes, route)
			again.add(path, r.NotFound, route)
		}
	}
	return e.chosenAgain(vh, again, out)
}

func virtualHost(h model.Host) *routev3.VirtualHost {
	return &routev3.VirtualHost{Name: h.Name, Domains: []string{strings.ToLower(h.Name)}}
}

// gatewayNeeds adds the clusters of all routes of a gateway.
func (e *emitter) gatewayNeeds(g *model.Gateway, n needs) {
	e.streamNeeds(g, n)
	for _, h := range g.Hosts {
		for _, r := range e.m.GatewayRoutes(g, h) {
			path := model.GatewayRoutePath(g.ID, h.Name, r.Outer.Name)
			traits := e.routeTraits(r.Traits, path)
			e.routeNeeds(r, traits, n)
			e.used(r.Traits, n)
		}
	}
}
