package resolve

import (
	"cmp"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

const (
	plainScheme = model.SchemeHTTP
	tlsScheme   = model.SchemeHTTPS
)

// door is where somebody asks who follows redirects; a port of 0 is any at which the host is
// by the scheme.
type door struct {
	scheme, host string
	port         int
}

// crossing is what answers at a door: routes in the order of trial, or another scheme to ask by.
type crossing struct {
	routes []model.EffectiveRoute
	near   *pathIndex
	scheme string
	path   func(model.EffectiveRoute) string
}

func newCrossing(routes []model.EffectiveRoute, path func(model.EffectiveRoute) string) *crossing {
	c := &crossing{routes: routes, near: newPathIndex(), path: path}
	for i, e := range routes {
		c.near.put(i, e.Match.Path)
	}
	return c
}

// take finds the route that takes a request.
func (c *crossing) take(q space.Request) (model.EffectiveRoute, bool) {
	for _, i := range c.near.over(model.Path{Kind: model.PathExact, Value: q.Path}) {
		if space.Matches(c.routes[i].Match.Tests(), q) {
			return c.routes[i], true
		}
	}
	return model.EffectiveRoute{}, false
}

// around looks up what answers at a door, nil if nobody knows.
type around func(door) *crossing

// steps is how many redirects are followed, more than any browser does: a request that is still
// sent on then, to a longer path each time, arrives as little as one that comes back.
const steps = 30

// checkRings refuses redirects that lead back to themselves, over any routes. Each route that
// redirects is tried with requests that it takes; one that never arrives is a witness, so that
// nothing is refused which would arrive.
func (l *linker) checkRings() {
	told := map[string]bool{}
	for _, s := range l.mesh.Services {
		if slices.ContainsFunc(l.mesh.LedTo(s), func(s *model.Service) bool { return slices.ContainsFunc(s.Routes, sendsOn) }) {
			for _, p := range ringPorts(s) {
				l.rings(door{scheme: plainScheme, host: s.Name + "." + s.Namespace}, l.atService(s, p), told)
			}
		}
	}
	known := map[string]*crossing{}
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			if !slices.ContainsFunc(h.Routes, l.mayLeadOn) {
				continue
			}
			for _, scheme := range g.Schemes(h) {
				blind := l.rings(door{scheme: scheme, host: strings.Replace(h.Name, "*", "any", 1)}, l.atGateways(g, known), told)
				for _, path := range blind {
					l.tellBlind(path, told)
				}
			}
		}
	}
}

func sendsOn(r model.Route) bool {
	_, ok := moved(r.Traits)
	return ok
}

// mayLeadOn reports whether a gateway's route sends visitors on, or the service behind it does.
func (l *linker) mayLeadOn(r model.Route) bool {
	return sendsOn(r) || slices.ContainsFunc(r.To, func(t model.Target) bool {
		s := l.mesh.Service(t.Service)
		return s != nil && slices.ContainsFunc(l.mesh.LedTo(s), func(s *model.Service) bool { return slices.ContainsFunc(s.Routes, sendsOn) })
	})
}

// ringPorts are those of a service's ports whose requests may have routes of their own: one of them where all have the
// same.
func ringPorts(s *model.Service) []model.Port {
	out := slices.DeleteFunc(slices.Clone(s.Ports), func(p model.Port) bool { return !p.Protocol.IsHTTP() })
	if !slices.ContainsFunc(s.Routes, func(r model.Route) bool { return r.Ports != nil }) {
		return out[:min(1, len(out))]
	}
	return out
}

// atService is what callers of a service's port meet: its own routes, as long as they ask for it, and those to which they
// lead.
func (l *linker) atService(s *model.Service, p model.Port) around {
	at := func(p model.Port) *crossing {
		var routes []model.EffectiveRoute
		for _, r := range s.ToPort(p.Name) {
			routes = append(routes, model.EffectiveRoute{Outer: r, Match: r.Match, Traits: r.Traits})
		}
		if s.LeadsOn() {
			routes = l.mesh.ServiceRoutes(s, p, model.EachCaller)
		}
		return newCrossing(routes, func(e model.EffectiveRoute) string { return lastPath(e, model.RoutePath(s.ID, e.Outer.Name)) })
	}
	met := map[string]*crossing{p.Name: at(p)}
	for _, other := range ringPorts(s) {
		if met[other.Name] == nil {
			met[other.Name] = at(other)
		}
	}
	full := s.Name + "." + s.Namespace
	names := []string{s.Name, full, full + ".svc", full + ".svc.cluster.local"}
	return func(d door) *crossing {
		if d.scheme != plainScheme || !slices.Contains(names, d.host) {
			return nil
		}
		if d.port == 0 {
			return met[p.Name]
		}
		i := slices.IndexFunc(s.Ports, func(p model.Port) bool { return int(p.Number) == d.port })
		if i < 0 {
			return nil
		}
		if own := met[s.Ports[i].Name]; own != nil {
			return own
		}
		return met[p.Name] // all have the same
	}
}

// atGateways is what visitors meet: the host that they ask for at the gateway that they came
// from, else at the first other one that has it.
func (l *linker) atGateways(from *model.Gateway, known map[string]*crossing) around {
	gateways := append([]*model.Gateway{from}, l.mesh.Gateways...)
	return func(d door) *crossing {
		for _, g := range gateways {
			for _, p := range doorsOf(g, d) {
				h, ok := g.HostAt(p.Name, d.host)
				switch {
				case !ok:
					continue
				case h.TLS == nil || d.scheme == tlsScheme || h.TLS.Plain == model.PlainServe:
					return l.atHost(g, h, known)
				case h.TLS.Plain == model.PlainRedirect:
					return &crossing{scheme: tlsScheme}
				}
				return nil // refused
			}
		}
		return nil
	}
}

// doorsOf are the ports of a gateway at which somebody may be who asks at a door: behind proxies
// that the gateway believes, at any, for the visitors' ports are those of the foremost.
func doorsOf(g *model.Gateway, d door) []model.Port {
	var out []model.Port
	for _, p := range g.Ports {
		if string(p.Protocol) == d.scheme && (d.port == 0 || d.port == int(p.Number)) {
			out = append(out, p)
		}
	}
	usual := map[string]int{plainScheme: 80, tlsScheme: 443}[d.scheme]
	if g.TrustedHops > 0 && (d.port == 0 || d.port == usual) {
		out = append(out, g.Ports...)
	}
	return out
}

func (l *linker) atHost(g *model.Gateway, h model.Host, known map[string]*crossing) *crossing {
	key := model.GatewayHostPath(g.ID, h.Name)
	if known[key] == nil {
		known[key] = newCrossing(l.mesh.GatewayRoutes(g, h), func(e model.EffectiveRoute) string {
			return lastPath(e, model.GatewayRoutePath(g.ID, h.Name, e.Outer.Name))
		})
	}
	return known[key]
}

// lastPath is the mesh path of the last route by which a rule goes, which answers if one does; outer is that of its
// first.
func lastPath(e model.EffectiveRoute, outer string) string {
	if inner := e.InnerPaths(); len(inner) > 0 {
		return inner[len(inner)-1]
	}
	return outer
}

// moved is the value of a set that sends visitors on.
func moved(s trait.Set) (trait.Moved, bool) {
	for _, name := range s.Names() {
		v, _ := s.Lookup(name)
		if m, ok := v.(trait.Moved); ok {
			return m, true
		}
	}
	return nil, false
}

// rings follows the redirects that begin at a door, and returns the mesh paths of those that
// lead from plain HTTP to HTTPS of the same host, which nobody has.
func (l *linker) rings(d door, look around, told map[string]bool) []string {
	at := look(d)
	if at == nil {
		return nil
	}
	var blind []string
	for _, e := range at.routes {
		if _, ok := moved(e.Traits); !ok {
			continue
		}
		for _, q := range samples(d, e) {
			ring, last := follow(d, q, look)
			switch {
			case len(ring) > 0:
				l.tellRing(ring, told)
			case d.scheme == plainScheme && last.scheme == tlsScheme && last.host == d.host && look(door{scheme: tlsScheme, host: d.host}) == nil:
				blind = append(blind, at.path(e))
			}
		}
	}
	return blind
}

// follow asks at a door, and goes where it is sent: the mesh paths of the routes that send it in
// a ring, in the order in which they do, or farther than steps, or none and the first door of which nobody knows.
func follow(d door, q space.Request, look around) ([]string, door) {
	type place struct {
		door
		path, query, method string
	}
	var been []place
	var by []string
	for range steps {
		here := place{d, q.Path, q.Query, q.Method}
		if i := slices.Index(been, here); i >= 0 {
			return slices.DeleteFunc(by[i:], func(s string) bool { return s == "" }), d
		}
		been = append(been, here)
		q.Scheme = d.scheme
		at := look(d)
		switch {
		case at == nil:
			return nil, d
		case at.scheme != "":
			d.scheme, d.port, by = at.scheme, 0, append(by, "")
			continue
		}
		e, taken := at.take(q)
		m, ok := moved(e.Traits)
		if !taken || !ok {
			return nil, door{}
		}
		by = append(by, at.path(e))
		d, q = next(m, d, q)
	}
	slices.Sort(by)
	return slices.DeleteFunc(slices.Compact(by), func(s string) bool { return s == "" }), d
}

// next is where a redirect leads, and what is asked there.
func next(m trait.Moved, d door, q space.Request) (door, space.Request) {
	to := m.To(trait.Asked{Scheme: d.scheme, Host: d.host, Port: d.port, Path: q.Path, Query: q.Query, Method: q.Method})
	q.Path, q.Query, q.Method = to.Path, to.Query, to.Method
	return door{to.Scheme, to.Host, to.Port}, q
}

// samples are requests that a route takes, as far as they can be made up: at its own path, below
// it, and where it sends them.
func samples(d door, e model.EffectiveRoute) []space.Request {
	q := space.Request{Host: d.host, Method: "GET", Scheme: d.scheme}
	for _, t := range e.Match.Tests() {
		if dim, name := t.Dim.Of(); t.Dim != space.PathDim && !dim.Door && !t.Not && !t.Holds(q) {
			q = dim.With(q, name, sample(t))
		}
	}
	base := cmp.Or(e.Match.Path.Value, "/")
	if e.Match.Path.Kind == model.PathTemplate {
		base = filled(base)
	}
	m, _ := moved(e.Traits)
	q.Path = base
	_, target := next(m, d, q)
	var out []space.Request
	for _, path := range []string{base, strings.TrimSuffix(base, "/") + "/a", target.Path} {
		q.Path = path
		if space.Matches(e.Match.Tests(), q) {
			out = append(out, q)
		}
	}
	return out
}

// sample is a value that a test takes of what routes ask for, as far as it can be made up.
func sample(t space.Test) string {
	if len(t.Any) == 0 {
		return "x"
	}
	return t.Any[0].Text
}

// filled is a path that a template takes.
func filled(template string) string {
	closed, open := space.CutOpen(template)
	parts := strings.Split(closed, "/")
	if open {
		parts = append(parts, "a")
	}
	for i, s := range parts {
		if space.IsVariable(s) {
			parts[i] = "a"
		}
	}
	return strings.Join(parts, "/")
}

func (l *linker) tellRing(paths []string, told map[string]bool) {
	key := strings.Join(slices.Sorted(slices.Values(paths)), "\n")
	if told[key] {
		return
	}
	told[key] = true
	text := "the redirect leads to itself"
	if len(paths) > 1 {
		text = "the redirect leads back to itself, by another one"
	}
	d := diag.New(diag.CodeRing, l.lineOf(paths[0]), "%s: whoever follows it never arrives", text).
		WithFix("send to what no redirect takes, or let a route before it take that")
	for _, p := range paths[1:] {
		d = d.WithRelated(l.lineOf(p), "the next redirect")
	}
	l.add(d)
}

// tellBlind warns of a redirect to HTTPS at a gateway that does not speak it for the host: what
// ends TLS before the gateway sends all requests to it in plaintext, those that have been
// redirected as well.
func (l *linker) tellBlind(path string, told map[string]bool) {
	if told[path] {
		return
	}
	told[path] = true
	l.add(diag.Warn(diag.CodeRing, l.lineOf(path), "the redirect to https never ends where a load balancer before the gateway ends TLS: the gateway sees plain HTTP again, and no gateway has the host by HTTPS").
		WithFix("let the gateway believe the balancer, with `trustedHops: 1` on the gateway and `match: scheme: \"http\"` on the route; or let the gateway speak HTTPS itself, with `tls` on the host"))
}
