package model

import (
	"bytes"
	"encoding/json"
	"slices"

	"meshc.dev/meshc/compiler/internal/trait"
)

// EffectiveRoute is one rule of a gateway's host as a request meets it: the
// gateway's own route joined with one route of the service behind it.
type EffectiveRoute struct {
	// Gateway is the gateway's route as written.
	Gateway Route
	// Service is the service behind it, nil if the gateway route answers itself, goes
	// to an external, or spreads over several destinations.
	Service *Service
	// External is the external behind it, nil otherwise.
	External *External
	// Port is the name of the destination's port ("" if there are several or none).
	Port string
	// Inner is the service's route, the zero Route if there is none.
	Inner Route
	// Match is the conjunction of both routes' conditions, on the request as it comes to the
	// gateway. A service's route that takes what several conditions together say has a rule for each.
	Match Match
	// Traits are those of both, with what the gateway's destination says in between. Where both set
	// one, they are joined if they can be (trait.Chained), else the gateway's value stands; one that
	// nobody wrote gives way.
	Traits trait.Set
	// To is where requests go, with service or external ID, port and (for a
	// service) version set, and with what it has of its own beside Traits (Apart). Weights are relative
	// and positive. Empty if a trait answers, or if NotFound.
	To []Target
	// NotFound says that the gateway route took the request and no route of the
	// service does: the answer is 404, not the gateway's next route.
	NotFound bool
	// Lost names the traits that could not be kept because several destinations
	// differ in them. Resolve refuses such a mesh; a target must not drop them silently.
	Lost []string
	// Unclear says why it cannot be told which requests the service's route takes of those
	// that the gateway's route changes; "" if it can. No mesh with such a route is compiled.
	Unclear string
}

// GatewayRoutes expands the routes of one host of a gateway in the order of
// trial: each gateway route to a service becomes gateway route × the service's
// routes for its account, which apply to requests as the gateway's route leaves them. Combinations that no request can meet are left out. Eval and every
// target share this expansion, so that they cannot disagree about it.
func (m *Mesh) GatewayRoutes(g *Gateway, h Host) []EffectiveRoute {
	out, account := make([]EffectiveRoute, 0, len(h.Routes)), g.Namespace+"/"+g.Account
	for _, r := range h.Routes {
		targets := Weighty(r.To)
		switch len(targets) {
		case 0:
			out = append(out, EffectiveRoute{Gateway: r, Match: r.Match, Traits: r.Traits})
		case 1:
			out = append(out, m.expandOne(account, r, targets[0])...)
		default:
			out = append(out, m.expandSplit(account, r, targets))
		}
	}
	return out
}

func (m *Mesh) expandOne(account string, r Route, t Target) []EffectiveRoute {
	says := r.Traits.And(t.Traits)
	base := EffectiveRoute{Gateway: r, Port: t.Port, Match: r.Match, Traits: says}
	svc := m.Service(t.Service)
	if svc == nil {
		base.External = m.External(t.Service)
		base.To = []Target{{Service: t.Service, Port: t.Port, Version: t.Version, Weight: 1}}
		return []EffectiveRoute{base}
	}
	base.Service = svc
	image := says.Image()
	var out []EffectiveRoute
	for _, inner := range RoutesFor(account, svc.Routes) {
		e := base
		e.Inner = inner
		if e.To = svc.innerTargets(t.Port, inner); t.Version != "" && len(e.To) > 0 {
			e.To = []Target{{Service: svc.ID, Port: t.Port, Version: t.Version, Weight: 1}}
		}
		before, err := inner.Match.before(image)
		if err == nil {
			err = says.Joins(inner.TraitsAt(t.Port))
		}
		if err != nil {
			e.Unclear = err.Error()
			out = append(out, e)
			continue
		}
		for _, b := range before {
			if match, ok := IntersectMatches(r.Match, b); ok {
				e.Match, e.Traits = match, says.Then(inner.TraitsAt(t.Port))
				out = append(out, e)
			}
			if b.IsZero() {
				return out // nothing behind a route without conditions is ever tried
			}
		}
	}
	base.NotFound = true
	return append(out, base)
}

// innerTargets are the destinations of a service's own route, with weights
// reduced and zero shares left out.
func (s *Service) innerTargets(port string, r Route) []Target {
	var out []Target
	for _, t := range r.To {
		if t.Weight > 0 {
			t.Service, t.Port = s.ID, port
			out = append(out, t)
		}
	}
	return reduceWeights(out)
}

// expandSplit keeps a gateway route to several destinations one weighted route.
func (m *Mesh) expandSplit(account string, r Route, targets []Target) EffectiveRoute {
	e := EffectiveRoute{Gateway: r, Match: r.Match, Traits: r.Traits}
	shares := make([][]Target, len(targets))
	sums := make([]Percent, len(targets))
	scale := Percent(1)
	inner := make([][]trait.Set, len(targets)) // of each share
	for i, t := range targets {
		says, own := r.Traits.And(t.Traits), trait.Set{}
		shares[i] = []Target{{Service: t.Service, Port: t.Port, Version: t.Version, Weight: 1}}
		if svc := m.Service(t.Service); svc != nil {
			if t.Version == "" {
				shares[i] = nil
			}
			routes := RoutesFor(account, svc.Routes)
			if k := slices.IndexFunc(routes, func(x Route) bool { return x.Match.IsZero() }); k >= 0 {
				own = routes[k].TraitsAt(t.Port)
				if t.Version == "" {
					shares[i] = svc.innerTargets(t.Port, routes[k])
				}
			}
		}
		if err := says.Joins(own); err != nil {
			e.Unclear = err.Error()
			return e
		}
		for _, s := range shares[i] {
			sums[i] += s.Weight
			inner[i] = append(inner[i], says.Then(own).And(s.Traits))
		}
		scale = lcm(scale, max(1, sums[i]))
	}
	for i, t := range targets {
		for _, s := range shares[i] {
			e.To = append(e.To, Target{Service: s.Service, Port: s.Port, Version: s.Version, Weight: s.Weight * t.Weight * scale / sums[i]})
		}
	}
	e.To = reduceWeights(e.To)
	each := slices.Concat(inner...)
	if len(each) == 0 {
		return e
	}
	e.Traits, e.Lost = commonTraits(each)
	e.Lost = slices.DeleteFunc(e.Lost, func(name string) bool { return keepApart(name, e.To, each) })
	e.Lost = slices.DeleteFunc(e.Lost, func(name string) bool {
		v, _ := r.Traits.Lookup(name)
		_, agreed := v.(trait.Agreed)
		return agreed // what one of them does not say does not count
	})
	return e
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
