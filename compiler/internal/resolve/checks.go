package resolve

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// checkMesh runs the rules about what is linked.
func (l *linker) checkMesh(memo *Memo) {
	if !l.checkLeading() {
		return // nothing that follows them would end
	}
	l.checkServices(memo)
	l.checkRoles()
	l.checkPlain()
	l.checkGateways()
	l.checkCopies()
	l.checkCycles()
	l.checkWaiting()
	l.checkReceivers()
	l.checkAgreed()
	l.checkCalls()
	l.checkAskers()
	l.checkSaid()
	l.checkOverruled()
	l.checkElsewhere()
	l.checkRings()
	l.checkPlaintext()
	l.checkUsers()
	l.checkKeys()
	l.checkFormer()
	l.checkLogins()
	l.checkDenies()
	l.checkVisitors()
	l.checkGatewayPorts()
	l.checkExternalHosts()
	l.checkExternalGrants()
	l.checkWorkloads()
	l.checkEgress()
	if l.mesh.Capture == model.Explicit {
		l.checkExplicit()
	}
}

// checkRoles: an identity has one role; two services on one account share their access.
func (l *linker) checkRoles() {
	gateways, services := map[string]*model.Gateway{}, map[string]*model.Service{}
	for _, g := range l.mesh.Gateways {
		acct := g.Namespace + "/" + g.Account
		if other, ok := gateways[acct]; ok && other.ID != g.ID {
			l.add(diag.New(diag.CodeRole, l.lineOf(model.GatewayPath(g.ID)), "gateways %q and %q share account %q", other.ID, g.ID, acct).
				WithRelated(l.lineOf(model.GatewayPath(other.ID)), "the other gateway").WithFix("give each a `serviceAccount` of its own"))
		}
		gateways[acct] = g
	}
	for _, s := range l.mesh.Services {
		for _, acct := range l.accounts[s.ID] {
			if g, ok := gateways[acct]; ok {
				l.add(diag.New(diag.CodeRole, l.lineOf(model.ServicePath(s.ID)), "account %q is a sidecar's (service %q) and a gateway's (%q)", acct, s.ID, g.ID).
					WithRelated(l.lineOf(model.GatewayPath(g.ID)), "the gateway").WithFix("give one of them another `serviceAccount`"))
			}
			// Packages share one only where its owner has said so.
			if other := services[acct]; other != nil && other != s && other.Package == s.Package {
				l.add(diag.Warn(diag.CodeSharedAccount, l.lineOf(model.ServicePath(s.ID)), "services %q and %q share account %q: what is granted to one is granted to both", other.ID, s.ID, acct).
					WithRelated(l.lineOf(model.ServicePath(other.ID)), "the other service").WithFix("give each a `serviceAccount` of its own"))
			}
			services[acct] = s
		}
	}
}

// checkPlain holds each service that gets a share of a route's requests against what a share needs.
func (l *linker) checkPlain() {
	wishes := slices.Clone(l.plain)
	for _, s := range l.mesh.Services {
		for _, r := range s.Routes {
			if to := model.Weighty(r.To); r.LeadsOn() && len(to) > 1 {
				path := model.RoutePath(s.ID, r.Name)
				for _, t := range to {
					wishes = append(wishes, plainWish{service: t.Service, port: t.Port, at: l.lineOf(path), route: "route " + strconv.Quote(r.Name) + " of " + strconv.Quote(s.ID)})
				}
			}
		}
	}
	for _, w := range wishes {
		if s := l.conditional(l.mesh.Service(w.service), w.port, nil); s != nil {
			l.add(diag.New(diag.CodeRouteConflict, w.at, "%s shares requests among services, but %q has routes with conditions", w.route, s.ID).
				WithRelated(l.lineOf(model.ServicePath(s.ID)), "the service").WithFix("send to one service, or let %q have a single route without match", s.ID))
		}
	}
}

// conditional is the first that a share of requests meets of a service and of those to which its routes lead which has
// other routes than one without conditions; nil if there is none. by are those that it has met.
func (l *linker) conditional(s *model.Service, port string, by []way) *model.Service {
	here := way{s, port}
	if s == nil || slices.Contains(by, here) {
		return nil
	}
	routes := s.ToPort(port)
	if len(routes) != 1 || !routes[0].Match.IsZero() || len(routes[0].To) == 0 {
		return s
	}
	for _, t := range model.Weighty(routes[0].To) {
		if t.Service == "" {
			continue
		}
		if c := l.conditional(l.mesh.Service(t.Service), t.Port, append(by, here)); c != nil {
			return c
		}
	}
	return nil
}

// checkServices runs the rules that look at one service each, which need not look again
// at what they passed.
func (l *linker) checkServices(memo *Memo) {
	found := map[*model.Service]bool{}
	for _, s := range memo.unproven(l.mesh) {
		before := len(l.diags)
		l.checkUnreachable(s.Routes, func(n string) string { return model.RoutePath(s.ID, n) }, s.Ports...)
		l.checkTCP(s)
		l.checkVersions(s)
		l.checkAsked(s)
		l.checkAskable(s)
		if len(l.diags) > before { // warnings as well: they are told each time
			found[s] = true
		}
	}
	if !l.diags.HasErrors() {
		memo.proved(l.mesh, found)
	}
}

func (l *linker) checkGateways() {
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			l.checkUnreachable(h.Routes, func(n string) string { return model.GatewayRoutePath(g.ID, h.Name, n) })
			l.checkDoors(g, h)
		}
	}
}

// checkDoors refuses conditions on what all requests have alike by the doors at which they
// come. An attached route is only warned of: it may be the gateway that has changed.
func (l *linker) checkDoors(g *model.Gateway, h model.Host) {
	for _, w := range l.words {
		if w.Door == nil {
			continue
		}
		by := w.Door.Values(g, h)
		if len(by) > 1 {
			continue
		}
		for _, r := range h.Routes {
			i := slices.IndexFunc(r.Match.When, func(t space.Test) bool { return t.Dim == w.Door.Dim })
			if i < 0 {
				continue
			}
			tell, what := diag.New, "decides nothing: all requests"
			if r.Package != "" {
				tell = diag.Warn
			}
			if !slices.ContainsFunc(by, r.Match.When[i].Admits) {
				what = "never holds: requests"
			}
			l.add(tell(diag.CodeNever, l.lineOf(model.GatewayRoutePath(g.ID, h.Name, r.Name)), "the condition on the %s %s, as gateway %q sees them, reach the routes of host %q by %s", w.Field, what, g.ID, h.Name, strings.Join(by, " and ")).
				WithRelated(l.lineOf(model.GatewayPath(g.ID)), "the gateway").
				WithFix("delete `%s`; or, if %s", w.Field, w.Door.Fix))
		}
	}
}

// checkUnreachable finds routes behind one that takes all they match, or behind several
// that do so together.
//
// Where some of a service's or an external's routes are for single ports, each port has a list of its own, and it is told
// of a route that it is tried for none of its ports.
func (l *linker) checkUnreachable(rs []model.Route, path func(string) string, ports ...model.Port) {
	if !slices.ContainsFunc(rs, func(r model.Route) bool { return r.Ports != nil }) {
		for _, u := range l.unreachable(rs, path) {
			l.add(l.unreached(u.by, u.route, path))
		}
		return
	}
	met, told := map[string]int{}, map[string][]hidden{}
	for _, p := range ports {
		if !p.Protocol.IsHTTP() {
			continue
		}
		at := model.ForPort(p.Name, rs)
		for _, r := range at {
			met[r.Name]++
		}
		for _, u := range l.unreachable(at, path) {
			told[u.route.Name] = append(told[u.route.Name], u)
		}
	}
	for _, r := range rs {
		if us := told[r.Name]; len(us) > 0 && len(us) == met[r.Name] {
			l.add(l.unreached(us[0].by, us[0].route, path))
		}
	}
}

// hidden is a route that others leave nothing.
type hidden struct {
	route model.Route
	by    []model.Route
}

// unreachable are the routes of a list that are never tried.
func (l *linker) unreachable(rs []model.Route, path func(string) string) []hidden {
	var out []hidden
	wrong := l.wrong(rs, path)
	near := newPathIndex()
	left := togetherBudget
	for i, b := range rs {
		if wrong[i] {
			continue
		}
		var before []model.Route // that take all of b's paths
		alone := false
		for _, k := range near.over(b.Match.Path) {
			a := rs[k]
			if compareRank(a, b) == 0 || a.Package != "" && a.Package != b.Package {
				continue // told already
			}
			both, ok := model.IntersectMatches(a.Match, b.Match)
			if ok && covers(b.Match, both) {
				out = append(out, hidden{b, []model.Route{a}})
				alone = true
				break
			}
			if ok && both.Path.Same(b.Match.Path) {
				before = append(before, a)
			}
		}
		near.put(i, b.Match.Path)
		least := 2
		if slices.ContainsFunc(append(before, b), testsPaths) {
			least = 1 // one may do so without being the weaker word by word
		}
		if left -= len(before); alone || len(before) < least || left < 0 {
			continue
		}
		if hiding := together(before, b); len(hiding) > 0 {
			out = append(out, hidden{b, hiding})
		}
	}
	return out
}

// What is done to find routes that several others hide: so many are laid beside others for
// one list, and for each of them so many steps are searched. What is beyond is not told.
const (
	togetherBudget = 50_000
	togetherSteps  = 100_000
)

// together finds routes among before, each of which takes all of b's paths, that leave b
// nothing. A route that takes only some of b's paths has no part in it: b has paths that no
// such route takes, however many there are.
func together(before []model.Route, b model.Route) []model.Route {
	var list space.List
	rules := append(slices.Clone(before), b)
	paths := slices.ContainsFunc(rules, testsPaths)
	for _, r := range rules {
		when := r.Match.When
		if paths {
			when = r.Match.Tests()
		}
		list = append(list, space.Rule{When: when, Then: space.Outcome{Verdict: space.Forward}})
	}
	shadows, err := prove.Shadowed(space.Scope{Kind: "gateway"}, list, prove.Limits{Steps: togetherSteps})
	if err != nil {
		return nil // too much to search
	}
	var out []model.Route
	for _, s := range shadows {
		if s.Index == len(before) {
			for _, k := range s.By {
				out = append(out, rules[k])
			}
		}
	}
	return out
}

// unreached says that routes before b leave it nothing. The owner of a host may take requests
// back from those to whom it delegates: that is told, and no mistake of his.
func (l *linker) unreached(before []model.Route, b model.Route, path func(string) string) diag.Diagnostic {
	var names []string
	own := true // of the host's owner
	for _, a := range before {
		names, own = append(names, strconv.Quote(a.Name)), own && a.Package == ""
	}
	text := fmt.Sprintf("route %q is never reached: %s comes before it and takes everything it matches", b.Name, names[0])
	if len(names) > 1 {
		text = fmt.Sprintf("route %q is never reached: %s come before it and together take everything it matches", b.Name, strings.Join(names, ", "))
	}
	d := diag.New(diag.CodeNever, l.lineOf(path(b.Name)), "%s", text).WithFix("delete it, or give it a higher `priority`")
	switch {
	case b.Package != "" && own:
		d = diag.Warn(diag.CodeAttachShadowed, l.lineOf(path(b.Name)), "attached %s", text).WithFix("ask the host's owner to leave these requests to it, or delete it")
	case b.Package != "":
		d = d.WithFix("delete it, or let it match something else")
	}
	for _, a := range before {
		d = d.WithRelated(l.lineOf(path(a.Name)), "the route before it")
	}
	return d
}

// testsPaths reports whether a route says more of paths than how their segments are, or what they are not.
func testsPaths(r model.Route) bool {
	return slices.ContainsFunc(r.Match.When, func(t space.Test) bool { return t.Dim == space.PathDim })
}

// covers reports whether a match takes everything that b takes: their conjunction is b.
func covers(b, both model.Match) bool {
	return both.Same(b)
}

// checkTCP refuses conditions where only bytes are routed, and whatever is said of requests
// where there are none.
func (l *linker) checkTCP(s *model.Service) {
	bytes := func(p model.Port) bool { return !p.Protocol.IsHTTP() }
	if !slices.ContainsFunc(s.Ports, bytes) {
		return
	}
	if slices.ContainsFunc(s.Ports, func(p model.Port) bool { return !bytes(p) }) {
		return
	}
	l.noRequests(s, model.ServicePath(s.ID))
	for _, r := range s.Routes {
		if !r.Match.IsZero() {
			l.add(diag.New(diag.CodeProtocol, l.lineOf(model.RoutePath(s.ID, r.Name)), "route %q has conditions on requests, but service %q has none: all of its ports are tcp", r.Name, s.ID).
				WithFix("delete it, or let the port say http, http2 or grpc"))
			continue
		}
		l.noRequests(s, model.RoutePath(s.ID, r.Name))
	}
}

// noRequests refuses what path's carrier says of requests, of which its service has none.
func (l *linker) noRequests(s *model.Service, path string) {
	for _, r := range l.rules {
		if at, ok := l.pos.At(path + "/" + r.Name); ok && !r.Bytes {
			l.add(diag.New(diag.CodeProtocol, at, "%s is about requests, but service %q has none: all of its ports are tcp", r.Field, s.ID).
				WithFix("delete `%s`, or let the port say http, http2 or grpc", r.Field))
		}
	}
}

// checkReceivers warns of features that send requests to whoever admits none of those
// who would send them: each would be refused, and nobody sees the answers.
func (l *linker) checkReceivers() {
	using := slices.DeleteFunc(slices.Clone(l.rules), func(r Rule) bool { return r.Uses == nil })
	check := func(r model.Route, path string, senders []string) {
		for _, rule := range using {
			v, ok := r.Traits.Lookup(rule.Name)
			if !ok || len(senders) == 0 {
				continue
			}
			for _, to := range rule.Uses(v) {
				s := l.mesh.Service(to.Service)
				if s == nil || rule.Sends != nil || rule.Idle != nil && rule.Idle(v, to) || slices.ContainsFunc(senders, func(account string) bool { return admits(s, to.Port, account, r) }) {
					continue
				}
				why, fix := refusal(s, to.Port, senders, "let it say: grant: copies: from: the callers of this route")
				l.add(diag.Warn(diag.CodeRefused, l.lineOf(path+"/"+rule.Name), "the %s goes to %q port %q, which refuses it: %s %s there", rule.Field, s.ID, to.Port, why, strings.Join(senders, ", ")).
					WithRelated(l.lineOf(model.ServicePath(s.ID)), "the service").WithFix("%s", fix))
			}
		}
	}
	l.checkOwn(using)
	callers := l.callersOf()
	for _, s := range l.mesh.Services {
		for _, r := range s.Routes {
			check(r, model.RoutePath(s.ID, r.Name), callers[s.ID])
		}
	}
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				check(r, model.GatewayRoutePath(g.ID, h.Name, r.Name), []string{g.Namespace + "/" + g.Account})
			}
		}
	}
}

// checkAdmitted warns of calls, and of gateways' routes, that are refused whatever they ask
// for: as a rule the service they go to lacks a grant. What is open to probes and scrapes
// alone admits nobody else. A test that wants the refusal says that it is meant. While something is
// wrong nothing is told: a grant may be missing because it is what is wrong.
func (l *linker) checkAdmitted() {
	if l.diags.HasErrors() {
		return
	}
	granting := l.granting()
	for _, s := range l.mesh.Services {
		for _, c := range s.Calls {
			if accounts := l.accounts[s.ID]; !l.refusalMeant(c.To, accounts) {
				l.checkAdmits(granting[c.To], wish{path: s.CallPath(c), what: "the call", from: s.ID, grant: s.Name, accounts: accounts, ports: []string{c.Port}})
			}
		}
	}
	l.checkLedAdmitted(granting)
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			meant := l.refusalsMeant(g, h)
			for _, r := range h.Routes {
				if !meant[r.Name] {
					l.checkRouteAdmits(granting, g, h, r)
				}
			}
		}
	}
}

// checkRouteAdmits warns of each service that refuses all that a gateway's route sends there.
func (l *linker) checkRouteAdmits(granting map[string]*model.Service, g *model.Gateway, h model.Host, r model.Route) {
	told := map[string]bool{}
	for _, t := range r.To {
		if !told[t.Service] {
			told[t.Service] = true
			l.checkAdmits(granting[t.Service], wish{path: model.GatewayRoutePath(g.ID, h.Name, r.Name), what: "the route", from: gatewayPrefix + g.ID, grant: g.Name,
				accounts: []string{g.Namespace + "/" + g.Account}, ports: portsOf(r, t.Service), route: r})
		}
	}
}

// granting are the services with the grants that are for requests of their callers.
func (l *linker) granting() map[string]*model.Service {
	out := map[string]*model.Service{}
	for _, s := range l.mesh.Services {
		own := *s
		own.Grants = slices.DeleteFunc(slices.Clone(s.Grants), func(g model.Grant) bool { return g.Asked })
		out[s.ID] = &own
	}
	return out
}

// refusalMeant reports whether a test wants requests of one of the accounts to a service refused.
func (l *linker) refusalMeant(to string, accounts []string) bool {
	return slices.ContainsFunc(l.tests, func(t Test) bool {
		return !t.Gateway && t.To == to && t.wantsRefusal() && slices.ContainsFunc(accounts, func(account string) bool {
			namespace, name, _ := strings.Cut(account, "/")
			return t.From == release.Class{Namespace: namespace, Account: name}.SPIFFEID(l.trustDomain)
		})
	})
}

// refusalsMeant are the routes of a gateway's host that take requests which tests want refused.
func (l *linker) refusalsMeant(g *model.Gateway, h model.Host) map[string]bool {
	out := map[string]bool{}
	for _, t := range l.tests {
		if !t.Gateway || t.To != g.ID || !t.wantsRefusal() || !model.HostCovers(h.Name, strings.ToLower(t.Host)) {
			continue
		}
		q := t.request()
		if i := slices.IndexFunc(h.Routes, func(r model.Route) bool { return space.Matches(r.Match.Tests(), q) }); i >= 0 {
			out[h.Routes[i].Name] = true
		}
	}
	return out
}

// request is what routes see of a test's request.
func (t Test) request() space.Request {
	q := space.Request{Host: t.Host, Method: cmp.Or(t.Method, "GET")}
	q.Path, q.Query, _ = strings.Cut(cmp.Or(t.Path, "/"), "?")
	for _, name := range sortedKeys(t.Headers) {
		q.Headers = append(q.Headers, space.Header{Name: strings.ToLower(name), Value: t.Headers[name]})
	}
	return q
}

func (t Test) wantsRefusal() bool { return t.Expect.Allowed != nil && !*t.Expect.Allowed }

// portsOf are the ports of a service to which a route sends.
func portsOf(r model.Route, service string) []string {
	var out []string
	for _, t := range r.To {
		if t.Service == service {
			out = append(out, t.Port)
		}
	}
	return out
}

// wish is a call or a route as whoever wrote it wants it: from is whom a grant would name, grant what
// it could be called.
type wish struct {
	path, what, from, grant string
	accounts, ports         []string
	route                   model.Route
}

// checkAdmits warns if a service refuses all that a wish is about.
func (l *linker) checkAdmits(s *model.Service, w wish) {
	if s == nil || len(s.Ports) == 0 || len(w.accounts) == 0 {
		return // an external has a rule of its own; what else is wrong is told
	}
	if slices.ContainsFunc(s.Routes, func(own model.Route) bool {
		return (len(own.To) == 0 || own.LeadsOn()) && slices.ContainsFunc(w.ports, own.IsFor)
	}) {
		return // the caller's own proxy answers some of it, or sends it elsewhere, whoever is admitted
	}
	if slices.ContainsFunc(w.accounts, func(account string) bool {
		return slices.ContainsFunc(w.ports, func(port string) bool { return admits(s, port, account, w.route) })
	}) {
		return
	}
	why, fix := refusal(s, w.ports[0], w.accounts, fmt.Sprintf("let %q say: grant: %q: from: [%q]", s.ID, w.grant, w.from))
	but := "" // what a proxy asks by itself it may, and its application with it
	if slices.ContainsFunc(l.mesh.Service(s.ID).Grants, func(g model.Grant) bool { return g.Asked && g.Mesh && slices.Contains(w.ports, g.Ports[0]) }) {
		but = " but whether workloads are well"
	}
	l.add(diag.Warn(diag.CodeRefused, l.lineOf(w.path), "%s goes to %q, which refuses it whatever it asks for%s: %s %s there", w.what, s.ID, but, why, strings.Join(w.accounts, ", ")).
		WithRelated(l.lineOf(model.ServicePath(s.ID)), "the service").WithFix("%s", fix))
}

// checkAgreed warns of what a gateway's route says for nothing: the service behind it would
// have to say it, too, and does so on none of its routes.
func (l *linker) checkAgreed() {
	for _, s := range l.mesh.Services {
		for _, r := range s.Routes {
			l.checkAgreedOn(r, model.RoutePath(s.ID, r.Name))
		}
	}
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				l.checkAgreedOn(r, model.GatewayRoutePath(g.ID, h.Name, r.Name))
			}
		}
	}
}

func (l *linker) checkAgreedOn(r model.Route, path string) {
	for _, rule := range l.rules {
		v, said := r.Traits.Lookup(rule.Name)
		if _, both := v.(trait.Agreed); !said || !both {
			continue
		}
		for _, to := range r.To {
			s := l.mesh.Service(to.Service)
			if s == nil || slices.ContainsFunc(s.ToPort(to.Port), func(inner model.Route) bool { _, ok := inner.TraitsAt(to.Port).Lookup(rule.Name); return ok }) {
				continue
			}
			l.add(diag.Warn(diag.CodeNever, l.lineOf(path+"/"+rule.Name), "no request has any of it: %s counts as far as the service behind the route says it, too, and %q says nothing for its port %q", rule.Field, s.ID, to.Port).
				WithRelated(l.lineOf(model.ServicePath(s.ID)), "the service").WithFix("let the service say `%s`, or one of its routes", rule.Field))
		}
	}
}

// checkOwn refuses what the proxies of services and gateways would send by themselves to
// whoever does not admit one of their accounts: nobody would see what is missing. What is
// said once for many is told once.
func (l *linker) checkOwn(using []Rule) {
	refused := map[ownWish][]string{}
	for _, s := range l.mesh.Services {
		l.refusedOwn(refused, using, s.Traits, model.ServicePath(s.ID), l.accounts[s.ID])
	}
	for _, g := range l.mesh.Gateways {
		senders := []string{g.Namespace + "/" + g.Account}
		l.refusedOwn(refused, using, g.Traits, model.GatewayPath(g.ID), senders)
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				l.refusedOwn(refused, using, r.Traits, model.GatewayRoutePath(g.ID, h.Name, r.Name), senders)
			}
		}
	}
	for w, accounts := range refused { // problems are sorted when they are told
		why, fix := refusal(l.mesh.Service(w.to), w.port, accounts, "let it say: grant: "+w.rule+": "+whoAre(accounts))
		l.add(diag.New(diag.CodeRefused, w.at, "`%s` has %s send requests to %q, which refuses them: %s their senders", w.rule, someOf(accounts), w.to, why).
			WithRelated(l.lineOf(model.ServicePath(w.to)), "the service").WithFix("%s", fix))
	}
}

// whoAre is how a grant names accounts: by themselves, or many of them by their namespaces.
func whoAre(accounts []string) string {
	const few = 4
	quoted := func(word string, names []string) string {
		for i, n := range names {
			names[i] = strconv.Quote(n)
		}
		return word + ": [" + strings.Join(names, ", ") + "]"
	}
	if len(accounts) <= few {
		return quoted("accounts", slices.Sorted(slices.Values(accounts)))
	}
	in := map[string]bool{}
	for _, a := range accounts {
		namespace, _, _ := strings.Cut(a, "/")
		in[namespace] = true
	}
	return quoted("namespaces", slices.Sorted(maps.Keys(in)))
}

// ownWish is what proxies would send by themselves to a port, and the line that says so.
type ownWish struct {
	at             diag.Pos
	rule, to, port string
}

// refusedOwn adds the senders whom a destination of one of the values does not admit.
func (l *linker) refusedOwn(refused map[ownWish][]string, using []Rule, traits trait.Set, path string, senders []string) {
	for _, rule := range using {
		v, ok := traits.Lookup(rule.Name)
		if !ok || rule.Sends == nil {
			continue
		}
		for _, to := range rule.Uses(v) {
			s := l.mesh.Service(to.Service)
			if s == nil {
				continue
			}
			w := ownWish{l.lineOf(path + "/" + rule.Name), rule.Name, to.Service, to.Port}
			for _, account := range senders {
				if !admits(s, to.Port, account, model.Route{Match: rule.Sends(v, to)}) && !slices.Contains(refused[w], account) {
					refused[w] = append(refused[w], account)
				}
			}
		}
	}
}

// refusal says what refuses accounts at a port, and how to mend it: a deny, or that no grant is
// there, which has a fix of its own.
func refusal(s *model.Service, port string, accounts []string, granted string) (why, fix string) {
	i := slices.IndexFunc(s.Denies, func(d model.Deny) bool {
		return slices.ContainsFunc(accounts, func(account string) bool { return refuses(s, port, d, account) })
	})
	p, _ := s.Port(port)
	switch plain := p.MTLS == model.Disable; {
	case plain && i < 0:
		return "no grant admits", "mTLS is disabled at its port, where nobody has an identity: let it say grant: plain: {plaintext: true, sources: [\"10.2.0.0/16\"]}, or take mTLS there"
	case plain:
		return fmt.Sprintf("deny %q refuses", s.Denies[i].Name), "mTLS is disabled at its port, where nobody has an identity: say in the deny which `sources` are meant, or take mTLS there"
	case i < 0:
		return "no grant admits", granted
	}
	return fmt.Sprintf("deny %q refuses", s.Denies[i].Name), fmt.Sprintf("leave them out of it: deny: %q: not: from: those who send it", s.Denies[i].Name)
}

// someOf names the first few of accounts, sorted.
func someOf(accounts []string) string {
	slices.Sort(accounts)
	const few = 5
	if len(accounts) <= few {
		return strings.Join(accounts, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(accounts[:few], ", "), len(accounts)-few)
}

// callersOf maps a service to the accounts whose proxies have its routes, sorted.
func (l *linker) callersOf() map[string][]string {
	out := map[string][]string{}
	for _, s := range l.mesh.Services {
		for _, c := range s.Calls {
			out[c.To] = append(out[c.To], l.accountsOf(s.ID)...)
		}
	}
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			for _, r := range h.Routes {
				for _, t := range r.To {
					out[t.Service] = append(out[t.Service], g.Namespace+"/"+g.Account)
				}
			}
		}
	}
	called := maps.Clone(out)
	for _, s := range l.mesh.Services {
		for _, to := range l.mesh.LedTo(s)[1:] {
			out[to.ID] = slices.Concat(out[to.ID], called[s.ID])
		}
	}
	for id, accounts := range out {
		slices.Sort(accounts)
		out[id] = slices.Compact(accounts)
	}
	return out
}

// refuses reports whether a deny refuses an account whatever it asks of a port, as its proxy knows the account:
// not at all where it takes plaintext alone.
func refuses(s *model.Service, port string, d model.Deny, account string) bool {
	if !d.Whole(port) {
		return false
	}
	p, known := s.Port(port)
	if known {
		d.Terms, d.Not, known = p.Seen(d.Terms, d.Not)
	}
	return known && d.IsAbout(account)
}

// admits reports whether some grant of a service, and no deny of all that it sends, lets an
// account send to a port a request that a route takes, as it leaves the route.
func admits(s *model.Service, port, account string, r model.Route) bool {
	m, moved := r.Match, r.Traits.Image().Path
	p, ok := s.Port(port)
	if !ok || slices.ContainsFunc(s.Denies, func(d model.Deny) bool { return refuses(s, port, d, account) }) {
		return false
	}
	return slices.ContainsFunc(s.Grants, func(g model.Grant) bool {
		var known bool
		if g.Terms, g.Not, known = p.Seen(g.Terms, g.Not); !known || !g.IsAbout(account) || g.Ports != nil && !slices.Contains(g.Ports, port) {
			return false
		}
		if len(g.Methods) > 0 && !slices.ContainsFunc(g.Methods, func(method string) bool { return m.Admits(space.MethodDim, method) }) {
			return false
		}
		return g.Paths == nil || slices.ContainsFunc(g.Paths, func(p model.Path) bool {
			if p.Kind == model.PathBelow {
				p = model.Path{Kind: model.PathPrefix, Value: cmp.Or(strings.TrimSuffix(p.Value, "/"), "/")}
			}
			if moved == nil {
				_, ok := model.IntersectPaths(p, m.Path)
				return ok
			}
			before, all, err := moved.Before(p.Pattern())
			return err != nil || all || slices.ContainsFunc(before, func(b space.Pattern) bool {
				path, ok := model.PathLike(b)
				_, both := model.IntersectPaths(path, m.Path)
				return !ok || both
			})
		})
	})
}

// checkPlaintext warns where plaintext is taken and nobody gets in by it: whoever has no
// certificate has no identity, so that only grants to such callers are for him.
func (l *linker) checkPlaintext() {
	type opening struct{ used bool }
	openings := map[string]*opening{}
	var paths []string
	for _, s := range l.mesh.Services {
		for _, p := range s.Ports {
			if p.MTLS == model.Strict {
				continue
			}
			path := l.opened(s, p)
			if openings[path] == nil {
				openings[path], paths = &opening{}, append(paths, path)
			}
			if slices.ContainsFunc(s.Grants, func(g model.Grant) bool {
				return g.Strangers(g.Not) && !g.Asked && (g.Ports == nil || slices.Contains(g.Ports, p.Name))
			}) {
				openings[path].used = true
			}
		}
	}
	for _, path := range paths {
		if !openings[path].used {
			l.add(diag.Warn(diag.CodeNobodyMore, l.lineOf(path), "plaintext is taken here, and nobody gets in by it: a caller without a certificate has no identity, and no grant admits such callers").
				WithFix("add what it is for, such as grant: old: {plaintext: true, sources: [\"10.2.0.0/16\"], paths: [\"/orders\"]}, or keep mTLS strict, which probes and scrapes (`probe`, `scrape`) pass"))
		}
	}
}

// opened is the mesh path of the nearest mTLS exception that a port is under.
func (l *linker) opened(s *model.Service, p model.Port) string {
	path := model.ServicePath(s.ID)
	for _, at := range []string{path + "/port/" + p.Name, path, "namespace/" + s.Namespace} {
		if slices.ContainsFunc(l.exceptions, func(e Exception) bool { return e.Kind == "mtls" && e.Path == at }) {
			return at
		}
	}
	return "mesh"
}

// checkVersions refuses two versions of which one workload could be an instance of both.
func (l *linker) checkVersions(s *model.Service) {
	for i, a := range s.Versions {
		for _, b := range s.Versions[i+1:] {
			why, fix := "", ""
			switch {
			case a.Discovered() && b.Discovered() && !apart(a.Labels, b.Labels):
				why, fix = "their labels do not exclude each other", "give one label of both different values"
			case l.meet(s, a, b):
				why, fix = "both are looked for at one place", "say for each where its own workloads are"
			default:
				continue
			}
			l.add(diag.New(diag.CodeDuplicate, l.lineOf(model.VersionPath(s.ID, b.Name)), "one workload could be an instance of versions %q and %q of %q: %s", a.Name, b.Name, s.ID, why).
				WithRelated(l.lineOf(model.VersionPath(s.ID, a.Name)), "the other version").WithFix("%s", fix))
		}
	}
}

// meet reports whether workloads of two versions are looked for at one place, for any port.
// With explicit capture one address has one listener, which is another check.
func (l *linker) meet(s *model.Service, a, b model.Version) bool {
	return slices.ContainsFunc(s.Ports, func(p model.Port) bool {
		if a.Host(p) == "" && b.Host(p) == "" {
			return a.Endpoints.Meets(b.Endpoints)
		}
		return l.mesh.Capture == model.Transparent && a.Host(p) == b.Host(p) && a.ListenPort(p) == b.ListenPort(p)
	})
}

// checkWorkloads warns of versions without workloads that get requests.
func (l *linker) checkWorkloads() {
	none, yields := map[string]bool{}, map[string]bool{} // versions' mesh paths
	for _, s := range l.mesh.Services {
		for _, v := range s.Versions {
			if v.Endpoints.None {
				none[model.VersionPath(s.ID, v.Name)] = true
				yields[model.VersionPath(s.ID, v.Name)] = v.Traits.Yields()
			}
		}
	}
	if len(none) == 0 {
		return
	}
	check := func(routes []model.Route, self string, path func(route string) string) {
		for _, r := range routes {
			for _, t := range r.To {
				to := cmp.Or(t.Service, self)
				version := model.VersionPath(to, t.Version)
				taken := yields[version] && slices.ContainsFunc(r.To, func(o model.Target) bool {
					return o.Weight > 0 && cmp.Or(o.Service, self) == to && !none[model.VersionPath(to, o.Version)]
				})
				if t.Weight == 0 || !none[version] || taken {
					continue
				}
				l.add(diag.Warn(diag.CodeNoWorkloads, l.lineOf(path(r.Name)), "%s of 100 requests go to version %q of %q, which has no workloads: they are answered with 503", t.Weight, t.Version, to).
					WithRelated(l.lineOf(version), "the version").WithFix("take it out of `to`, or say in its `endpoints` where its workloads are"))
			}
		}
	}
	for _, s := range l.mesh.Services {
		check(s.Routes, s.ID, func(route string) string { return model.RoutePath(s.ID, route) })
	}
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			check(h.Routes, "", func(route string) string { return model.GatewayRoutePath(g.ID, h.Name, route) })
		}
	}
}

// apart reports whether nothing has both sets of labels.
func apart(a, b map[string]string) bool {
	for k, v := range a {
		if w, ok := b[k]; ok && v != w {
			return true
		}
	}
	return false
}

// checkCycles tells rings of calls: retries in a ring have no bound.
func (l *linker) checkCycles() {
	const onPath, done = 1, 2
	state := make(map[*model.Service]int, len(l.mesh.Services))
	var path []string
	var visit func(s *model.Service)
	visit = func(s *model.Service) {
		state[s] = onPath
		path = append(path, s.ID)
		for _, c := range s.Calls {
			for _, to := range l.cameTo(c) {
				switch state[to] {
				case done:
				case onPath:
					ring := append(slices.Clone(path[slices.Index(path, to.ID):]), to.ID)
					l.add(diag.Warn(diag.CodeCycle, l.lineOf(s.CallPath(c)), "services call each other in a ring: %s", ringText(ring)).
						WithFix("break the ring, or keep retries off inside it: their product has no bound"))
				default:
					visit(to)
				}
			}
		}
		path = path[:len(path)-1]
		state[s] = done
	}
	for _, s := range l.mesh.Services {
		if state[s] == 0 {
			visit(s)
		}
	}
}

// cameTo are the services to which requests of a call come: the one that it names, and those to which its routes lead.
func (l *linker) cameTo(c model.Call) []*model.Service {
	if to := l.mesh.Service(c.To); to != nil {
		return l.mesh.LedTo(to)
	}
	return nil
}

// ringText names the services of a ring, of a long one its beginning and its end.
func ringText(ring []string) string {
	const begin, end = 6, 2
	if n := len(ring) - begin - end; n > 1 {
		ring = slices.Concat(ring[:begin], []string{fmt.Sprintf("(%d more)", n)}, ring[len(ring)-end:])
	}
	return strings.Join(ring, " → ")
}

// socket is an address that a proxy or an application listens on.
type socket struct {
	host string
	port uint32
}

// checkExplicit demands that every address is written, once on each host.
func (l *linker) checkExplicit() {
	type holder struct {
		who string
		at  diag.Pos
	}
	taken := map[socket]holder{}
	claim := func(host string, port uint32, who string, at diag.Pos) {
		if port == 0 {
			return
		}
		k := socket{hostKey(host), port}
		if other, ok := taken[k]; ok && other.who != who {
			ip, _, _ := strings.Cut(host, "@")
			l.add(diag.New(diag.CodeListen, at, "%s and %s both listen on %s:%d", who, other.who, ip, port).
				WithRelated(other.at, "the other").WithFix("choose another port for one of them"))
			return
		}
		taken[k] = holder{who, at}
	}
	for _, g := range l.mesh.Gateways {
		for _, p := range g.Ports {
			claim(g.Host, p.Number, fmt.Sprintf("port %q of gateway %q", p.Name, g.ID), l.lineOf(model.GatewayPortPath(g.ID, p.Name)))
		}
	}
	for _, s := range l.mesh.Services {
		for _, v := range s.Versions {
			for _, p := range s.Ports {
				l.checkAddress(s, v, p, claim)
			}
			if !v.Proxyless {
				l.checkLocals(s, v, claim)
			}
		}
		l.checkMachines(s)
	}
}

// checkAddress demands that a version's port has an address, and claims what listens there.
func (l *linker) checkAddress(s *model.Service, v model.Version, p model.Port, claim func(host string, port uint32, who string, at diag.Pos)) {
	if v.Host(p) == "" {
		if !v.Proxyless || !v.Endpoints.Written() {
			l.missingAddress(s, v, p)
		}
		return
	}
	whose := fmt.Sprintf("%s version %q", s.ID, v.Name)
	if len(s.Ports) > 1 {
		whose += fmt.Sprintf(" port %q", p.Name)
	}
	at := l.lineOf(versionPortPath(s.ID, v.Name, p.Name))
	if v.Proxyless { // its program listens there, and at no other port
		claim(v.Host(p), v.ListenPort(p), whose, at)
		return
	}
	claim(v.Host(p), v.ListenPort(p), "the proxy of "+whose, at)
	claim("127.0.0.1@"+hostKey(v.Host(p)), v.AppListenPort(p), "the application of "+whose, at)
}

// checkMachines: versions that share an account share a proxy configuration, hence a host.
func (l *linker) checkMachines(s *model.Service) {
	hosts := map[string]map[string]bool{} // of each account
	for _, v := range s.Versions {
		if v.Proxyless {
			continue // each finds what it has by the address at which it listens
		}
		if hosts[v.Account] == nil {
			hosts[v.Account] = map[string]bool{}
		}
		for _, p := range s.Ports {
			if host := v.Host(p); host != "" {
				hosts[v.Account][host] = true
			}
		}
	}
	for _, account := range slices.Sorted(maps.Keys(hosts)) {
		if len(hosts[account]) > 1 {
			l.add(diag.New(diag.CodeListen, l.lineOf(model.ServicePath(s.ID)), "versions of %q on different hosts share account %q, hence one proxy configuration", s.ID, account).
				WithFix("give each version a `serviceAccount` of its own"))
		}
	}
}

func (l *linker) missingAddress(s *model.Service, v model.Version, p model.Port) {
	at := l.lineOf(versionPortPath(s.ID, v.Name, p.Name))
	if at == (diag.Pos{}) {
		at = l.lineOf(model.VersionPath(s.ID, v.Name))
	}
	l.add(diag.New(diag.CodeListen, at, "version %q of service %q has no address for port %q, and capture is explicit", v.Name, s.ID, p.Name).
		WithFix("in environments/%s: service: %s: version: %s: port: %s: address: \"127.0.0.1:15001\"", l.mesh.Environment, s.Name, v.Name, p.Name))
}

func (l *linker) checkLocals(s *model.Service, v model.Version, claim func(string, uint32, string, diag.Pos)) {
	var host string // where the version is
	for _, p := range s.Ports {
		host = cmp.Or(host, v.Host(p))
	}
	if host == "" {
		return // told already
	}
	for _, c := range s.Calls {
		at := l.lineOf(s.CallPath(c))
		if v.Local(c) == 0 {
			to, field := strconv.Quote(c.To), callLabel(s, c.To)
			if s.CallPath(c) != model.CallPath(s.ID, c.To) { // one of several ports
				to, field = fmt.Sprintf("port %q of %s", c.Port, to), field+": port: "+c.Port
			}
			l.add(diag.New(diag.CodeListen, at, "the call from %q (version %q) to %s has no local port, and capture is explicit", s.ID, v.Name, to).
				WithFix("in environments/%s: service: %s: calls: %s: local: 15101", l.mesh.Environment, s.Name, field))
			continue
		}
		claim("127.0.0.1@"+hostKey(host), v.Local(c), fmt.Sprintf("the call from %s/%s to %s", s.Namespace, v.Account, strings.TrimPrefix(s.CallPath(c), model.CallPath(s.ID, ""))), at)
	}
}

// callLabel is a callee as the caller's package would write it.
func callLabel(s *model.Service, id string) string {
	if name, ok := strings.CutPrefix(id, s.Namespace+"/"); ok && !strings.Contains(name, "-") {
		return name
	}
	return strconv.Quote(strings.TrimPrefix(id, s.Namespace+"/"))
}

// hostKey names the machine behind an address: every loopback address is one
// machine, and so is what listens on all addresses of it.
func hostKey(host string) string {
	base, rest, _ := strings.Cut(host, "@")
	ip, err := netip.ParseAddr(base)
	if err != nil {
		return host
	}
	if rest != "" && rest != "loopback" {
		return rest + "/loopback"
	}
	if ip.IsLoopback() || ip.IsUnspecified() {
		return "loopback"
	}
	return ip.String()
}
