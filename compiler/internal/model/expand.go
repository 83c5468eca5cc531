package model

import (
	"bytes"
	"encoding/json"
	"slices"

	"meshc.dev/meshc/compiler/internal/trait"
)

// EffectiveRoute is one rule of what a proxy tries, as a request meets it: a route of a gateway's host, or
// of a service that is called, joined with one route each of the services to which it leads on.
type EffectiveRoute struct {
	// Outer is the route that is tried first, as written.
	Outer Route
	// Inner are the routes of services behind it by which requests go on, in their order: none if Outer answers
	// itself, goes to an external or to versions, or spreads over several destinations.
	Inner []InnerRoute
	// Service is the service behind it, that of the last of Inner; nil if there is none. Of a service's own route it
	// is that service as long as Inner is empty.
	Service *Service
	// External is the external behind it, nil otherwise.
	External *External
	// Port is the name of the destination's port ("" if there are several or none).
	Port string
	// Match is the conjunction of all these routes' conditions, on the request as it comes to the
	// first. A service's route that takes what several conditions together say has a rule for each.
	Match Match
	// Traits are those of all, with what destinations say in between. Where several set
	// one, they are joined if they can be (trait.Chained), else the outer value stands; one that
	// nobody wrote gives way.
	Traits trait.Set
	// To is where requests go, with service or external ID, port and (for a
	// service) version set, and with what it has of its own beside Traits (Apart). Weights are relative
	// and positive. Empty if a trait answers, or if NotFound.
	To []Target
	// NotFound says that a route took the request and no route of the service to which it leads
	// does: the answer is 404, not the next route.
	NotFound bool
	// Lost names the traits that could not be kept because several destinations
	// differ in them. Resolve refuses such a mesh; a target must not drop them silently.
	Lost []string
	// Unclear says why it cannot be told which requests the service's route takes of those
	// that a route before it changes; "" if it can. No mesh with such a route is compiled.
	Unclear string
}

// InnerRoute is a service's route as one by which requests go on.
type InnerRoute struct {
	Service *Service
	Route   Route
}

// Path is the route's mesh path.
func (r InnerRoute) Path() string { return RoutePath(r.Service.ID, r.Route.Name) }

// InnerPaths are the mesh paths of the routes behind the outer one, in their order.
func (e EffectiveRoute) InnerPaths() []string {
	var out []string
	for _, r := range e.Inner {
		out = append(out, r.Path())
	}
	return out
}

// GatewayRoutes expands the routes of one host of a gateway in the order of
// trial: each gateway route to a service becomes gateway route × the service's
// routes for its account, which apply to requests as the gateway's route leaves them. Combinations that no request can meet are left out. Eval and every
// target share this expansion, so that they cannot disagree about it.
func (m *Mesh) GatewayRoutes(g *Gateway, h Host) []EffectiveRoute {
	out, x := make([]EffectiveRoute, 0, len(h.Routes)), expansion{m: m, account: g.Namespace + "/" + g.Account}
	for _, r := range h.Routes {
		var to []step
		for _, t := range Weighty(r.To) {
			to = append(to, step{Target: t})
		}
		out = append(out, x.lead(EffectiveRoute{Outer: r, Match: r.Match, Traits: r.Traits}, to)...)
	}
	return out
}

// ServiceRoutes expands the routes of a service for what comes to one of its ports, in the order of trial,
// as GatewayRoutes does: one that leads to another service becomes route × that service's routes. They are
// those for an account, or with EachCaller all, with what they ask of callers.
func (m *Mesh) ServiceRoutes(s *Service, p Port, account string) []EffectiveRoute {
	routes := RoutesFor(account, s.RoutesAt(p))
	out, x := make([]EffectiveRoute, 0, len(routes)), expansion{m: m, account: account, by: []entry{{s, p.Name}}}
	for _, r := range routes {
		e := EffectiveRoute{Outer: r, Service: s, Port: p.Name, Match: r.Match}
		if p.Protocol.IsHTTP() { // features of requests do not touch connections
			e.Traits = r.TraitsAt(p.Name)
		}
		if !r.LeadsOn() {
			e.To = s.own(p.Name, r.To)
			out = append(out, e)
			continue
		}
		out = append(out, x.lead(e, s.steps(p.Name, r))...)
	}
	return out
}

// LeadsOn reports whether a service's route sends some requests to another service.
func (r Route) LeadsOn() bool {
	return slices.ContainsFunc(r.To, func(t Target) bool { return t.Service != "" && t.Weight > 0 })
}

// LeadsOn reports whether some of the service's routes does.
func (s *Service) LeadsOn() bool { return slices.ContainsFunc(s.Routes, Route.LeadsOn) }

// AsksCaller reports whether a route of a service, or one of those to which they lead, has a condition on who calls.
func (m *Mesh) AsksCaller(s *Service) bool {
	all := m.LedTo(s)
	return slices.ContainsFunc(all, func(s *Service) bool {
		return slices.ContainsFunc(s.Routes, func(r Route) bool { return r.Match.AsksCaller() })
	})
}

// LedTo are a service and those to which its routes lead, and theirs.
func (m *Mesh) LedTo(s *Service) []*Service {
	out := []*Service{s}
	for i := 0; i < len(out); i++ {
		for _, r := range out[i].Routes {
			for _, t := range r.To {
				if t.Service == "" || t.Weight <= 0 {
					continue
				}
				if to := m.Service(t.Service); to != nil && !slices.Contains(out, to) {
					out = append(out, to)
				}
			}
		}
	}
	return out
}

// own completes the destinations of a service's own route, which name its versions only.
func (s *Service) own(port string, to []Target) []Target {
	out := slices.Clone(to)
	for i := range out {
		if out[i].Service == "" {
			out[i].Service, out[i].Port = s.ID, port
		}
	}
	return out
}

// expansion leads routes on as requests of an account go.
type expansion struct {
	m       *Mesh
	account string
	// by are the services, and their ports, by whose routes requests have come so far.
	by []entry
}

// entry is where requests come to a service.
type entry struct {
	service *Service
	port    string
}

// at is the expansion as it goes on at a service's routes. Where these choose among destinations, a service that
// comes a second time is a ring, which no compiled mesh has: ok is false.
func (x expansion) at(s *Service, t Target) (next expansion, ok bool) {
	here := entry{s, t.Port}
	if t.Version == "" && slices.Contains(x.by, here) {
		return x, false
	}
	x.by = append(slices.Clip(x.by), here)
	return x, true
}

// step is a destination of a route. Settled is one of the service's own route, whose requests go to the version; the
// others go on by the routes of the service that they name.
type step struct {
	Target
	settled bool
}

// steps are the destinations of a service's own route that get some of its requests.
func (s *Service) steps(port string, r Route) []step {
	var out []step
	for i, t := range s.own(port, r.To) {
		if t.Weight > 0 {
			out = append(out, step{t, r.To[i].Service == ""})
		}
	}
	return out
}

// lead continues a rule, which has come as far as a route, to the route's destinations.
func (x expansion) lead(e EffectiveRoute, to []step) []EffectiveRoute {
	switch {
	case !slices.ContainsFunc(to, func(s step) bool { return !s.settled }):
		for _, s := range to {
			e.To = append(e.To, s.Target)
		}
		e.To = reduceWeights(e.To)
		return []EffectiveRoute{e}
	case len(to) == 1:
		return x.one(e, to[0].Target)
	}
	return []EffectiveRoute{x.split(e, to)}
}

// one continues a rule to one destination, by each of its routes.
func (x expansion) one(e EffectiveRoute, t Target) []EffectiveRoute {
	says := e.Traits.And(t.Traits)
	e.Traits, e.Port = says, t.Port
	svc := x.m.Service(t.Service)
	if svc == nil {
		e.Service, e.External = nil, x.m.External(t.Service)
		e.To = []Target{{Service: t.Service, Port: t.Port, Version: t.Version, Weight: 1}}
		return []EffectiveRoute{e}
	}
	x, ok := x.at(svc, t)
	if !ok {
		return nil
	}
	e.Service = svc
	image := says.Image()
	var out []EffectiveRoute
	for _, inner := range RoutesFor(x.account, svc.ToPort(t.Port)) {
		next, traits := e, inner.TraitsAt(t.Port)
		next.Inner = append(slices.Clip(e.Inner), InnerRoute{svc, inner})
		to := svc.steps(t.Port, inner)
		if t.Version != "" && len(to) > 0 {
			to = []step{{Target{Service: svc.ID, Port: t.Port, Version: t.Version, Weight: 1}, true}}
		}
		before, err := inner.Match.before(image)
		if err == nil {
			err = says.Joins(traits)
		}
		if err != nil {
			next.Unclear = err.Error()
			out = append(out, next)
			continue
		}
		for _, b := range before {
			if match, ok := IntersectMatches(e.Match, b); ok {
				next.Match, next.Traits = match, says.Then(traits)
				out = append(out, x.lead(next, to)...)
			}
			if b.IsZero() {
				return out // nothing behind a route without conditions is ever tried
			}
		}
	}
	e.NotFound = true
	return append(out, e)
}

// split keeps a route to several destinations one weighted route.
func (x expansion) split(e EffectiveRoute, to []step) EffectiveRoute {
	all, err := x.spread(e.Traits, to)
	if err != nil {
		e.Unclear = err.Error()
		return e
	}
	each := make([]trait.Set, len(all))
	for i, p := range all {
		e.To, each[i] = append(e.To, p.Target), p.traits
	}
	if len(each) == 0 {
		return e
	}
	said := e.Traits
	e.Traits, e.Lost = commonTraits(each)
	e.Lost = slices.DeleteFunc(e.Lost, func(name string) bool { return keepApart(name, e.To, each) })
	e.Lost = slices.DeleteFunc(e.Lost, func(name string) bool {
		v, _ := said.Lookup(name)
		_, agreed := v.(trait.Agreed)
		return agreed // what one of them does not say does not count
	})
	return e
}

// part is a share of the requests of a route, with all that is said of it.
type part struct {
	Target
	traits trait.Set
}

// spread are all shares of requests of which that is said so far, with relative weights.
func (x expansion) spread(says trait.Set, to []step) ([]part, error) {
	parts := make([][]part, len(to))
	sums, scale := make([]Percent, len(to)), Percent(1)
	for i, t := range to {
		var err error
		if parts[i], err = x.behind(says.And(t.Traits), t); err != nil {
			return nil, err
		}
		for _, p := range parts[i] {
			sums[i] += p.Weight
		}
		scale = lcm(scale, max(1, sums[i]))
	}
	var out []part
	common := Percent(0)
	for i, t := range to {
		for _, p := range parts[i] {
			p.Weight *= t.Weight * scale / sums[i]
			out, common = append(out, p), gcd(common, p.Weight)
		}
	}
	for i := range out {
		out[i].Weight /= common
	}
	return out, nil
}

// behind are the shares of what goes to one destination, of which all that is said which is said before it.
func (x expansion) behind(says trait.Set, t step) ([]part, error) {
	there := part{Target{Service: t.Service, Port: t.Port, Version: t.Version, Weight: 1}, says}
	svc := x.m.Service(t.Service)
	if svc == nil || t.settled {
		return []part{there}, nil
	}
	x, ok := x.at(svc, t.Target)
	if !ok {
		return nil, nil
	}
	own, to := trait.Set{}, []step(nil)
	routes := RoutesFor(x.account, svc.ToPort(t.Port))
	if k := slices.IndexFunc(routes, func(r Route) bool { return r.Match.IsZero() }); k >= 0 {
		own, to = routes[k].TraitsAt(t.Port), svc.steps(t.Port, routes[k])
	}
	if err := says.Joins(own); err != nil {
		return nil, err
	}
	there.traits = says.Then(own)
	if t.Version != "" {
		return []part{there}, nil
	}
	return x.spread(there.traits, to)
}

// keepApart gives each destination what it has of a name, if each may have its own.
func keepApart(name string, to []Target, each []trait.Set) bool {
	for _, s := range each {
		if v, ok := s.Lookup(name); ok {
			if _, apart := v.(trait.Apart); !apart {
				return false
			}
		}
	}
	for i, s := range each {
		if v, ok := s.Lookup(name); ok {
			to[i].Traits = to[i].Traits.With(v)
		}
	}
	return true
}

// commonTraits splits traits into those that all sets share with equal value
// and the names of those that they do not.
func commonTraits(sets []trait.Set) (same trait.Set, differing []string) {
	names := map[string]bool{}
	for _, s := range sets {
		for _, n := range s.Names() {
			names[n] = true
		}
	}
	for n := range names {
		v, ok := sets[0].Lookup(n)
		for _, s := range sets[1:] {
			w, has := s.Lookup(n)
			ok = ok && has && equalJSON(v, w)
		}
		switch {
		case ok && !slices.ContainsFunc(sets, func(s trait.Set) bool { return !s.IsDefault(n) }):
			same = same.WithDefault(v)
		case ok:
			same = same.With(v)
		default:
			differing = append(differing, n)
		}
	}
	slices.Sort(differing)
	return same, differing
}

func equalJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// innerTargets are the destinations of a service's own route, with weights
// reduced and zero shares left out.
func (s *Service) innerTargets(port string, r Route) []Target {
	return reduceWeights(Weighty(s.own(port, r.To)))
}

func reduceWeights(ts []Target) []Target {
	g := Percent(0)
	for _, t := range ts {
		g = gcd(g, t.Weight)
	}
	for i := range ts {
		ts[i].Weight /= g
	}
	return ts
}

func gcd(a, b Percent) Percent {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func lcm(a, b Percent) Percent { return a / gcd(a, b) * b }
