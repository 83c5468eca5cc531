package resolve

import (
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
)

// checkLeading refuses routes of services that lead, over others, back to their service: where routes choose among
// destinations, such requests would never come to a workload.
func (l *linker) checkLeading() {
	told := map[string]bool{}
	for _, s := range l.mesh.Services {
		if s.LeadsOn() {
			l.leadingBack(s, nil, told)
		}
	}
}

// leadingBack follows routes from a service; by are the routes by which it has come there, from what they lead on.
func (l *linker) leadingBack(s *model.Service, by []lead, told map[string]bool) {
	if i := slices.IndexFunc(by, func(b lead) bool { return b.from == s }); i >= 0 {
		l.tellLeadingBack(by[i:], told)
		return
	}
	for _, r := range s.Routes {
		for _, t := range model.Weighty(r.To) {
			if to := l.mesh.Service(t.Service); to != nil && t.Version == "" {
				l.leadingBack(to, append(slices.Clip(by), lead{s, model.RoutePath(s.ID, r.Name)}), told)
			}
		}
	}
}

// lead is a route, by its mesh path, by which requests leave a service for another one.
type lead struct {
	from *model.Service
	path string
}

func (l *linker) tellLeadingBack(ring []lead, told map[string]bool) {
	first := 0
	for i, r := range ring {
		if r.path < ring[first].path {
			first = i
		}
	}
	ring = slices.Concat(ring[first:], ring[:first])
	var names, paths []string
	for _, r := range ring {
		names, paths = append(names, r.from.ID), append(paths, r.path)
	}
	key := strings.Join(paths, "\n")
	if told[key] {
		return
	}
	told[key] = true
	d := diag.New(diag.CodeRing, l.lineOf(paths[0]), "routes lead from service to service in a ring: %s", ringText(append(names, names[0]))).
		WithFix("say the `version` of a destination where the ring may end, or let one of the routes keep its requests")
	for _, p := range paths[1:] {
		d = d.WithRelated(l.lineOf(p), "the next route")
	}
	l.add(d)
}

// checkLedAdmitted warns of services to which a service's route leads and that refuse those who call it: they ask who
// has called first.
func (l *linker) checkLedAdmitted(granting map[string]*model.Service) {
	callers := l.callersOf()
	for _, s := range l.mesh.Services {
		for _, r := range s.Routes {
			if r.LeadsOn() {
				l.ledAdmits(granting, s, r, callers[s.ID])
			}
		}
	}
}

func (l *linker) ledAdmits(granting map[string]*model.Service, s *model.Service, r model.Route, callers []string) {
	for _, t := range model.Weighty(r.To) {
		to := granting[t.Service]
		if to == nil || slices.ContainsFunc(to.Routes, func(own model.Route) bool { return len(own.To) == 0 || own.LeadsOn() }) {
			continue // proxies answer some of it themselves, or send it elsewhere
		}
		refused := slices.DeleteFunc(slices.Clone(callers), func(account string) bool {
			return r.Match.AsksCaller() && !r.Match.Admits(space.CallerDim, account) || admits(to, t.Port, account, r) || l.refusalMeant(s.ID, []string{account})
		})
		if len(refused) == 0 {
			continue
		}
		why, fix := refusal(to, t.Port, refused, "let "+strconv.Quote(to.ID)+" say: grant: "+strconv.Quote(s.Name)+": "+whoAre(refused))
		l.add(diag.Warn(diag.CodeRefused, l.lineOf(model.RoutePath(s.ID, r.Name)), "the route leads to %q, which asks who has called %q first and refuses some of those whatever they ask for: %s %s there",
			to.ID, s.ID, why, someOf(refused)).
			WithRelated(l.lineOf(model.ServicePath(to.ID)), "the service").WithFix("%s", fix))
	}
}
