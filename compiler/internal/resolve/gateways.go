package resolve

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// maxHost is the longest DNS name.
const maxHost = 253

func (l *linker) gateway(p *pkg, e intent.Entry) {
	n := e.Node
	g := &model.Gateway{ID: p.namespace + "/" + e.Name, Namespace: p.namespace, Name: e.Name,
		Account: gatewayAccount(e), Host: model.AnyIPv4, Ports: l.gatewayPorts(p, e)}
	if l.capture == model.Transparent {
		g.Host = model.AnyAddress
	}
	g.Owner = l.owned(n, p, model.GatewayPath(g.ID))
	if a := n.Field("address"); a.Exists() {
		ip, err := netip.ParseAddr(a.Str())
		if err != nil {
			l.add(diag.New(diag.CodeListen, a.Pos(), "address %q of gateway %q is not an IP address", a.Str(), g.ID).WithFix(`write "::", "0.0.0.0" or the address to bind`))
		} else {
			g.Host = ip.String()
		}
	}
	g.Former = l.formerOf(n)
	g.TrustedHops = uint32(n.Field("trustedHops").Int())
	g.HTTP10 = n.Field("http10").Bool()
	if g.HTTP10 && !slices.ContainsFunc(g.Ports, func(p model.Port) bool { return p.Protocol == model.HTTP || p.Protocol == model.HTTPS }) {
		l.add(diag.New(diag.CodeNever, n.Field("http10").Pos(), "gateway %q takes HTTP/1.0, and none of its ports takes requests of visitors", g.ID).
			WithFix("delete it, or add a port: http: number: 80"))
	}
	g.HTTP3 = n.Field("http3").Bool()
	if a := n.Field("autoscale"); a.Exists() {
		g.Autoscale = l.autoscale(g, a)
	}
	g.Traits = l.traits(append([]carrier{{on: OnGateway, node: n}}, l.around(p)...), &Place{Gateway: true, l: l, pkg: p, self: g.ID}, model.GatewayPath(g.ID))
	g.Denies, g.ShadowDenies = l.deniesOf(model.GatewayPath(g.ID), n, func(e intent.Entry) model.Deny { return l.gatewayDeny(p, e) })
	l.portSays(p, g, n)
	for _, h := range n.Field("host").Fields() {
		g.Hosts = append(g.Hosts, l.host(p, g, h))
	}
	l.noHosts(g, e)
	l.checkHTTP3(g, n)
	l.denyRequests(g, n)
	slices.SortFunc(g.Hosts, func(a, b model.Host) int { return strings.Compare(a.Name, b.Name) })
	l.mesh.Gateways = append(l.mesh.Gateways, g)
}

// checkHTTP3 refuses what HTTP/3 does not go with: who comes by UDP has passed none of the proxies in front that
// intent believes, and could say of itself what they would.
func (l *linker) checkHTTP3(g *model.Gateway, n intent.Node) {
	if !g.HTTP3 {
		return
	}
	refused := func(why string, args ...any) diag.Diagnostic {
		return diag.New(diag.CodeHTTP3, n.Field("http3").Pos(), "gateway %q takes HTTP/3, and "+why, append([]any{g.ID}, args...)...)
	}
	if !slices.ContainsFunc(g.Ports, func(p model.Port) bool { return p.Protocol == model.HTTPS }) {
		l.add(refused("none of its ports speaks https").WithFix(`delete it, or add a port: https: {number: 443, protocol: "https"}`))
	}
	if g.TrustedHops > 0 {
		l.add(refused("believes proxies in front of it: nobody who comes by UDP has passed one").WithRelated(n.Field("trustedHops").Pos(), "what is believed").
			WithFix("let the proxies in front speak HTTP/3 to visitors, or take `trustedHops` out"))
	}
	for _, p := range g.Ports {
		if p.Protocol == model.HTTPS && len(g.Says[p.Name].Proxies) > 0 {
			l.add(refused("its port %q only what proxies in front pass on: nobody who comes by UDP has passed one", p.Name).
				WithRelated(n.Field("port").Field(p.Name).Field("proxyProtocol").Pos(), "who gets in").WithFix("take `http3` or `proxyProtocol` out"))
		}
	}
	secure := slices.DeleteFunc(slices.Clone(g.Hosts), func(h model.Host) bool { return h.TLS == nil })
	if len(secure) > 0 && !slices.ContainsFunc(secure, func(h model.Host) bool { return h.TLS.OverUDP() }) {
		l.add(refused("all of its hosts ask visitors for certificates, which are reached by TCP alone").WithFix("delete it"))
	}
	for _, h := range secure {
		if h.TLS.OverUDP() && len(h.TLS.ALPN) > 0 {
			l.add(refused("its host %q other versions of HTTP alone (`alpn`)", h.Name).WithRelated(l.lineOf(model.GatewayHostPath(g.ID, h.Name)), "the host").
				WithFix("take `alpn` out, or give the host a gateway of its own"))
		}
	}
}

// fewestPods is how many pods an autoscaler leaves at least if nobody says it: one may go.
const fewestPods = 2

func (l *linker) autoscale(g *model.Gateway, n intent.Node) *model.Autoscale {
	out := &model.Autoscale{Max: uint32(n.Field("max").Int()), CPU: uint32(n.Field("cpu").Int())}
	out.Min = min(fewestPods, out.Max)
	if fewest := n.Field("min"); fewest.Exists() {
		if out.Min = uint32(fewest.Int()); out.Min > out.Max {
			l.add(diag.New(diag.CodeRange, fewest.Pos(), "gateway %q has at least %d pods and at most %d", g.ID, out.Min, out.Max).
				WithRelated(n.Field("max").Pos(), "the most").WithFix("write a `min` that is not above `max`"))
		}
	}
	return out
}

func (l *linker) host(p *pkg, g *model.Gateway, e intent.Entry) model.Host {
	h := model.Host{Name: strings.ToLower(e.Name), Owner: e.Node.Field("owner").Str()}
	path := model.GatewayHostPath(g.ID, h.Name)
	if first, ok := l.pos.At(path); ok {
		l.add(diag.New(diag.CodeDuplicate, e.Node.Pos(), "host %q of gateway %q is declared twice (hosts ignore case)", e.Name, g.ID).WithRelated(first, "first declared here").
			WithFix("keep one of them"))
	}
	if len(h.Name) > maxHost {
		l.add(diag.New(diag.CodeRange, e.Node.Pos(), "host %.20q… has %d letters, and a DNS name at most %d", h.Name, len(h.Name), maxHost).WithFix("choose a shorter one"))
	}
	if h.Owner != "" {
		l.owners[path] = h.Owner
	}
	l.place(path, e.Node.Pos())
	l.hosts[h.Name] = append(l.hosts[h.Name], hostClaim{p, e.Node.Pos()})
	h.TLS = l.hostTLS(p, path, e)
	h.Ports = l.hostPorts(g, h.TLS != nil, e)
	h.Denies, h.ShadowDenies = l.deniesOf(path, e.Node, func(e intent.Entry) model.Deny { return l.gatewayDeny(p, e) })
	entries := e.Node.Field("route").Fields()
	for _, re := range l.lasting(entries) {
		r := l.gatewayRoute(p, g, h.Name, re, hostOf(p, e.Node), model.GatewayRoutePath(g.ID, h.Name, re.Name))
		at := model.GatewayRoutePath(g.ID, h.Name, re.Name)
		r.To, r.Canary = l.serviceTargets(p, re.Node, r, at), l.canary(re.Node)
		l.describesCalls(re.Node, r)
		l.place(at, re.Node.Pos())
		h.Routes = append(h.Routes, r)
		if c, ok := l.visitorsCohort(p, g, h.Name, re, hostOf(p, e.Node), r); ok {
			h.Routes = append(h.Routes, c)
		}
	}
	if len(entries) == 0 {
		l.add(diag.New(diag.CodeOneOf, e.Node.Pos(), "host %q has no route", e.Name).WithFix("add: route: default: to: <service>: 100"))
	}
	return h
}

// visitorsCohort is the route of the cohort of a canary at a gateway, if it has one.
func (l *linker) visitorsCohort(p *pkg, g *model.Gateway, host string, e intent.Entry, around carrier, r model.Route) (model.Route, bool) {
	match, at, ok := l.cohort(p, e.Node, r, true)
	if !ok {
		return model.Route{}, false
	}
	c := model.Route{Name: model.CohortName(r.Name), Priority: r.Priority, Package: r.Package, Owner: r.Owner, Match: match}
	path := model.GatewayRoutePath(g.ID, host, c.Name)
	c.Traits = l.traits(gatewayRoute(e.Node, around), &Place{Gateway: true, Host: host, plain: l.takesPlain(around.node), Match: match, Rest: restOf(e.Node), destination: e.Node.Field("destination"), l: l, pkg: p, self: g.ID}, path)
	candidate := e.Node.Field("canary").Field("candidate")
	problems := len(l.diags)
	to, ok := l.destined(p, e.Node, intent.Entry{Name: candidate.Str(), Node: candidate})
	l.diags = l.diags[:problems] // which the route has told
	to.Weight = model.All
	to.Name, to.Traits = l.ownOf(p, e.Node, candidate.Str(), path, true)
	c.To = []model.Target{to}
	l.place(path, at.Pos())
	return c, ok
}

// serviceTargets reads the weights of the destinations of a gateway's route at path.
func (l *linker) serviceTargets(p *pkg, n intent.Node, r model.Route, path string) []model.Target {
	l.unsent(n)
	to := l.targetsOf(n, r, func(e intent.Entry) (model.Target, bool) {
		t, ok := l.destined(p, n, e)
		t.Name, t.Traits = l.ownOf(p, n, e.Name, path, true)
		return t, ok
	})
	if len(to) > 1 {
		l.needPlain(n, to)
	}
	l.chooses(n, to)
	return to
}

// ownOf is what a destination of the route at path says itself of the requests it gets; without a word
// it has no name.
func (l *linker) ownOf(p *pkg, route intent.Node, name, path string, gateway bool) (string, trait.Set) {
	d := route.Field("destination").Field(name)
	if !d.Exists() {
		return "", trait.Set{}
	}
	for _, r := range l.rules {
		if own, all := d.Field(r.Field), route.Field(r.Within).Field(r.Field); r.Within != "" && own.Exists() && all.Exists() {
			l.add(diag.New(diag.CodeOneOf, own.Pos(), "destination %q says `%s`, and `%s: %s` of the route says it of all requests", name, r.Field, r.Within, r.Field).
				WithRelated(all.Pos(), "%s", r.Within).WithFix("delete one of them"))
		}
	}
	s := l.traits([]carrier{{on: OnDestination, node: d}}, &Place{Gateway: gateway, l: l, pkg: p}, model.DestinationPath(path, name))
	if s.Len() == 0 {
		return "", s
	}
	return name, s
}

// unsent refuses destinations to which nothing is sent.
func (l *linker) unsent(n intent.Node) {
	sends, _ := l.sends(n)
	for _, d := range n.Field("destination").Fields() {
		copies := slices.ContainsFunc(l.rules, func(r Rule) bool { return r.Copies && n.Field(r.Field).Has(d.Name) })
		switch sent := slices.ContainsFunc(sends, func(s sent) bool { return s.Name == d.Name }); {
		case !sent && copies:
			for _, edits := range []string{"host", "requestHeaders", "responseHeaders"} {
				if f := d.Node.Field(edits); f.Exists() {
					l.add(diag.New(diag.CodeNever, f.Pos(), "destination %q gets copies alone, which are as the requests are that are sent on", d.Name).WithFix("delete `%s`", edits))
				}
			}
		case !sent:
			word, fix := "to", "give it a weight in `to`, or delete it"
			if n.Field("canary").Exists() {
				word, fix = "canary", "name it in `canary`, or delete it"
			}
			l.add(diag.New(diag.CodeNever, d.Node.Pos(), "nothing is sent to destination %q: `%s` does not name it", d.Name, word).WithFix("%s", fix))
		}
	}
}

// destined resolves a name in the `to` of a gateway's route: a destination of the route, else a
// service or an external.
func (l *linker) destined(p *pkg, route intent.Node, to intent.Entry) (model.Target, bool) {
	d := route.Field("destination").Field(to.Name)
	id, ok := l.destinedID(p, route, to)
	if !ok {
		return model.Target{}, false
	}
	at := to.Node
	if d.Exists() {
		at = d
	}
	port, ok := l.httpPort(id, d.Field("port"), at, "destination: "+strconv.Quote(to.Name)+": port")
	t := model.Target{Service: id, Port: port, Version: d.Field("version").Str()}
	if v := d.Field("version"); v.Exists() {
		ok = l.version(id, v) && ok
	}
	return t, ok
}

// destinedID is the service or external that a name in `to` stands for.
func (l *linker) destinedID(p *pkg, route intent.Node, to intent.Entry) (string, bool) {
	service := route.Field("destination").Field(to.Name).Field("service")
	if !service.Exists() {
		id, _, ok := l.destination(p, to.Name, to.Node.Pos())
		return id, ok
	}
	id, _, ok := l.destination(p, service.Str(), service.Pos())
	if other := p.qualify(to.Name); ok && l.kinds[other] != "" && other != id {
		l.add(diag.New(diag.CodeDuplicate, service.Pos(), "destination %q is sent to %q and has the name of another %s", to.Name, id, l.kinds[other]).
			WithRelated(l.declaredAt(other), "declared here").WithFix("choose another name for the destination"))
		return "", false
	}
	return id, ok
}

// needPlain notes a weighted gateway route, to be checked once all services are linked.
func (l *linker) needPlain(n intent.Node, to []model.Target) {
	for _, t := range to {
		l.plain = append(l.plain, plainWish{service: t.Service, port: t.Port, at: n.Pos(), route: n.Path()})
	}
}

// plainWish is a demand that a service has one route without conditions: a
// share of requests cannot be followed by conditions of one of its takers.
type plainWish struct {
	service, port, route string
	at                   diag.Pos
}
