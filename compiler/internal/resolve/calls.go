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
		port, ok := l.port(id, e.Node.Field("port"), e.Node, "port")
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
		out = append(out, model.Call{To: id, Local: uint32(e.Node.Field("local").Int()), Port: port.Name, Traits: l.callTraits(p, s, e.Node, port, path)})
	}
	slices.SortFunc(out, func(a, b model.Call) int { return strings.Compare(a.To, b.To) })
	return out
}

// callTraits settles what a caller writes of its requests to a port. What it does not write is the
// callee's to say.
func (l *linker) callTraits(p *pkg, s *model.Service, n intent.Node, to model.Port, path string) trait.Set {
	x := &Place{To: to, At: OnCall, l: l, pkg: p, self: s.ID, path: path}
	set := trait.Set{}
	var said []Rule
	for _, r := range l.rules {
		f := n.Field(r.Field)
		if !slices.Contains(r.On, OnCall) || !f.Exists() {
			continue
		}
		if !to.Protocol.IsHTTP() {
			l.add(diag.New(diag.CodeProtocol, f.Pos(), "%s is about requests, but port %q that is called has none: it is %s", r.Field, to.Name, to.Protocol).
				WithFix("delete `%s`, or call a port that speaks http, http2 or grpc", r.Field))
			continue
		}
		l.place(path+"/"+r.Name, f.Pos())
		if v := r.Read(f, x); v != nil {
			set, said = set.With(v), append(said, r)
		}
	}
	for _, r := range said {
		if v, _ := set.Lookup(r.Name); r.Fits != nil {
			r.Fits(v, set, n.Field(r.Field), x)
		}
	}
	return l.following(set, func(r Rule) bool { return slices.Contains(r.On, OnCall) })
}

// locals reads a version's own local ports.
func (l *linker) locals(p *pkg, n intent.Node) map[string]uint32 {
	var out map[string]uint32
	for _, e := range n.Field("calls").Fields() {
		id, _, ok := l.destination(p, e.Name, e.Node.Pos())
		if !ok || !e.Node.Field("local").Exists() {
			continue
		}
		if out == nil {
			out = map[string]uint32{}
		}
		out[id] = uint32(e.Node.Field("local").Int())
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
	path := model.CallPath(s.ID, c.To)
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
