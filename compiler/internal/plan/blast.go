package plan

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
)

// blast lists what a change touches: the changed services, all that call them, and
// gateways that send to them.
func (c *comparison) blast() Blast {
	callers, gateways := map[string]bool{}, map[string]bool{}
	for id := range c.touchedGateways {
		gateways[id] = true
	}
	for _, m := range []*model.Mesh{c.before, c.after} {
		for _, s := range m.Services {
			if slices.ContainsFunc(s.Calls, func(call model.Call) bool { return c.touchedServices[call.To] }) {
				callers[s.ID] = true
			}
		}
		for _, g := range m.Gateways {
			if c.sendsToTouched(g) {
				callers["gateway/"+g.ID], gateways[g.ID] = true, true
			}
		}
	}
	return Blast{Services: sortedKeys(c.touchedServices), Callers: sortedKeys(callers), Gateways: sortedKeys(gateways)}
}

func (c *comparison) sendsToTouched(g *model.Gateway) bool {
	for _, h := range g.Hosts {
		for _, r := range h.Routes {
			for _, t := range r.To {
				if c.touchedServices[t.Service] {
					return true
				}
			}
		}
	}
	return false
}
