package eval

import (
	"maps"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// gatewayDecision follows the requests to one host through the gateway's routes and
// the proxies of the services behind them. The gateway calls with its own identity, so
// tests on identity are decided here; whoever calls the gateway needs no grant.
func gatewayDecision(m *model.Mesh, g *model.Gateway, h model.Host, c Column) space.Decision {
	d := space.Decision{Scope: space.Scope{Kind: "gateway", ID: g.ID, Port: h.Name, Protocol: string(model.HTTP), Besides: besides(g, h)}}
	known := behind{mesh: m, column: c, identity: g.Class().SPIFFEID(m.TrustDomain), doors: map[destination]door{}}
	for _, e := range m.GatewayRoutes(g, h) {
		r := gatewayRule(g, h, e)
		begin, refusals := start(r), visitorRefusals(m.TrustDomain, g, h, e.Traits.SignedIn)
		if r.Then.Verdict != space.Forward {
			d.Routes = append(d.Routes, r)
			d.Effective = append(d.Effective, begin.through(refusals, func(w way) space.List { return space.List{w.rule()} })...)
			continue
		}
		acts := inOrder(append(c.acts(e.Traits), refusals...))
		d.Routes = append(d.Routes, begin.whole(acts))
		before, after := behindAccess(acts)
		d.Effective = append(d.Effective, begin.through(before, func(w way) space.List { return known.follow(w, e.To, after) })...)
	}
	last := notFound(model.GatewayPath(g.ID))
	d.Routes, d.Effective = append(d.Routes, last), append(d.Effective, last)
	return d
}

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

func gatewayRule(g *model.Gateway, h model.Host, e model.EffectiveRoute) space.Rule {
	r := space.Rule{
		When: e.Match.Tests(),
		Then: space.Outcome{Verdict: space.Forward},
		From: []space.Origin{space.Origin(model.GatewayRoutePath(g.ID, h.Name, e.Gateway.Name))},
	}
	if e.Service != nil && e.Inner.Name != "" {
		r.From = append(r.From, space.Origin(model.RoutePath(e.Service.ID, e.Inner.Name)))
	}
	if e.NotFound {
		r.Then = space.NotRouted()
		return r
	}
	r.Image = e.Traits.Image()
	for _, t := range e.To {
		r.Then.Shares = append(r.Then.Shares, space.Share{Target: targetName(t), Weight: t.Weight})
	}
	return r
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

// behind holds the doors of destinations as one identity meets them.
type behind struct {
	mesh     *model.Mesh
	column   Column
	identity string
	doors    map[destination]door
}

// door is a destination's door with the identity decided. An external has none: what a
// route sends there goes there.
func (b behind) door(to destination) door {
	if d, ok := b.doors[to]; ok {
		return d
	}
	d := door{none: true, rules: space.List{{Then: space.Outcome{Verdict: space.Forward}}}}
	if s := b.mesh.Service(to.service); s != nil {
		d = door{}
		if p, ok := s.Port(to.port); ok {
			d = doorOf(s, p, b.column, b.column.access(b.mesh, s, p))
			d.rules = AsIdentity(d.rules, b.identity)
			for i := range d.rules {
				d.rules[i].When = space.BehindGateway(d.rules[i].When)
			}
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

// follow leads the way to all destinations of a route at once. A share that its
// destination's proxy answers stays in the outcome with that status; if that is so of
// all, the outcome is that answer.
func (b behind) follow(w way, to []model.Target, behind []act) space.List {
	var dests []destination
	for _, t := range to {
		if d := (destination{t.Service, t.Port}); !slices.Contains(dests, d) {
			dests = append(dests, d)
		}
	}
	if len(dests) == 0 {
		return space.List{w.ending(space.Refused()).rule()}
	}
	partial := []meeting{{way: w, at: map[destination]space.Outcome{}}}
	for _, d := range dests {
		var next []meeting
		for _, p := range partial {
			for _, r := range w.behind(b.door(d).rules) {
				next = append(next, p.and(d, r))
			}
		}
		partial = next
	}
	var out space.List
	for _, p := range partial {
		out = append(out, b.end(p, to, behind)...)
	}
	return out
}

// meeting is a way with what one rule of each destination's door so far says.
type meeting struct {
	way way
	at  map[destination]space.Outcome
}

func (p meeting) and(d destination, r space.Rule) meeting {
	out := meeting{way: p.way, at: maps.Clone(p.at)}
	out.way.when, out.way.from = slices.Concat(p.way.when, r.When), slices.Concat(p.way.from, r.From)
	out.at[d] = r.Then
	return out
}

// end is where the requests arrive that meet these rules.
func (b behind) end(p meeting, to []model.Target, behind []act) space.List {
	var shares []space.Share
	passed := false
	for i, t := range to { // the way's shares are these destinations, in their order
		d := destination{t.Service, t.Port}
		there := p.at[d]
		shares = append(shares, space.Share{Target: targetName(t), Weight: t.Weight, Status: there.Status, Upgrades: b.door(d).passes(p.way.then.Shares[i].Upgrades)})
		passed = passed || there.Status == 0 && t.Weight > 0
	}
	first := p.at[destination{to[0].Service, to[0].Port}]
	if !passed && !slices.ContainsFunc(shares, func(s space.Share) bool { return s.Status != first.Status }) {
		return space.List{p.way.refusedInside(first).rule()}
	}
	p.way.then.Shares = shares
	return p.way.through(behind, func(w way) space.List { return space.List{w.rule()} })
}
