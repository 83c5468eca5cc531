package gatewayapi

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// maxListeners is how many a Gateway may have.
const maxListeners = 64

// gateway writes the Gateway, an HTTPRoute per host and one per host that sends plain HTTP
// elsewhere.
func (e *emitter) gateway(g *model.Gateway) {
	spec := gatewaySpec{GatewayClassName: GatewayClass, Listeners: e.listeners(g)}
	if g.Host != "" && g.Host != model.AnyIPv4 && g.Host != model.AnyAddress {
		spec.Addresses = []gwAddr{{Type: "IPAddress", Value: g.Host}}
	}
	if n := len(spec.Listeners); n > maxListeners {
		e.problem(diag.New(diag.CodeLowering, e.at(model.GatewayPath(g.ID)), "the gateway-api target: the gateway has %d listeners, one for each host with `tls`, Gateway API allows %d", n, maxListeners))
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
		plain, secure := doors(g, h)
		kind, hostnames := hostObject(h.Name)
		if h.TLS != nil && h.TLS.Plain == model.PlainRedirect && len(plain) > 0 {
			to := RequestRedirect{Scheme: "https", Port: g.TLSPort(h).Number, StatusCode: redirectCode}
			e.write(object{version, "HTTPRoute", metadata{fitName(g.Name + ".plain-" + kind), g.Namespace},
				routeSpec{plain, hostnames, []Rule{{Filters: []Filter{{Type: "RequestRedirect", RequestRedirect: &to}}}}}})
			plain = nil
		}
		e.routes(g.Namespace, g.Name+"."+kind, append(plain, secure...), hostnames, rs)
	}
}

// redirectCode keeps the method and body of a request.
const redirectCode = 308

// doors are the listeners at which a host is. A gateway with one of them needs not name it.
func doors(g *model.Gateway, h model.Host) (plain, secure []ParentRef) {
	for _, name := range h.Ports {
		p, _ := g.Port(name)
		ref := ParentRef{Kind: "Gateway", Name: g.Name, SectionName: p.Name}
		switch {
		case p.Protocol == model.HTTPS:
			ref.SectionName = secureListener(p, h)
			secure = append(secure, ref)
		case len(g.Ports) == 1:
			ref.SectionName = ""
			plain = append(plain, ref)
		default:
			plain = append(plain, ref)
		}
	}
	return plain, secure
}

// secureListener names the listener of a host: here certificates belong to listeners.
func secureListener(p model.Port, h model.Host) string {
	kind, _ := hostObject(h.Name)
	return fitName(p.Name + "." + kind)
}

func (e *emitter) listeners(g *model.Gateway) []listener {
	var out []listener
	for _, p := range g.Ports {
		if p.Protocol == model.HTTP {
			out = append(out, listener{Name: p.Name, Port: p.Number, Protocol: "HTTP"})
			continue
		}
		for _, h := range g.HostsAt(p.Name) {
			e.checkTLS(g, h)
			l := listener{Name: secureListener(p, h), Port: p.Number, Protocol: "HTTPS", TLS: &listenerTLS{Mode: "Terminate"}}
			if _, hostnames := hostObject(h.Name); len(hostnames) > 0 {
				l.Hostname = hostnames[0]
			}
			for _, c := range h.TLS.Certificates {
				_, name, _ := strings.Cut(c.Secret, "/")
				l.TLS.CertificateRefs = append(l.TLS.CertificateRefs, certificateRef{Kind: "Secret", Name: name})
			}
			out = append(out, l)
		}
	}
	return out
}

// checkTLS refuses what a listener cannot say of a host.
func (e *emitter) checkTLS(g *model.Gateway, h model.Host) {
	at := e.at(model.GatewayHostPath(g.ID, h.Name))
	for _, c := range h.TLS.Certificates {
		if c.File != "" {
			e.problem(diag.New(diag.CodeUnsupported, e.at(model.CertificatePath(c.ID)), "the gateway-api target cannot say certificate %q: a listener's certificates are Secrets, and it is a file of the operator", c.ID))
		}
	}
	if h.TLS.Min != "1.2" {
		e.problem(diag.New(diag.CodeUnsupported, at, "the gateway-api target cannot say that host %q takes TLS %s and newer: each implementation has an option of its own", h.Name, h.TLS.Min))
	}
	plain := slices.ContainsFunc(h.Ports, func(name string) bool { p, _ := g.Port(name); return p.Protocol == model.HTTP })
	if plain && h.TLS.Plain == model.PlainRefuse {
		e.problem(diag.New(diag.CodeUnsupported, at, "the gateway-api target cannot say that host %q refuses plain HTTP: no filter answers 403", h.Name))
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
