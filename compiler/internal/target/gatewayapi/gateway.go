package gatewayapi

import (
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// gateway writes the Gateway and an HTTPRoute per host.
func (e *emitter) gateway(g *model.Gateway) {
	spec := gatewaySpec{GatewayClassName: GatewayClass, Listeners: e.listeners(g)}
	if g.Host != "" && g.Host != model.AnyIPv4 && g.Host != model.AnyAddress {
		spec.Addresses = []gwAddr{{Type: "IPAddress", Value: g.Host}}
	}
	e.write(object{version, "Gateway", metadata{g.Name, g.Namespace}, spec})
	for _, h := range g.Hosts {
		var rs []rule
		for _, r := range e.m.GatewayRoutes(g, h) {
			path := model.GatewayRoutePath(g.ID, h.Name, r.Gateway.Name)
			if len(r.Lost) > 0 {
				e.problem(diag.New(diag.CodeSplit, e.at(path), "the services of this split differ in %s, and one weighted route has only one of each", strings.Join(r.Lost, ", ")))
				continue
			}
			rs = append(rs, rule{path: path, match: r.Match, to: r.To, traits: r.Traits, notFound: r.NotFound})
		}
		kind, hostnames := hostObject(h.Name)
		e.routes(g.Namespace, g.Name+"."+kind, doors(g, h), hostnames, rs)
	}
}

// doors are the listeners at which a host is. A gateway with one of them needs not name it.
func doors(g *model.Gateway, h model.Host) []ParentRef {
	if len(g.Ports) == 1 {
		return []ParentRef{{Kind: "Gateway", Name: g.Name}}
	}
	var out []ParentRef
	for _, name := range h.Ports {
		out = append(out, ParentRef{Kind: "Gateway", Name: g.Name, SectionName: name})
	}
	return out
}

// listeners are the ports that speak plain HTTP. Those for HTTPS are refused.
func (e *emitter) listeners(g *model.Gateway) []listener {
	var out []listener
	for _, p := range g.Ports {
		if p.Protocol == model.HTTP {
			out = append(out, listener{Name: p.Name, Port: p.Number, Protocol: "HTTP"})
			continue
		}
		for _, h := range g.HostsAt(p.Name) {
			e.checkTLS(h)
		}
	}
	return out
}

// checkTLS refuses what a listener cannot say of a host.
func (e *emitter) checkTLS(h model.Host) {
	for _, c := range h.TLS.Certificates {
		e.problem(diag.New(diag.CodeUnsupported, e.at(model.CertificatePath(c.ID)), "the gateway-api target cannot say certificate %q: a listener's certificates are Secrets, and it is a file of the operator", c.ID))
	}
}

// hostObject is the end of the name of a host's HTTPRoute, and its hostnames. Names of
// gateways have no dot, so the second label tells the kinds apart.
func hostObject(host string) (name string, hostnames []string) {
	switch suffix, wild := strings.CutPrefix(host, "*."); {
	case host == "*":
		return "all", nil
	case wild:
		return "wild." + suffix, []string{host}
	}
	return "host." + host, []string{host}
}
