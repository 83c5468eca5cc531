package resolve

import (
	"slices"
	"time"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// routeAt is a route with what it says of requests to one port, and the mesh path under which
// that has its lines.
type routeAt struct {
	model.Route
	traits trait.Set
	path   string
	// methods are those of which the destination lets any through, nil for all.
	methods []string
}

// routesOf are the routes of a service or an external for requests to one of its ports.
func (l *linker) routesOf(id, port string) []routeAt {
	var out []routeAt
	if to := l.mesh.Service(id); to != nil {
		for _, r := range to.ToPort(port) {
			out = append(out, routeAt{r, r.TraitsAt(port), to.LinesAt(model.RoutePath(to.ID, r.Name), port), granted(to)})
		}
	}
	if to := l.mesh.External(id); to != nil {
		for _, r := range to.RoutesAt(port) {
			out = append(out, routeAt{r, r.Traits, model.ExternalRoutePath(to.ID, r.Name), nil})
		}
	}
	return out
}

// behindOf are the routes of the services and externals to which a route leads.
func (l *linker) behindOf(r model.Route) []routeAt {
	var out []routeAt
	for _, t := range r.To {
		if t.Service != "" {
			out = append(out, l.routesOf(t.Service, t.Port)...)
		}
	}
	return out
}

// granted are the methods that a service's grants name together, nil for all.
func granted(s *model.Service) []string {
	out := []string{}
	for _, g := range s.Grants {
		if g.Methods == nil {
			return nil
		}
		out = append(out, g.Methods...)
	}
	return out
}

// asked are the methods of the requests of some routes that their destinations may let through,
// nil for all.
func asked(routes []routeAt) []string {
	out := []string{}
	for _, r := range routes {
		m, ok := r.Match.On(space.MethodDim), true
		if r.methods != nil {
			m, ok = model.IntersectMatches(m, model.NewMatch(model.Path{}, space.Values(space.MethodDim, r.methods...)))
		}
		methods := m.Listed(space.MethodDim)
		switch {
		case !ok || r.methods != nil && len(r.methods) == 0:
			continue
		case len(methods) == 0:
			return nil
		}
		out = append(out, methods...)
	}
	return out
}

// checkSaid looks at what each says of requests beside what is said behind it.
func (l *linker) checkSaid() {
	for _, s := range l.mesh.Services {
		for _, p := range s.Ports {
			if !p.Protocol.IsHTTP() {
				continue
			}
			for _, r := range l.routesOf(s.ID, p.Name) {
				if behind := l.behindOf(r.Route); len(behind) > 0 {
					l.checkBefore(r, behind)
					continue
				}
				l.checkFollowing(r, nil)
			}
		}
		for _, c := range s.Calls {
			l.checkBefore(routeAt{traits: c.Traits, path: s.CallPath(c)}, l.routesOf(c.To, c.Port))
		}
	}
	for _, x := range l.mesh.Externals {
		for _, r := range l.routesOf(x.ID, "") {
			l.checkFollowing(r, nil)
		}
	}
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				path := model.GatewayRoutePath(g.ID, h.Name, r.Name)
				l.checkBefore(routeAt{r, r.Traits, path, nil}, l.behindOf(r))
				l.checkCalling(r, path)
			}
		}
	}
}

// checkBefore looks at what a call or a gateway's route says before other routes.
func (l *linker) checkBefore(says routeAt, behind []routeAt) {
	if says.traits.Len() == 0 {
		return
	}
	l.checkFollowing(says, behind)
	for _, r := range behind {
		if _, meet := model.IntersectMatches(says.Match, r.Match); len(r.To) > 0 && (meet || !says.traits.Image().IsZero()) {
			l.checkTries(says, r)
		}
	}
}

// checkFollowing warns of what a value brings along that the user should know, unless something
// is written of it, here or on all routes behind.
func (l *linker) checkFollowing(says routeAt, behind []routeAt) {
	for _, rule := range l.rules {
		if rule.Follows == nil {
			continue
		}
		v, ok := says.traits.Lookup(rule.Name)
		written := func(r routeAt) bool { return l.lineOf(r.path+"/"+rule.Name) != (diag.Pos{}) }
		if !ok || written(says) {
			continue
		}
		about := []routeAt{says}
		if len(behind) > 0 {
			about = nil
		}
		for _, r := range behind {
			if m, ok := model.IntersectMatches(says.Match.On(space.MethodDim), r.Match.On(space.MethodDim)); ok && len(r.To) > 0 && !written(r) {
				r.Match = m
				about = append(about, r)
			}
		}
		if by, d := rule.Unsaid(v, asked(about)); by != "" {
			d.Pos = l.lineOf(says.path + "/" + by)
			l.add(d)
		}
	}
}

// checkTries warns of a bound of the whole that is written before a route whose tries, or the waits between
// them, take longer: there is no time left for another one.
func (l *linker) checkTries(says, r routeAt) {
	for _, name := range r.traits.Names() {
		inner, _ := r.traits.Lookup(name)
		if _, ok := inner.(trait.Tried); !ok {
			continue
		}
		after, _ := says.traits.Then(r.traits).Lookup(name)
		own := after.(trait.Tried)
		for _, bound := range says.traits.Names() {
			b, _ := says.traits.Lookup(bound)
			whole, ok := b.(trait.Bound)
			if !ok || says.traits.IsDefault(bound) || whole.Waits() == 0 {
				continue
			}
			ends := func(takes time.Duration, what, here, fix string) {
				if takes > 0 && whole.Waits() <= takes {
					l.add(diag.Warn(diag.CodeNever, l.lineOf(says.path+"/"+bound), "%s %s, and `%s` ends them all after %s", what, trait.Duration(takes), bound, trait.Duration(whole.Waits())).
						WithRelated(l.lineOf(r.path+"/"+name), "%s", here).WithFix("%s", fix))
				}
			}
			ends(own.Try(), "what lasts too long is never tried again: a try may take", "a try is bounded here", "write more time for all tries than for one, or a shorter try there")
			ends(own.Pause(), "whom the callee has wait may get no answer at all: it may take", "the wait is bounded here", "write more time for all tries than for a wait, or a shorter `retryAfter` there")
		}
	}
}

// checkCalling refuses what a gateway's route says of calls of gRPC that come to no port that speaks it.
func (l *linker) checkCalling(r model.Route, path string) {
	if slices.ContainsFunc(r.To, func(t model.Target) bool {
		return slices.ContainsFunc(l.ports[t.Service], func(p model.Port) bool { return p.Name == t.Port && p.Protocol.Plain() == model.GRPC })
	}) {
		return
	}
	for _, name := range r.Traits.Names() {
		v, _ := r.Traits.Lookup(name)
		if about, ok := v.(trait.Calling); ok && about.Calls() && len(r.To) > 0 {
			l.add(diag.New(diag.CodeProtocol, l.lineOf(path+"/"+name), "%s says something of gRPC calls, and none of the route's destinations speaks grpc", name).
				WithFix("let the port that is meant say protocol: \"grpc\", or write what is to hold for other requests"))
		}
	}
}
