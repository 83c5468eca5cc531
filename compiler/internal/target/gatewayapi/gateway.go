package gatewayapi

import (
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// gateway writes the Gateway and an HTTPRoute per host. Without a listener there is none.
func (e *emitter) gateway(g *model.Gateway) {
	spec := gatewaySpec{GatewayClassName: GatewayClass, Listeners: e.listeners(g)}
	if len(spec.Listeners) == 0 {
		return
	}
	if g.Host != "" && g.Host != model.AnyIPv4 && g.Host != model.AnyAddress {
		spec.Addresses = []gwAddr{{Type: "IPAddress", Value: g.Host}}
	}
	e.write(object{version, "Gateway", metadata{g.Name, g.Namespace}, spec})
	for _, h := range g.Hosts {
		var rs []rule
		for _, r := range e.m.GatewayRoutes(g, h) {
			rs = e.effective(rs, model.GatewayRoutePath(g.ID, h.Name, r.Outer.Name), r)
		}
		kind, hostnames := hostObject(h.Name)
		doors := doors(g, h)
		if len(doors) == 0 {
			continue // a gap closes a host, and does not open it
		}
		e.routes(g.Namespace, g.Name+"."+kind, doors, hostnames, rs)
		if plain := plainDoors(g, h); h.TLS != nil && h.TLS.Plain == model.PlainRedirect && len(plain) > 0 {
			e.write(object{version, "HTTPRoute", metadata{fitName(g.Name + ".plain." + kind), g.Namespace}, routeSpec{plain, hostnames, []Rule{toHTTPS(g.TLSPort(h))}}})
		}
	}
}

// doors are the listeners at which a host's routes are. A gateway with one of them needs not
// name it.
func doors(g *model.Gateway, h model.Host) []ParentRef {
	var out []ParentRef
	for _, name := range h.Ports {
		if p, _ := g.Port(name); p.Protocol == model.HTTPS && shows(h) {
			out = append(out, ParentRef{Kind: "Gateway", Name: g.Name, SectionName: tlsListener(p, h)})
		}
	}
	if h.TLS == nil || h.TLS.Plain == model.PlainServe {
		out = append(out, plainDoors(g, h)...)
	}
	return out
}

// plainDoors are the listeners at which a host is by plain HTTP.
func plainDoors(g *model.Gateway, h model.Host) []ParentRef {
	if len(g.Ports) == 1 && g.Ports[0].Protocol == model.HTTP {
		return []ParentRef{{Kind: "Gateway", Name: g.Name}}
	}
	var out []ParentRef
	for _, name := range h.Ports {
		if p, _ := g.Port(name); p.Protocol == model.HTTP {
			out = append(out, ParentRef{Kind: "Gateway", Name: g.Name, SectionName: name})
		}
	}
	return out
}

// toHTTPS leads every request to the same place by HTTPS, with the method and body that
// it had.
func toHTTPS(to model.Port) Rule {
	r := &RequestRedirect{Scheme: "https", StatusCode: permanentRedirect}
	if to.Number != 443 { // else it is what the scheme says
		r.Port = to.Number
	}
	return Rule{Filters: []Filter{{Type: "RequestRedirect", RequestRedirect: r}}}
}

// permanentRedirect is 308 of RFC 9110, section 15.4.9.
const permanentRedirect = 308

// maxListeners is how many a Gateway may have.
const maxListeners = 64

// listeners are one for each port that speaks plain HTTP, and one for each host at a port
// that speaks HTTPS: a listener has the certificates of one name.
func (e *emitter) listeners(g *model.Gateway) []listener {
	var out []listener
	for _, p := range g.Ports {
		if p.Protocol == model.HTTP {
			out = append(out, listener{Name: p.Name, Port: p.Number, Protocol: "HTTP"})
			continue
		}
		for _, h := range g.HostsAt(p.Name) {
			if !shows(h) {
				continue
			}
			l := listener{Name: tlsListener(p, h), Port: p.Number, Protocol: "HTTPS", TLS: &listenerTLS{Mode: "Terminate", CertificateRefs: certificateRefs(h)}}
			if _, names := hostObject(h.Name); len(names) > 0 {
				l.Hostname = names[0]
			}
			out = append(out, l)
		}
	}
	if len(out) > maxListeners {
		e.problem(diag.New(diag.CodeLowering, e.at(model.GatewayPath(g.ID)), "the gateway-api target: gateway %q needs %d listeners, one for each of its hosts with `tls`, and Gateway API allows %d", g.ID, len(out), maxListeners))
	}
	return out
}

// tlsListener is the name of a host's listener at a port.
func tlsListener(p model.Port, h model.Host) string {
	kind, _ := hostObject(h.Name)
	return fitName(p.Name + "." + kind)
}

// certificateRefs are the Secrets, of the gateway's own namespace, that a host shows. Files are a gap.
func certificateRefs(h model.Host) []certificateRef {
	var out []certificateRef
	for _, c := range h.TLS.Certificates {
		if _, name, is := strings.Cut(c.Secret, "/"); is {
			out = append(out, certificateRef{Name: name})
		}
	}
	return out
}

// shows reports whether a listener can say what the host shows to visitors.
func shows(h model.Host) bool { return h.TLS != nil && len(certificateRefs(h)) > 0 }

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
