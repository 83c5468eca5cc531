package compiler

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/model"
)

// usualStatuses is how many statuses a service answers with, as a rule: an estimate has to take some number.
const usualStatuses = 6

// series is about how many series the proxies count of requests, one proxy of each version of
// each service and one of each gateway: a service's by who calls it, a gateway's by its routes.
func series(m *model.Mesh) int {
	callers := map[string]int{}
	for _, s := range m.Services {
		for _, c := range s.Calls {
			callers[c.To]++
		}
	}
	n := 0
	for _, g := range m.Gateways {
		routes, to := 0, map[string]bool{}
		for _, h := range g.Hosts {
			routes += len(h.Routes)
			for _, r := range h.Routes {
				for _, t := range r.To {
					to[t.Service] = true
				}
			}
		}
		for id := range to {
			callers[id]++
		}
		n += catalog.Series(g.Traits, 1, routes, usualStatuses)
	}
	for _, s := range m.Services {
		if slices.ContainsFunc(s.Ports, func(p model.Port) bool { return p.Protocol.IsHTTP() }) {
			n += len(s.Versions) * catalog.Series(s.Traits, max(1, callers[s.ID]), 1, usualStatuses)
		}
	}
	return n
}
