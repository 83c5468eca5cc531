package plan

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// canaries tells what becomes of the canaries of routes: within what their candidates take over.
// Where requests go at the step that is served, other lines say.
func canaries(before, after []model.Route, tell func(route string, class Class, says Change)) {
	of := func(rs []model.Route, name string) *model.Canary {
		i := slices.IndexFunc(rs, func(r model.Route) bool { return r.Name == name })
		if i < 0 {
			return nil
		}
		return rs[i].Canary
	}
	for _, r := range after {
		b, a := of(before, r.Name), r.Canary
		switch {
		case a == nil && b != nil:
			tell(r.Name, Neutral, Change{What: CanaryGone, Name: r.Name, Before: []string{b.String()}})
		case a == nil:
		case b == nil:
			tell(r.Name, Neutral, Change{What: CanaryNew, Name: r.Name, After: []string{a.String()}})
		case a.Equal(*b):
		case a.Wider(*b):
			tell(r.Name, Weakening, Change{What: CanaryWider, Name: r.Name, Before: []string{b.String()}, After: []string{a.String()}})
		default:
			tell(r.Name, Neutral, Change{What: CanaryOther, Name: r.Name, Before: []string{b.String()}, After: []string{a.String()}})
		}
	}
	for _, r := range before {
		if r.Canary != nil && !slices.ContainsFunc(after, func(a model.Route) bool { return a.Name == r.Name }) {
			tell(r.Name, Neutral, Change{What: CanaryGone, Name: r.Name, Before: []string{r.Canary.String()}})
		}
	}
}

func (c *comparison) serviceCanaries(before, after *model.Service) {
	var was []model.Route
	if before != nil {
		was = before.Routes
	}
	canaries(was, after.Routes, func(route string, class Class, says Change) {
		path := model.RoutePath(after.ID, route)
		c.mentionAt(after, class, KindRoute, ifSide(says.Before != nil, path), ifSide(says.After != nil, path), says)
	})
}

func (c *comparison) hostCanaries(id string, b, a *model.Gateway) {
	routes := func(g *model.Gateway, host string) []model.Route {
		i := slices.IndexFunc(g.Hosts, func(h model.Host) bool { return h.Name == host })
		if i < 0 {
			return nil
		}
		return g.Hosts[i].Routes
	}
	names := map[string]bool{}
	for _, h := range slices.Concat(b.Hosts, a.Hosts) {
		names[h.Name] = true
	}
	for _, host := range sortedKeys(names) {
		canaries(routes(b, host), routes(a, host), func(route string, class Class, says Change) {
			says.Host = host
			c.gatewayNote(id, class, KindRoute, says)
			origin := []space.Origin{space.Origin(model.GatewayRoutePath(id, host, route))}
			p := &c.found[len(c.found)-1]
			if p.before, p.after = nil, nil; says.Before != nil {
				p.before = origin
			}
			if says.After != nil {
				p.after = origin
			}
		})
	}
}
