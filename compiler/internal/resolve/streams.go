package resolve

import (
	"slices"
	"strconv"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// portSays reads what a gateway's ports say besides where they are.
func (l *linker) portSays(p *pkg, g *model.Gateway, n intent.Node) {
	g.Says = map[string]model.PortSays{}
	for _, e := range n.Field("port").Fields() {
		port, _ := g.Port(e.Name)
		l.meshPort(g, port, e.Node)
		if port.Protocol == model.MeshTLS {
			continue
		}
		says := model.PortSays{Streams: l.streams(p, g, port, e.Node)}
		if from := e.Node.Field("proxyProtocol").Field("from"); from.Exists() {
			says.Proxies = l.addresses(from)
		}
		if says.Proxies != nil || says.Streams != nil {
			g.Says[e.Name] = says
		}
	}
	for _, d := range l.waysOut[g.ID].ports {
		if len(d.namespaces) > 0 {
			g.Says[d.Name] = model.PortSays{Namespaces: slices.Sorted(slices.Values(d.namespaces))}
		}
	}
	if len(g.Says) == 0 {
		g.Says = nil
	}
}

// streams are the routes of connections at a port, sorted by name.
func (l *linker) streams(p *pkg, g *model.Gateway, port model.Port, n intent.Node) []model.Stream {
	entries := n.Field("route").Fields()
	if port.Protocol == model.HTTP && len(entries) > 0 {
		l.add(diag.New(diag.CodeProtocol, n.Field("route").Pos(), "port %q of gateway %q takes requests, which go by the routes of its hosts: routes of a port are for bytes", port.Name, g.ID).
			WithFix("write the routes at a host, or let the port say protocol: \"tls\" or \"tcp\""))
		return nil
	}
	var out []model.Stream
	for _, e := range l.lasting(entries) {
		path := model.GatewayStreamPath(g.ID, port.Name, e.Name)
		l.place(path, e.Node.Pos())
		s := model.Stream{Name: e.Name, To: l.streamTargets(p, e.Node)}
		match := e.Node.Field("match")
		if from := match.Field("sources"); from.Exists() {
			s.Sources = l.addresses(from)
		}
		s.SNI = l.streamNames(port, e)
		out = append(out, s)
	}
	l.checkStreams(g, port, out)
	return out
}

// streamNames are the names that connections of a route ask for.
func (l *linker) streamNames(port model.Port, e intent.Entry) []string {
	sni := e.Node.Field("match").Field("sni")
	switch {
	case port.Protocol == model.TCP && sni.Exists():
		l.add(diag.New(diag.CodeProtocol, sni.Pos(), "port %q takes bytes, which ask for no name", port.Name).WithFix("let the port say protocol: \"tls\", or delete `sni`"))
		return nil
	case port.Protocol == model.HTTPS && !sni.Exists():
		l.add(diag.New(diag.CodeOneOf, e.Node.Pos(), "port %q ends the TLS of its hosts, and route %q says no name: it would take what is nobody's", port.Name, e.Name).
			WithFix(`say which: match: sni: ["db.example"], or ["*"] for all that no host has`))
	case port.Protocol != model.TCP && !sni.Exists():
		return []string{"*"}
	}
	return l.some(sni, "name")
}

// checkStreams reports what the gateway could not tell apart.
func (l *linker) checkStreams(g *model.Gateway, port model.Port, streams []model.Stream) {
	taken := map[string]string{}
	for _, s := range streams {
		for _, n := range s.Names() {
			for _, f := range s.From() {
				key := n + " " + f
				if other := taken[key]; other != "" {
					l.add(diag.New(diag.CodeDuplicate, l.lineOf(model.GatewayStreamPath(g.ID, port.Name, s.Name)), "routes %q and %q of port %q take the same connections", other, s.Name, port.Name).
						WithRelated(l.lineOf(model.GatewayStreamPath(g.ID, port.Name, other)), "the other").WithFix("let them differ in `sni` or `sources`"))
					continue
				}
				taken[key] = s.Name
			}
		}
	}
}

// checkStreamHosts reports names whose TLS a gateway would both end and pass on. It is asked once the
// gateway has its hosts.
func (l *linker) checkStreamHosts(g *model.Gateway) {
	for _, p := range g.Ports {
		for _, s := range g.Streams(p.Name) {
			for _, n := range s.SNI {
				i := slices.IndexFunc(g.HostsAt(p.Name), func(h model.Host) bool { return h.Name == n })
				if i < 0 {
					continue
				}
				l.add(diag.New(diag.CodeDuplicate, l.lineOf(model.GatewayStreamPath(g.ID, p.Name, s.Name)), "port %q of gateway %q ends the TLS of host %q, and route %q passes it on", p.Name, g.ID, n, s.Name).
					WithRelated(l.lineOf(model.GatewayHostPath(g.ID, n)), "the host").WithFix("keep one of them, or give them different ports"))
			}
		}
	}
}

// streamTargets reads where connections go, each to a port that takes bytes.
func (l *linker) streamTargets(p *pkg, n intent.Node) []model.Target {
	to := n.Field("to")
	for _, d := range n.Field("destination").Fields() {
		if !to.Field(d.Name).Exists() {
			l.add(diag.New(diag.CodeNever, d.Node.Pos(), "nothing is sent to destination %q: `to` does not name it", d.Name).WithFix("give it a weight in `to`, or delete it"))
		}
	}
	return l.targetsOf(n, model.Route{}, func(e intent.Entry) (model.Target, bool) {
		d := n.Field("destination").Field(e.Name)
		id, ok := l.destinedID(p, n, e)
		if !ok {
			return model.Target{}, false
		}
		at := e.Node
		if d.Exists() {
			at = d
		}
		port, ok := l.port(id, d.Field("port"), at, "destination: "+strconv.Quote(e.Name)+": port")
		if ok && port.Protocol.IsHTTP() {
			l.add(diag.New(diag.CodeProtocol, at.Pos(), "%s sends bytes to port %q of %q, which takes requests", at.Path(), port.Name, id).
				WithRelated(l.declaredAt(id), "declared here").WithFix("name a port whose protocol is tcp, or lead requests there by a host"))
			ok = false
		}
		t := model.Target{Service: id, Port: port.Name, Version: d.Field("version").Str()}
		if v := d.Field("version"); v.Exists() {
			ok = l.version(id, v) && ok
		}
		return t, ok
	})
}

// bytesAlone reports whether a gateway has no port of requests.
func bytesAlone(g *model.Gateway) bool {
	return !slices.ContainsFunc(g.Ports, func(p model.Port) bool { return p.Protocol.IsHTTP() })
}

// noHosts tells of a gateway without hosts that has a port for them.
func (l *linker) noHosts(g *model.Gateway, e intent.Entry) {
	if len(g.Hosts) > 0 || bytesAlone(g) || slices.ContainsFunc(g.Ports, func(p model.Port) bool { return len(g.Streams(p.Name)) > 0 }) {
		return
	}
	l.add(diag.New(diag.CodeOneOf, e.Node.Pos(), "gateway %q has no host, and its port %q is for requests to hosts", g.ID, g.Ports[0].Name).
		WithFix("add: host: %q: route: default: to: <service>: 100", "shop.example"))
}
