package compiler

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

// Row is a line of a table by which proxies decide who gets in: of all their rules, in the order in which they
// are asked, what each is about, and whether it is about the request.
type Row struct {
	Step
	// At is whose proxy asks: a service, or a gateway.
	At string `json:"at"`
	// Rule is what it is: "handshake", "deny", "grant", one of these with "shadow " before it, which is counted
	// alone, the name of a feature that refuses, or "else": what nothing before it was about.
	Rule string `json:"rule"`
	// Who and What are in words whom it is about, and which requests; "" for all.
	Who  string `json:"who,omitempty"`
	What string `json:"what,omitempty"`
	// Holds says that it is about the request, Decides that it is what decides at that proxy.
	Holds   bool `json:"holds,omitempty"`
	Decides bool `json:"decides,omitempty"`
}

// What a row is.
const (
	rowHandshake = "handshake"
	rowDeny      = "deny"
	rowGrant     = "grant"
	rowElse      = "else"
	rowShadow    = "shadow "
)

// Table is what the proxies on the way of an answered request decide by: a gateway's, and that of each service to
// which the request leads. Requests that get to no such proxy have none.
func (p *Program) Table(a Answer) []Row {
	ds, q := p.scopes(), a.Request
	if a.Scope.Kind == "service" {
		d, ok := eval.FindService(ds, a.Scope.ID, a.Scope.Port)
		if !ok {
			return nil
		}
		q = eval.Decide(d, q).Image.Of(q)
		if s := p.mesh.Service(a.Scope.ID); s.LeadsOn() {
			if rows := p.ledRows(ds, s, a, q); len(rows) > 0 {
				return rows
			}
		}
		return p.rowsOf(d, a, q) // callers without a proxy of the mesh take none of the routes
	}
	g := p.mesh.Gateway(a.Scope.ID)
	d, ok := eval.FindGateway(ds, a.Scope.ID, q.Host)
	if g == nil || !ok {
		return nil
	}
	out := p.doorRows(g, d, a)
	q = eval.Decide(d, q).Image.Of(q)
	q.From, q.Source = g.Class().SPIFFEID(p.mesh.TrustDomain), q.Hop
	return append(out, p.rowsBehind(ds, p.destinations(g, d, a), a, q)...)
}

// rowsBehind are the rules of destinations, each port's once, of a request as it arrives there.
func (p *Program) rowsBehind(ds []space.Decision, to []model.Target, a Answer, q space.Request) []Row {
	var out []Row
	for _, to := range to {
		if behind, ok := eval.FindService(ds, to.Service, to.Port); ok {
			out = append(out, p.rowsOf(behind, a, q)...)
		}
	}
	return out
}

// ledRows are those of where the routes of a service lead which an answer met.
func (p *Program) ledRows(ds []space.Decision, s *model.Service, a Answer, q space.Request) []Row {
	port, _ := s.Port(a.Scope.Port)
	var to []model.Target
	for _, e := range p.mesh.ServiceRoutes(s, port, model.EachCaller) {
		if a.met(model.RoutePath(s.ID, e.Outer.Name)) && !slices.ContainsFunc(e.InnerPaths(), func(path string) bool { return !a.met(path) }) {
			to = append(to, e.To...)
		}
	}
	return p.rowsBehind(ds, ports(to), a, q)
}

// ports are the ports of targets with a weight, each once.
func ports(to []model.Target) []model.Target {
	var out []model.Target
	for _, t := range to {
		if t.Version = ""; t.Weight > 0 && !slices.ContainsFunc(out, func(o model.Target) bool { return o.Service == t.Service && o.Port == t.Port }) {
			out = append(out, t)
		}
	}
	return out
}

// destinations are the services' ports to which a gateway's route leads that an answer met.
func (p *Program) destinations(g *model.Gateway, d space.Decision, a Answer) []model.Target {
	var out []model.Target
	for _, h := range g.Hosts {
		if h.Name != d.Scope.Port {
			continue
		}
		for _, e := range p.mesh.GatewayRoutes(g, h) {
			if !a.met(model.GatewayRoutePath(g.ID, h.Name, e.Outer.Name)) {
				continue
			}
			out = append(out, e.To...)
		}
	}
	return ports(out)
}

// doorRows are what a gateway's host asks of users, and its denies.
func (p *Program) doorRows(g *model.Gateway, d space.Decision, a Answer) []Row {
	t := table{p: p, at: gatewayPrefix + g.ID, about: a.Request, answer: a}
	for _, h := range g.Hosts {
		if h.Name == d.Scope.Port {
			of, route := p.routeMet(g, h, a)
			t.add("", catalog.Meaning().UserRefusals(of, space.Origin(route)))
			t.add("", eval.VisitorDenies(p.mesh, g, h, of))
			shadowed, counted := *g, h
			shadowed.Denies, counted.Denies = g.ShadowDenies, h.ShadowDenies
			t.add(rowShadow, eval.VisitorDenies(p.mesh, &shadowed, counted, of))
		}
	}
	return t.decided()
}

// routeMet are the traits and the mesh path of the route of a gateway's host that an answer met.
func (p *Program) routeMet(g *model.Gateway, h model.Host, a Answer) (of trait.Set, path string) {
	for _, e := range p.mesh.GatewayRoutes(g, h) {
		if path = model.GatewayRoutePath(g.ID, h.Name, e.Outer.Name); a.met(path) {
			return e.Traits, path
		}
	}
	return trait.Set{}, ""
}

// rowsOf are the rules of a service's port, of a request as it arrives there.
func (p *Program) rowsOf(d space.Decision, a Answer, q space.Request) []Row {
	s := p.mesh.Service(d.Scope.ID)
	port, ok := s.Port(d.Scope.Port)
	if !ok {
		return nil
	}
	t := table{p: p, at: s.ID, about: q, answer: a}
	shadowed := *s
	shadowed.Denies, shadowed.Grants = s.ShadowDenies, s.ShadowGrants
	counted := slices.DeleteFunc(eval.Access(p.mesh, &shadowed, port), func(r space.Rule) bool { return string(r.From[0]) == model.ServicePath(s.ID) })
	grants := slices.IndexFunc(d.Access, func(r space.Rule) bool { return r.Then.Verdict == space.Forward })
	if grants < 0 {
		grants = len(d.Access) - 1
	}
	last := len(d.Access) - 1
	isGrant := func(r space.Rule) bool { return r.Then.Verdict == space.Forward }
	denies := slices.IndexFunc(d.Access[:grants], func(r space.Rule) bool { return ruleOf(r) == rowDeny })
	if denies < 0 {
		denies = grants
	}
	t.add("", d.Access[:denies])
	t.add("", catalog.Meaning().UserRefusals(s.TraitsAt(port.Name), space.Origin(model.ServicePath(s.ID))))
	t.add("", d.Access[denies:grants])
	t.add(rowShadow, slices.DeleteFunc(slices.Clone(counted), isGrant))
	t.add("", d.Access[grants:last])
	t.add(rowShadow, slices.DeleteFunc(slices.Clone(counted), func(r space.Rule) bool { return !isGrant(r) }))
	t.add("", d.Access[last:])
	return t.decided()
}

// table is rows in the making.
type table struct {
	p      *Program
	at     string
	about  space.Request
	answer Answer
	rows   []Row
}

// add adds rules; several that stand at one place say one thing.
func (t *table) add(shadow string, rules space.List) {
	for _, r := range rules {
		holds := space.Matches(r.When, t.about)
		rule, step := shadow+ruleOf(r), t.p.Step(string(r.From[0]))
		who, what := plan.RuleWords(t.p.mesh, r.When, t.at)
		if n := len(t.rows); n > 0 && t.rows[n-1].Path == step.Path && t.rows[n-1].Rule == rule && rule != rowHandshake {
			last := &t.rows[n-1]
			last.Holds, last.What = last.Holds || holds, last.What+", or "+what
			continue
		}
		t.rows = append(t.rows, Row{Step: step, At: t.at, Rule: rule, Who: who, What: what, Holds: holds})
	}
}

// decided are the rows with the one that decides: the first that holds and is not counted alone, if the request
// got as far as that.
func (t *table) decided() []Row {
	i := slices.IndexFunc(t.rows, func(r Row) bool { return r.Holds && !strings.HasPrefix(r.Rule, rowShadow) })
	if i >= 0 && t.answer.met(t.rows[i].Path) {
		t.rows[i].Decides = true
	}
	return t.rows
}

// ruleOf is what a rule of an access list is.
func ruleOf(r space.Rule) string {
	switch path := string(r.From[0]); {
	case r.Then.Verdict == space.Forward:
		return rowGrant
	case strings.Contains(path, "/deny/"):
		return rowDeny
	case r.Then.By != "":
		return r.Then.By
	case len(r.When) == 0:
		return rowElse
	}
	return rowHandshake
}
