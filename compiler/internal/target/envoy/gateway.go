package envoy

import (
	"cmp"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

// gatewayListener is a gateway's one listener: plain HTTP for anyone.
func (e *emitter) gatewayListener(g *model.Gateway) *entry {
	name := model.GatewayName(g.ID)
	return e.getFresh("listener "+name, func(out *entry) {
		l := newListener(name, cmp.Or(g.Host, model.AnyIPv4), g.Port, corev3.TrafficDirection_OUTBOUND)
		if g.Host == model.AnyAddress {
			l.Address = anyFamily(g.Port)
		}
		l.PerConnectionBufferLimitBytes = UInt32(hop.At(hop.Gateway).Buffer)
		l.FilterChains = []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{out.httpManager(atGateway, name)}}}
		e.seal(out, release.ListenerType, name, model.GatewayPath(g.ID), l)
	})
}

// gatewayConfig has a virtual host per host of the gateway. Once a host is
// chosen only its routes count, without falling back to a wildcard host.
func (e *emitter) gatewayConfig(g *model.Gateway) *entry {
	name := model.GatewayName(g.ID)
	return e.getFresh("route "+name, func(out *entry) {
		rc := &routev3.RouteConfiguration{Name: name}
		for _, h := range g.Hosts {
			vh := &routev3.VirtualHost{Name: h.Name, Domains: []string{strings.ToLower(h.Name)}}
			for _, r := range e.m.GatewayRoutes(g, h) {
				if route := e.gatewayRoute(g, h, r, out); route != nil {
					vh.Routes = append(vh.Routes, route)
				}
			}
			rc.VirtualHosts = append(rc.VirtualHosts, vh)
		}
		e.sealRoutes(out, model.GatewayPath(g.ID), rc)
	})
}

// gatewayRoute is one rule of the expansion. Its name joins both mesh paths, so
// that a log line tells the gateway's route and the service's.
func (e *emitter) gatewayRoute(g *model.Gateway, h model.Host, r model.EffectiveRoute, out *entry) *routev3.Route {
	path := model.GatewayRoutePath(g.ID, h.Name, r.Gateway.Name)
	if len(r.Lost) > 0 {
		out.problem(diag.New(diag.CodeSplit, e.at(path),
			"the services of this split differ in %s, and one weighted route has only one of each", strings.Join(r.Lost, ", ")).
			WithFix("set the same values on the services' routes, or set them on the gateway's route"))
		return nil
	}
	if r.NotFound {
		match, err := routeMatch(r.Match)
		if err != nil {
			out.problem(diag.New(diag.CodeMatch, e.at(path), "%v", err))
			return nil
		}
		return notFound(path, match)
	}
	x := Ctx{Service: r.Service, Gateway: g}
	name := path
	if r.Service != nil {
		x.Port, _ = r.Service.Port(r.Port)
		if r.Inner.Name != "" {
			name += "/" + model.RoutePath(r.Service.ID, r.Inner.Name)
		}
	} else if r.External != nil {
		x.Port, _ = r.External.Port(r.Port)
	}
	return e.buildRoute(routeSpec{name: name, path: path, match: r.Match, shares: e.shares(r.To), traits: r.Traits, x: x}, out)
}

// gatewayNeeds adds the clusters of all routes of a gateway.
func (e *emitter) gatewayNeeds(g *model.Gateway, n needs) {
	for _, h := range g.Hosts {
		for _, r := range e.m.GatewayRoutes(g, h) {
			path := model.GatewayRoutePath(g.ID, h.Name, r.Gateway.Name)
			traits := e.routeTraits(r.Traits, path)
			for _, t := range r.To {
				if to, ok := e.destination(t.Service, t.Port); ok && t.Weight > 0 {
					if to.service != nil {
						to.version, _ = to.service.Version(t.Version)
					}
					n.add(to, traits)
				}
			}
			e.used(r.Traits, n)
		}
	}
}
