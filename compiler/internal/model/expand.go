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
	// Traits are those of both. Where both set one, they are joined if they can be
	// (trait.Chained), else the gateway's value stands; one that nobody wrote gives way.
	Traits trait.Set
	// To is where requests go, with service or external ID, port and (for a
	// service) version set. Weights are relative and positive. Empty if a trait
	// answers, or if NotFound.
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
		targets := slices.DeleteFunc(slices.Clone(r.To), func(t Target) bool { return t.Weight <= 0 })
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
	base := EffectiveRoute{Gateway: r, Port: t.Port, Match: r.Match, Traits: r.Traits}
	svc := m.Service(t.Service)
	if svc == nil {
		base.External = m.External(t.Service)
		t.Weight = 1
		base.To = []Target{t}
		return []EffectiveRoute{base}
	}
	base.Service = svc
	image := r.Traits.Image()
	var out []EffectiveRoute
	for _, inner := range RoutesFor(account, svc.Routes) {
		e := base
		e.Inner = inner
		if e.To = svc.innerTargets(t.Port, inner); t.Version != "" && len(e.To) > 0 {
			e.To = []Target{{Service: svc.ID, Port: t.Port, Version: t.Version, Weight: 1}}
		}
		before, err := inner.Match.before(image)
		if err == nil {
			err = r.Traits.Joins(inner.TraitsAt(t.Port))
		}
		if err != nil {
			e.Unclear = err.Error()
			out = append(out, e)
			continue
		}
		for _, b := range before {
			if match, ok := IntersectMatches(r.Match, b); ok {
				e.Match, e.Traits = match, r.Traits.Then(inner.TraitsAt(t.Port))
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
			out = append(out, Target{Service: s.ID, Port: port, Version: t.Version, Weight: t.Weight})
		}
	}
	return reduceWeights(out)
}

// expandSplit keeps a gateway route to several destinations one weighted route.
func (m *Mesh) expandSplit(account string, r Route, targets []Target) EffectiveRoute {
	e := EffectiveRoute{Gateway: r, Match: r.Match, Traits: r.Traits}
	shares := make([][]Target, len(targets))
	sums := make([]int, len(targets))
	scale := 1
	var inner []trait.Set
	for i, t := range targets {
		shares[i] = []Target{{Service: t.Service, Port: t.Port, Version: t.Version, Weight: 1}}
		if svc := m.Service(t.Service); svc != nil {
			if t.Version == "" {
				shares[i] = nil
			}
			own := RoutesFor(account, svc.Routes)
			if k := slices.IndexFunc(own, func(x Route) bool { return x.Match.IsZero() }); k >= 0 {
				if t.Version == "" {
					shares[i] = svc.innerTargets(t.Port, own[k])
				}
				inner = append(inner, own[k].TraitsAt(t.Port))
			}
		} else {
			inner = append(inner, trait.Set{})
		}
		for _, s := range shares[i] {
			sums[i] += s.Weight
		}
		scale = lcm(scale, max(1, sums[i]))
	}
	for i, t := range targets {
		for _, s := range shares[i] {
			s.Weight *= t.Weight * scale / sums[i]
			e.To = append(e.To, s)
		}
	}
	e.To = reduceWeights(e.To)
	if len(inner) == 0 {
		return e
	}
	for i, own := range inner {
		if err := r.Traits.Joins(own); err != nil {
			e.Unclear = err.Error()
			return e
		}
		inner[i] = r.Traits.Then(own)
	}
	e.Traits, e.Lost = commonTraits(inner)
	e.Lost = slices.DeleteFunc(e.Lost, func(name string) bool {
		v, _ := r.Traits.Lookup(name)
		_, agreed := v.(trait.Agreed)
		return agreed // what one of them does not say does not count
	})
	return e
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
	g := 0
	for _, t := range ts {
		g = gcd(g, t.Weight)
	}
	for i := range ts {
		ts[i].Weight /= g
	}
	return ts
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func lcm(a, b int) int { return a / gcd(a, b) * b }
