package plan

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
)

// blast lists what a change touches: the changed services and gateways, those whose
// requests to them change, and those whose access does.
func (c *comparison) blast() Blast {
	callers, gateways := map[string]bool{}, map[string]bool{}
	for id := range c.touchedGateways {
		gateways[id] = true
	}
	for _, m := range []*model.Mesh{c.before, c.after} {
		reached := func(id string) bool {
			if s := m.Service(id); s != nil { // by its routes, too
				return slices.ContainsFunc(m.LedTo(s), func(s *model.Service) bool { return c.reachedServices[s.ID] })
			}
			return c.reachedServices[id]
		}
		for _, s := range m.Services {
			if slices.ContainsFunc(s.Calls, func(call model.Call) bool { return reached(call.To) }) {
				callers[s.ID] = true
			}
		}
		for _, g := range m.Gateways {
			if sendsTo(g, reached) {
				callers["gateway/"+g.ID], gateways[g.ID] = true, true
			}
		}
	}
	for who := range c.askers {
		switch who.Kind {
		case CallerService:
			callers[who.Name] = true
		case CallerGateway:
			callers["gateway/"+who.Name], gateways[who.Name] = true, true
		case CallerAccount, CallerAccounts, CallerNamespace, CallerMesh, CallerPlaintext, CallerAnyone, CallerOther:
		}
	}
	return Blast{Services: sortedKeys(c.touchedServices), Callers: sortedKeys(callers), Gateways: sortedKeys(gateways)}
}

// sendsTo reports whether a route of g sends to one of those.
func sendsTo(g *model.Gateway, one func(id string) bool) bool {
	for _, h := range g.Hosts {
		for _, r := range h.Routes {
			if slices.ContainsFunc(r.To, func(t model.Target) bool { return one(t.Service) }) {
				return true
			}
		}
	}
	return false
}
