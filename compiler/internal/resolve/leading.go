package resolve

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
)

// What routes of services may make of each other. Nobody who writes by hand comes near; without an end few lines would
// become more than any compiler or proxy takes.
const (
	// ledMost is over how many services in a row requests are led.
	ledMost = 8
	// endsMost is at how many places the requests of one route end that leads on. What somebody writes one by one has no
	// end here.
	endsMost = 100
	// rulesMost is how many rules a service's routes become with those of the services to which they lead.
	rulesMost = 10_000
	// weightsMost is the sum of all shares of a route, relative to the smallest: what Envoy's
	// WeightedCluster.total_weight holds.
	weightsMost = 1<<32 - 1
)

// checkLeading refuses routes of services that lead, over others, back to their service: where routes choose among
// destinations, such requests would never come to a workload. It refuses those that lead to too much, too. Unless it
// says that all is well nothing can be asked about where routes lead.
func (l *linker) checkLeading() bool {
	problems, w := len(l.diags), leadings{l: l, seen: map[way]*leading{}, told: map[string]bool{}}
	for _, s := range l.mesh.Services {
		if s.LeadsOn() {
			l.leadsWithin(s)
			for _, p := range s.Ports {
				w.from(way{s, p.Name}, nil)
			}
		}
	}
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				one := w.route(r, nil)
				one.services-- // the gateway is none
				if problem := one.tooMuch(); problem != "" {
					w.tell(model.GatewayRoutePath(g.ID, h.Name, r.Name), "route "+strconv.Quote(r.Name)+" of host "+strconv.Quote(h.Name), problem)
				}
			}
		}
	}
	return len(l.diags) == problems
}

// leadsWithin refuses routes to services of other packages. Whoever is called in the end lets in who has called first,
// for what that one asks for: no third party decides what he asks, and of whom.
func (l *linker) leadsWithin(s *model.Service) {
	for _, r := range s.Routes {
		for _, t := range r.To {
			if of := l.home[t.Service]; t.Service != "" && of != nil && of != l.home[s.ID] {
				l.add(diag.New(diag.CodeAttachedTo, l.lineOf(model.RoutePath(s.ID, r.Name)), "route %q of service %q leads to %q, which is not its package's but belongs to %s: callers would come there as who they are, for what the route makes of their requests", r.Name, s.ID, t.Service, of).
					WithRelated(l.declaredAt(t.Service), "declared here").WithFix("lead to a service of %s, which may call on; or let callers call %q", l.home[s.ID], t.Service))
			}
		}
	}
}

// way is a port of a service by which requests come.
type way struct {
	to   *model.Service
	port string
}

// leadings are what the routes of services lead to, each port looked at once.
type leadings struct {
	l    *linker
	seen map[way]*leading // nil while it is looked at
	told map[string]bool  // rings, and routes that lead to too much
}

// leading is what the routes of one service lead to.
type leading struct {
	services int        // in a row, with this one
	rules    int        // of a proxy for its callers
	shares   []*big.Int // relative, of what is led on without conditions
}

// from follows the routes of requests that come to a service; by are the routes by which it has come there.
func (w *leadings) from(come way, by []lead) leading {
	s := come.to
	if done, ok := w.seen[come]; ok {
		if done == nil { // it comes back
			i := slices.IndexFunc(by, func(b lead) bool { return b.from == come })
			w.l.tellLeadingBack(by[i:], w.told)
			return leading{services: 1, rules: 1, shares: []*big.Int{big.NewInt(1)}}
		}
		return *done
	}
	w.seen[come] = nil
	out := leading{services: 1}
	free := false
	for _, r := range s.ToPort(come.port) {
		path := model.RoutePath(s.ID, r.Name)
		one := w.route(r, append(slices.Clip(by), lead{come, path}))
		out.services, out.rules = max(out.services, one.services), min(out.rules+one.rules, rulesMost+1)
		if !free && r.Match.IsZero() {
			free, out.shares = true, one.shares
		}
		if problem := one.tooMuch(); problem != "" {
			w.tell(path, "route "+strconv.Quote(r.Name)+" of service "+strconv.Quote(s.ID), problem)
			out = leading{services: 1, rules: 1, shares: []*big.Int{big.NewInt(1)}} // told once
		}
	}
	if out.rules > rulesMost && s.LeadsOn() && !w.told[s.ID] {
		w.told[s.ID] = true
		w.l.add(diag.New(diag.CodeRange, w.l.lineOf(model.ServicePath(s.ID)), "the routes of service %q and of those to which they lead become more than %d rules", s.ID, rulesMost).
			WithFix("lead to services with fewer routes"))
		out.rules = 1
	}
	if out.rules == 0 {
		out.rules = 1
	}
	w.seen[come] = &out
	return out
}

// tell tells once of a route that leads to too much.
func (w *leadings) tell(path, route, problem string) {
	if w.told[path] {
		return
	}
	w.told[path] = true
	w.l.add(diag.New(diag.CodeRange, w.l.lineOf(path), "%s leads %s", route, problem).
		WithFix("say the `version` of a destination where it may end, or send to fewer services"))
}

// route follows one route of a service, the last of by, or of a gateway.
func (w *leadings) route(r model.Route, by []lead) leading {
	out := leading{services: 1, rules: 1}
	to := model.Weighty(r.To)
	shares, sums, scale := make([][]*big.Int, len(to)), make([]*big.Int, len(to)), big.NewInt(1)
	for i, t := range to {
		shares[i] = []*big.Int{big.NewInt(1)}
		next := w.l.mesh.Service(t.Service)
		switch {
		case t.Service == "" || next == nil:
		case t.Version != "": // its routes are tried, and go no further
			if len(to) == 1 {
				out.rules = len(next.ToPort(t.Port)) + 1
			}
		default:
			there := w.from(way{next, t.Port}, by)
			out.services = max(out.services, there.services+1)
			if len(to) == 1 {
				out.rules = there.rules + 1
			}
			if len(there.shares) > 0 {
				shares[i] = there.shares
			}
		}
		sums[i] = sum(shares[i])
		scale = lcm(scale, sums[i])
	}
	common := new(big.Int)
	for i, t := range to {
		unit := new(big.Int).Div(new(big.Int).Mul(scale, big.NewInt(int64(t.Weight))), sums[i])
		for _, part := range shares[i] {
			x := new(big.Int).Mul(part, unit)
			out.shares, common = append(out.shares, x), new(big.Int).GCD(nil, nil, common, x)
		}
	}
	for _, x := range out.shares {
		x.Div(x, common)
	}
	return out
}

// tooMuch says what is too much, "" for nothing.
func (r leading) tooMuch() string {
	switch {
	case r.services > ledMost:
		return fmt.Sprintf("over more than %d services in a row", ledMost)
	case r.services > 1 && len(r.shares) > endsMost:
		return fmt.Sprintf("to %d places, and at most %d are taken", len(r.shares), endsMost)
	case sum(r.shares).Cmp(big.NewInt(weightsMost)) > 0:
		return "to shares too small beside the others for a proxy to count"
	}
	return ""
}

func sum(of []*big.Int) *big.Int {
	out := new(big.Int)
	for _, x := range of {
		out.Add(out, x)
	}
	return out
}

func lcm(a, b *big.Int) *big.Int {
	return new(big.Int).Mul(new(big.Int).Div(a, new(big.Int).GCD(nil, nil, a, b)), b)
}

// lead is a route, by its mesh path, by which requests leave a service for another one.
type lead struct {
	from way
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
		names, paths = append(names, r.from.to.ID), append(paths, r.path)
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
		if to == nil || slices.ContainsFunc(to.ToPort(t.Port), func(own model.Route) bool { return len(own.To) == 0 || own.LeadsOn() }) {
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
