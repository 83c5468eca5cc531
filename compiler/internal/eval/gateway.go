package eval

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

// gatewayDecision follows the requests to one host through the gateway's routes and
// the proxies of the services behind them. The gateway calls with its own identity, so
// tests on identity are decided here; whoever calls the gateway needs no grant.
func gatewayDecision(m *model.Mesh, g *model.Gateway, h model.Host, c Column) space.Decision {
	d := space.Decision{Scope: space.Scope{Kind: "gateway", ID: g.ID, Port: h.Name, Protocol: string(model.HTTP), Besides: besides(g, h)}}
	d.Again = h.ChoosesAgain()
	alike := trait.Set{}
	known := behind{mesh: m, column: c, identity: g.Class().SPIFFEID(m.TrustDomain), doors: map[destination]door{}}
	routes := m.GatewayRoutes(g, h)
	if i := slices.IndexFunc(routes, func(e model.EffectiveRoute) bool { return !e.NotFound }); i >= 0 && d.Again {
		alike = routes[i].Traits // what filters do is the same on all of them, those that no route takes included
	}
	unrouted := func(r space.Rule) space.List {
		acts := append(c.before(alike), visitorRefusals(m.TrustDomain, g, h, alike.SignedIn)...)
		return start(r).through(inOrder(acts), way.unrouted)
	}
	for _, e := range routes {
		r, refusals := effectiveRule(model.GatewayRoutePath(g.ID, h.Name, e.Outer.Name), e, visitorTests(e)), visitorRefusals(m.TrustDomain, g, h, e.Traits.SignedIn)
		if e.NotFound && d.Again {
			d.Routes = append(d.Routes, r)
			d.Effective = append(d.Effective, unrouted(r)...)
			continue
		}
		if r.Then.Verdict != space.Forward {
			d.Routes = append(d.Routes, r)
			d.Effective = append(d.Effective, start(r).through(refusals, func(w way) space.List { return space.List{w.rule()} })...)
			continue
		}
		begin, acts := c.leaving(r, e.Traits, e.To)
		acts = inOrder(append(acts, refusals...))
		d.Routes = append(d.Routes, begin.whole(acts))
		before, after := behindAccess(acts)
		d.Effective = append(d.Effective, begin.through(before, func(w way) space.List { return known.follow(w, e.To, after) })...)
	}
	last := notFound(model.GatewayPath(g.ID))
	d.Routes = append(d.Routes, last)
	if d.Again {
		d.Effective = append(d.Effective, unrouted(last)...)
	} else {
		d.Effective = append(d.Effective, last)
	}
	return d
}

// visitorTests are the tests of a gateway's route: of what tokens say, at those requests whose tokens are looked at.
func visitorTests(e model.EffectiveRoute) []space.Test {
	out := e.Match.Tests()
	for _, t := range e.Match.Late() {
		if provider, ok := t.Dim.User(); ok {
			are, _ := e.Traits.SignedIn(provider)
			out = slices.Concat(out, are)
		}
	}
	return out
}

// before are what traits do to a request before its route acts.
func (c Column) before(s trait.Set) []act {
	return slices.DeleteFunc(c.acts(s), func(a act) bool { return a.At >= space.AtRoute })
}

// unrouted ends a way of which no route takes the requests.
func (w way) unrouted() space.List { return space.List{w.ending(space.NotRouted()).rule()} }

// Besides are those of a gateway's names that take what another one of them would.
func Besides(name string, names []string) string {
	if !strings.HasPrefix(name, "*") {
		return ""
	}
	var out []string
	for _, other := range names {
		if other != name && model.HostCovers(name, strings.ToLower(other)) && model.MoreSpecific(other, name) {
			out = append(out, other)
		}
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), " ")
}

// besides is Besides of one of a gateway's hosts. Most take one name, and there may be thousands.
func besides(g *model.Gateway, h model.Host) string {
	if !strings.HasPrefix(h.Name, "*") {
		return ""
	}
	names := make([]string, len(g.Hosts))
	for i, other := range g.Hosts {
		names[i] = other.Name
	}
	return Besides(h.Name, names)
}

// targetName is the cluster of a service's version, or of an external.
func targetName(t model.Target) string {
	if t.Version == "" {
		return model.ExternalClusterName(t.Service, t.Port)
	}
	return model.ClusterName(t.Service, t.Port, t.Version)
}

// destination is a service's port.
type destination struct{ service, port string }

// behind holds the doors of destinations behind routes: as the identity of a gateway meets them, or, if it is "", as
// whoever calls does.
type behind struct {
	mesh     *model.Mesh
	column   Column
	identity string
	doors    map[destination]door
}

// door is a destination's door, with a gateway's identity decided. An external has none: what a
// route sends there goes there.
func (b behind) door(to destination) door {
	if d, ok := b.doors[to]; ok {
		return d
	}
	d := door{none: true, rules: space.List{{Then: space.Outcome{Verdict: space.Forward}}}}
	if s := b.mesh.Service(to.service); s != nil {
		d = door{}
		if p, ok := s.Port(to.port); ok {
			d = b.met(doorOf(s, p, b.column, b.column.access(b.mesh, s, p)))
		}
	}
	b.doors[to] = d
	return d
}

// AsIdentity returns what is left of l for one caller: tests on identity are
// decided, rules that cannot match are gone, and the list ends with the first
// rule that takes everything.
func AsIdentity(l space.List, identity string) space.List {
	var out space.List
	q := space.Request{From: identity}
	for _, r := range l {
		kept := space.Rule{Then: r.Then, From: r.From}
		possible := true
		for _, t := range r.When {
			if t.Dim != space.IdentityDim {
				kept.When = append(kept.When, t)
			} else if !t.Holds(q) {
				possible = false
			}
		}
		if !possible {
			continue
		}
		out = append(out, kept)
		if len(kept.When) == 0 {
			break
		}
	}
	return out
}

// met is a door as the identity meets it.
func (b behind) met(d door) door {
	if b.identity == "" {
		return d
	}
	d.rules = AsIdentity(d.rules, b.identity)
	for i := range d.rules {
		d.rules[i].When = space.BehindGateway(d.rules[i].When)
	}
	return d
}

// LetsIn reports whether the proxy of a service's port lets a request in that a gateway of that identity sends, or, if it
// is "", whoever calls.
func LetsIn(m *model.Mesh, c Column, identity, service, port string, q space.Request) bool {
	d := behind{mesh: m, column: c, identity: identity, doors: map[destination]door{}}.door(destination{service, port})
	r, ok := First(d.rules, q)
	return ok && r.Then.Verdict == space.Forward
}

// ends are where shares go, in their order.
func (b behind) ends(to []model.Target) []end {
	out := make([]end, len(to))
	for i, t := range to {
		d := destination{t.Service, t.Port}
		out[i] = end{d, b.door(d)}
	}
	return out
}

// follow leads the way to all destinations of a route at once.
func (b behind) follow(w way, to []model.Target, acts []act) space.List {
	if len(to) == 0 {
		return space.List{w.ending(space.Refused()).rule()}
	}
	return w.follow(b.ends(to), acts, way.refusedInside)
}
