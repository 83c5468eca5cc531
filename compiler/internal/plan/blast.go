package plan

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
)

// blast lists whose configuration a change touches: the proxies of changed
// services, those of all that call them, and gateways that send to them.
func (c *comparison) blast() Blast {
	proxies, callers, gateways := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for id := range c.touchedGateways {
		gateways[id] = true
	}
	for _, m := range []*model.Mesh{c.before, c.after} {
		for _, s := range m.Services {
			calls := slices.ContainsFunc(s.Calls, func(call model.Call) bool { return c.touchedServices[call.To] })
			if calls {
				callers[s.ID] = true
			}
			if !calls && !c.touchedServices[s.ID] {
				continue
			}
			for _, v := range s.Versions {
				proxies[s.Class(v).String()] = true
			}
		}
		for _, g := range m.Gateways {
			if c.sendsToTouched(g) {
				callers["gateway/"+g.ID], gateways[g.ID] = true, true
			}
			if gateways[g.ID] {
				proxies[g.Class().String()] = true
			}
		}
	}
	return Blast{
		Proxies: sortedKeys(proxies), Services: sortedKeys(c.touchedServices),
		Callers: sortedKeys(callers), Gateways: sortedKeys(gateways),
	}
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
