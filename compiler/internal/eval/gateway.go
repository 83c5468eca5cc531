package eval

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// gatewayDecision composes a host's routes with the grants of the services
// behind them. The gateway calls with its own identity, so tests on identity
// are decided here; whoever calls the gateway needs no grant.
func gatewayDecision(m *model.Mesh, g *model.Gateway, h model.Host, c Column) space.Decision {
	d := space.Decision{Scope: space.Scope{Kind: "gateway", ID: g.ID, Port: h.Name, Protocol: string(model.HTTP)}}
	known := behind{mesh: m, identity: g.Class().SPIFFEID(m.TrustDomain), lists: map[destination]space.List{}}
	for _, e := range m.GatewayRoutes(g, h) {
		r := gatewayRule(g, h, e, c)
		d.Routes = append(d.Routes, r)
		if r.Then.Verdict != space.Forward {
			d.Effective = append(d.Effective, r)
			continue
		}
		d.Effective = append(d.Effective, known.behindRoute(r, e.To)...)
	}
	last := notFound(model.GatewayPath(g.ID))
	d.Routes = append(d.Routes, last)
	d.Effective = append(d.Effective, last)
	return d
}

func gatewayRule(g *model.Gateway, h model.Host, e model.EffectiveRoute, c Column) space.Rule {
	r := space.Rule{
		When: MatchTests(e.Match),
		Then: space.Outcome{Verdict: space.Forward},
		From: []space.Origin{space.Origin(model.GatewayRoutePath(g.ID, h.Name, e.Gateway.Name))},
	}
	if e.Service != nil && e.Inner.Name != "" {
		r.From = append(r.From, space.Origin(model.RoutePath(e.Service.ID, e.Inner.Name)))
	}
	if e.NotFound {
		r.Then.Verdict = space.NotFound
		return r
	}
	r.Then.Fields = c.Fields(e.Traits)
	if _, ok := e.Traits.Lookup(RedirectTrait); ok {
		r.Then.Verdict = space.Redirect
		return r
	}
	for _, t := range e.To {
		r.Then.Shares = append(r.Then.Shares, space.Share{Target: targetName(t), Weight: t.Weight})
	}
	r.Then = r.Then.Canonical()
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

// behind holds the access lists of destinations as one identity meets them.
type behind struct {
	mesh     *model.Mesh
	identity string
	lists    map[destination]space.List
}

// access is the access list of a destination with the identity decided. An
// external has none: what a route sends there goes there.
func (b behind) access(to destination) space.List {
	if l, ok := b.lists[to]; ok {
		return l
	}
	l := space.List{{Then: space.Outcome{Verdict: space.Forward}}}
	if s := b.mesh.Service(to.service); s != nil {
		l = nil
		if p, ok := s.Port(to.port); ok {
			l = AsIdentity(accessList(b.mesh, s, p), b.identity)
		}
	}
	b.lists[to] = l
	return l
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
			} else if !holds(t, q) {
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

// DeniedShare marks a share whose destination refuses the gateway while another
// destination of the same route lets it through.
const DeniedShare = "denied:"

// behindRoute is route r × the access lists of all its destinations. A share
// that its destination denies stays in the outcome, marked by DeniedShare; if
// all are denied, the verdict is Denied.
func (b behind) behindRoute(r space.Rule, to []model.Target) space.List {
	var dests []destination
	for _, t := range to {
		if d := (destination{t.Service, t.Port}); !slices.Contains(dests, d) {
			dests = append(dests, d)
		}
	}
	if len(dests) == 0 {
		r.Then = denied(r.Then.Fields) // all weights are zero: nothing can be reached
		return space.List{r}
	}
	partial := []meeting{{rule: space.Rule{When: r.When, From: r.From}}}
	for _, d := range dests {
		var next []meeting
		for _, p := range partial {
			for _, a := range b.access(d) {
				next = append(next, p.and(d, a))
			}
		}
		partial = next
	}
	out := make(space.List, 0, len(partial))
	for _, p := range partial {
		p.rule.Then = p.outcome(r.Then, to)
		out = append(out, p.rule)
	}
	return out
}

// meeting is a route joined with one access rule of each destination so far.
type meeting struct {
	rule    space.Rule
	refused []destination
}

func (p meeting) and(d destination, a space.Rule) meeting {
	out := meeting{
		rule:    space.Rule{When: slices.Concat(p.rule.When, a.When), From: slices.Concat(p.rule.From, a.From)},
		refused: slices.Clone(p.refused),
	}
	if a.Then.Verdict == space.Denied {
		out.refused = append(out.refused, d)
	}
	return out
}

func (p meeting) outcome(then space.Outcome, to []model.Target) space.Outcome {
	if len(p.refused) == 0 {
		return then
	}
	o := space.Outcome{Verdict: space.Forward, Fields: then.Fields}
	passed := false
	for _, t := range to {
		share := space.Share{Target: targetName(t), Weight: t.Weight}
		if slices.Contains(p.refused, destination{t.Service, t.Port}) {
			share.Target = DeniedShare + share.Target
		} else {
			passed = passed || t.Weight > 0
		}
		o.Shares = append(o.Shares, share)
	}
	if !passed {
		return denied(then.Fields)
	}
	return o.Canonical()
}
