package resolve

import (
	"reflect"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// callsOf reads whom a service calls, and what it says of that itself.
func (l *linker) callsOf(p *pkg, s *model.Service, n intent.Node) []model.Call {
	var out []model.Call
	for _, e := range l.lasting(n.Field("calls").Fields()) {
		id, _, ok := l.destination(p, e.Name, e.Node.Pos())
		if !ok {
			continue
		}
		path := model.CallPath(s.ID, id)
		if first, ok := l.pos.At(path); ok {
			l.add(diag.New(diag.CodeDuplicate, e.Node.Pos(), "service %q calls %q twice, once with and once without its namespace", s.ID, id).
				WithRelated(first, "the other").WithFix("keep one of them"))
			continue
		}
		l.place(path, e.Node.Pos())
		out = append(out, l.callsOfPorts(p, s, e, id)...)
	}
	slices.SortFunc(out, func(a, b model.Call) int { return strings.Compare(a.Key(), b.Key()) })
	return out
}

// callsOfPorts are the calls of the ports of one callee that are named, or of the one that is meant.
func (l *linker) callsOfPorts(p *pkg, s *model.Service, e intent.Entry, id string) []model.Call {
	path, named := model.CallPath(s.ID, id), l.portsCalled(id, e.Node)
	var out []model.Call
	for _, c := range named {
		whole := path
		if len(named) > 1 {
			whole += model.PortLines(c.port.Name)
			l.place(whole, c.Node.Pos())
		}
		x := &Place{To: c.port, At: OnCall, l: l, pkg: p, self: s.ID, path: whole}
		out = append(out, model.Call{To: id, Local: uint32(c.local.Int()), Port: c.port.Name, Traits: l.callTraits(e.Node, c, x, named)})
	}
	return out
}

// called is a port that a call names, or means.
type called struct {
	intent.Entry // what it says of the port; does not exist where it names none
	port         model.Port
	local        intent.Node // the port on which the caller reaches it
}

// portsCalled are those that a call, or what a version says of it, names, in their order; without one the only one, or the
// main one.
func (l *linker) portsCalled(id string, n intent.Node) []called {
	local, ports := n.Field("local"), n.Field("port")
	if !ports.Exists() {
		port, ok := l.port(id, ports, n, "port")
		if !ok {
			return nil
		}
		return []called{{Entry: intent.Entry{Node: ports}, port: port, local: local}}
	}
	var out []called
	for _, e := range ports.Fields() {
		port, ok := l.portNamed(id, e.Name, e.Node)
		if !ok {
			continue
		}
		c := called{Entry: e, port: port, local: e.Node.Field("local")}
		switch own := c.local.Exists(); {
		case local.Exists() && (own || len(ports.Fields()) > 1):
			l.add(diag.New(diag.CodeOneOf, local.Pos(), "%s is one port, and each port of %q is reached at a local one of its own", local.Path(), id).
				WithRelated(e.Node.Pos(), "port %q", e.Name).WithFix("write it at the ports: port: %s: local: %d", e.Name, local.Int()))
			return nil
		case !own:
			c.local = local
		}
		out = append(out, c)
	}
	if len(ports.Fields()) == 0 {
		l.add(diag.New(diag.CodeNever, ports.Pos(), "%s names no port, so that nothing is called", ports.Path()).WithFix("name a port, or delete `port`: it is then the only one, or the main one"))
	}
	return out
}

// callTraits settles what a caller writes of its requests to a port: there, or at the call, which may be about others of
// its ports. What it does not write is the callee's to say.
func (l *linker) callTraits(n intent.Node, c called, x *Place, all []called) trait.Set {
	set := trait.Set{}
	var said []Rule
	field := func(r Rule) intent.Node {
		if f := c.Node.Field(r.Field); f.Exists() {
			return f
		}
		return n.Field(r.Field)
	}
	others := slices.ContainsFunc(all, func(o called) bool { return o.port.Protocol.IsHTTP() })
	for _, r := range l.rules {
		f := field(r)
		if !slices.Contains(r.On, OnCall) || !f.Exists() {
			continue
		}
		if !c.port.Protocol.IsHTTP() {
			if c.Node.Has(r.Field) || !others {
				l.add(diag.New(diag.CodeProtocol, f.Pos(), "%s is about requests, but port %q that is called has none: it is %s", r.Field, c.port.Name, c.port.Protocol).
					WithFix("delete `%s`, or call a port that speaks http, http2 or grpc", r.Field))
			}
			continue
		}
		l.place(x.path+"/"+r.Name, f.Pos())
		if v := r.Read(f, x); v != nil {
			set, said = set.With(v), append(said, r)
		}
	}
	for _, r := range said {
		if v, _ := set.Lookup(r.Name); r.Fits != nil {
			r.Fits(v, set, field(r), x)
		}
	}
	return l.following(set, func(r Rule) bool { return slices.Contains(r.On, OnCall) })
}

// locals reads a version's own local ports.
func (l *linker) locals(p *pkg, n intent.Node) map[string]uint32 {
	var out map[string]uint32
	for _, e := range n.Field("calls").Fields() {
		id, _, ok := l.destination(p, e.Name, e.Node.Pos())
		if !ok {
			continue
		}
		for _, c := range l.portsCalled(id, e.Node) {
			if !c.local.Exists() {
				continue
			}
			if out == nil {
				out = map[string]uint32{}
			}
			out[model.Call{To: id, Port: c.port.Name}.Key()] = uint32(c.local.Int())
		}
	}
	return out
}

// checkAskers warns of routes for callers of whom none calls.
func (l *linker) checkAskers() {
	all := l.callersOf()
	check := func(id, carrier string, routes []model.Route, path func(string) string) {
		for _, r := range routes {
			if !r.Match.AsksCaller() || l.broken[path(r.Name)] {
				continue
			}
			if !slices.ContainsFunc(all[id], func(a string) bool { return r.Match.Admits(space.CallerDim, a) }) {
				l.add(diag.Warn(diag.CodeNever, l.lineOf(path(r.Name)), "route %q takes no request: none of the callers that it asks for calls %q", r.Name, id).
					WithRelated(l.lineOf(carrier), "who is called").WithFix("delete it, or let a caller say: calls: %q: {}", id))
			}
		}
	}
	for _, s := range l.mesh.Services {
		check(s.ID, model.ServicePath(s.ID), s.Routes, func(n string) string { return model.RoutePath(s.ID, n) })
	}
	for _, x := range l.mesh.Externals {
		check(x.ID, model.ExternalPath(x.ID), x.Routes, func(n string) string { return model.ExternalRoutePath(x.ID, n) })
	}
}

// checkCalls warns of what a call says for nothing: every route that its requests may take is at
// least as strict.
func (l *linker) checkCalls() {
	for _, s := range l.mesh.Services {
		for _, c := range s.Calls {
			for _, name := range c.Traits.Names() {
				if !c.Traits.IsDefault(name) {
					l.checkCall(s, c, name)
				}
			}
		}
	}
}

func (l *linker) checkCall(s *model.Service, c model.Call, name string) {
	own, _ := c.Traits.Lookup(name)
	path := s.CallPath(c)
	d := diag.Warn(diag.CodeNever, l.lineOf(path+"/"+name), "%s of the call of %q does nothing: what its routes say is stricter on all of them, and of both the stricter holds", name, c.To)
	forwards := false
	for _, r := range l.routesOf(c.To, c.Port) {
		if len(r.To) == 0 {
			continue
		}
		forwards = true
		before, _ := r.traits.Lookup(name)
		after, _ := model.Tightens(c.Traits, r.To, r.traits).Lookup(name)
		if r.traits.IsDefault(name) || !reflect.DeepEqual(before, after) || reflect.DeepEqual(own, after) {
			return
		}
		if at := l.lineOf(r.path + "/" + name); at != (diag.Pos{}) && !slices.ContainsFunc(d.Related, func(o diag.Related) bool { return o.Pos == at }) {
			d = d.WithRelated(at, "it is stricter")
		}
	}
	if !forwards {
		d = diag.Warn(diag.CodeNever, l.lineOf(path+"/"+name), "%s of the call of %q does nothing: none of its routes leads anywhere", name, c.To).
			WithRelated(l.declaredAt(c.To), "declared here")
	}
	l.add(d.WithFix("delete it, or write what is stricter"))
}
