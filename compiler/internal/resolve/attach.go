package resolve

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
)

// attachAll adds the routes that packages attach to others' gateways, and then ranks
// the routes of all hosts.
func (l *linker) attachAll(pkgs []*pkg) {
	gateways := map[string]*model.Gateway{}
	for _, g := range l.mesh.Gateways {
		gateways[g.ID] = g
	}
	for _, p := range pkgs {
		for _, e := range p.node.Field("attach").Fields() {
			l.attach(p, e, gateways)
		}
	}
	for _, g := range l.mesh.Gateways {
		slices.SortFunc(g.Hosts, func(a, b model.Host) int { return strings.Compare(a.Name, b.Name) })
		for _, h := range g.Hosts {
			path := func(name string) string { return model.GatewayRoutePath(g.ID, h.Name, name) }
			l.rank(h.Routes, path)
			l.attachConflicts(h, path)
		}
	}
}

func (l *linker) attach(p *pkg, e intent.Entry, gateways map[string]*model.Gateway) {
	id := p.qualify(e.Name)
	g := gateways[id]
	if g == nil {
		l.add(l.unknown(e.Node.Pos(), "gateway", e.Name, sortedKeys(gateways)))
		return
	}
	owner := l.home[model.GatewayPath(id)]
	if owner == p {
		l.add(diag.New(diag.CodeNotDelegated, e.Node.Pos(), "gateway %q is this package's own", id).WithFix("write the routes at its host: mesh: gateway: %q: host: …", g.Name))
		return
	}
	for _, h := range e.Node.Field("host").Fields() {
		l.attachHost(p, owner, g, h)
	}
}

// attachHost adds one package's routes to a host, behind those of its owner. A
// wildcard that is delegated without restriction stands for hosts that nobody has.
func (l *linker) attachHost(p, owner *pkg, g *model.Gateway, e intent.Entry) {
	name := strings.ToLower(e.Name)
	i := slices.IndexFunc(g.Hosts, func(h model.Host) bool { return h.Name == name })
	isOwners := i >= 0 && g.Hosts[i].Package == ""
	word, ok := l.wordFor(p, owner, name)
	if !ok {
		d := diag.New(diag.CodeNotDelegated, e.Node.Pos(), "%s attaches routes to host %q of gateway %q, which belongs to %s", p, name, g.ID, owner)
		at := l.lineOf(model.GatewayPath(g.ID))
		if isOwners {
			at = l.lineOf(model.GatewayHostPath(g.ID, name))
		}
		paths, smaller := l.wanted(e.Node), ""
		if paths == nil {
			smaller = "give each route a path, so that a word for these paths will do; or "
		}
		l.add(d.WithRelated(at, "declared here").WithFix("%slet the owner say, in %s: %s", smaller, owner, delegateLine(model.Delegation{To: p.dir, Hosts: []model.DelegatedHost{{Name: name, Paths: paths}}})))
		return
	}
	if !isOwners {
		if word.Paths != nil {
			l.add(diag.New(diag.CodeNotDelegated, e.Node.Pos(), "host %q would take all of its requests from %q, of which %s delegates some paths only", name, word.Name, owner).
				WithRelated(l.lineOf(model.GatewayPath(g.ID)), "the gateway").WithFix("attach the routes to host %q", word.Name))
			return
		}
		l.hosts[name] = append(l.hosts[name], hostClaim{p, e.Node.Pos()})
	}
	if i < 0 {
		l.place(model.GatewayHostPath(g.ID, name), e.Node.Pos())
		l.owners[model.GatewayHostPath(g.ID, name)] = p.owner
		over := l.hostOver(g, word.Name)
		if len(over.Ports) == 0 {
			l.add(diag.New(diag.CodeHostPort, e.Node.Pos(), "host %q is at no port: all ports of gateway %q speak https, and it has no host %q whose certificate could be shown", name, g.ID, word.Name).
				WithRelated(l.lineOf(model.GatewayPath(g.ID)), "the gateway").WithFix("let the owner declare the host %q with `tls`, or a port that speaks http", word.Name))
		}
		g.Hosts, i = append(g.Hosts, model.Host{Name: name, Owner: p.owner, Package: p.dir, Ports: over.Ports, TLS: over.TLS}), len(g.Hosts)
	}
	h := &g.Hosts[i]
	entries := e.Node.Field("route").Fields()
	if len(entries) == 0 {
		l.add(diag.New(diag.CodeOneOf, e.Node.Pos(), "host %q has no route", name).WithFix("add: route: default: to: <service>: 100"))
	}
	around := hostOf(p, e.Node) // that the package adds itself, else the owner's
	if isOwners {
		around = hostOf(owner, owner.node.Field("gateway").Field(g.Name).Field("host").Field(name))
	}
	for _, re := range l.lasting(entries) {
		r := l.attachedRoute(p, owner, g, name, around, word, re)
		h.Routes = append(h.Routes, r)
		if c, ok := l.visitorsCohort(p, g, name, re, around, r); ok { // whose paths are the route's
			h.Routes = append(h.Routes, c)
		}
	}
}

// hostOver is the gateway's own host under whose name a package adds one: visitors reach both
// in the same way. A name that is delegated and no host of this gateway is at its plain port.
func (l *linker) hostOver(g *model.Gateway, name string) model.Host {
	for _, h := range g.Hosts {
		if h.Name == name && h.Package == "" {
			return h
		}
	}
	if p, ok := model.Unnamed(speaking(g.Ports, model.HTTP)); ok {
		return model.Host{Ports: []string{p.Name}}
	}
	return model.Host{}
}

// wordFor is what the owner of a gateway says about a host for p. A wildcard says
// nothing of the hosts that the owner itself has, at whichever gateway.
func (l *linker) wordFor(p, owner *pkg, host string) (model.DelegatedHost, bool) {
	allowed := owner.delegates[p.dir].Hosts
	names := []string{host}
	if !slices.ContainsFunc(l.hosts[host], func(c hostClaim) bool { return c.pkg == owner }) {
		names = append(names, wildcardsOver(host)...)
	}
	for _, n := range names {
		if i := slices.IndexFunc(allowed, func(h model.DelegatedHost) bool { return h.Name == n }); i >= 0 {
			return allowed[i], true
		}
	}
	return model.DelegatedHost{}, false
}

// wanted are the paths that the routes would need, nil for all.
func (l *linker) wanted(n intent.Node) []model.Path {
	var out []model.Path
	for _, e := range n.Field("route").Fields() {
		path := e.Node.Field("match").Field("path")
		exact, prefix := path.Field("exact").Str(), strings.TrimSuffix(path.Field("prefix").Str(), "/")
		template := path.Field("template").Str()
		switch {
		case exact != "":
			out = append(out, model.Path{Kind: model.PathExact, Value: exact})
		case prefix != "":
			out = append(out, model.Path{Kind: model.PathExact, Value: prefix}, model.Path{Kind: model.PathBelow, Value: prefix + "/"})
		case template != "":
			out = append(out, templated(template))
		default:
			return nil
		}
	}
	sortPaths(out)
	return slices.Compact(out)
}

func (l *linker) attachedRoute(p, owner *pkg, g *model.Gateway, host string, around carrier, word model.DelegatedHost, e intent.Entry) model.Route {
	name := model.AttachedName(p.dir, e.Name)
	path := model.GatewayRoutePath(g.ID, host, name)
	if first, ok := l.pos.At(path); ok {
		l.add(diag.New(diag.CodeDuplicate, e.Node.Pos(), "route %q of host %q is attached twice, once with and once without the gateway's namespace", e.Name, host).
			WithRelated(first, "the other").WithFix("keep one of them"))
	}
	r := l.gatewayRoute(p, g, host, e, around, path)
	r.Name, r.Package, r.Owner = name, p.dir, p.owner
	r.To, r.Canary = l.serviceTargets(p, e.Node, r, path), l.canary(e.Node)
	l.describesCalls(e.Node, r)
	l.place(path, e.Node.Pos())
	l.owners[path] = p.owner
	if n := e.Node.Field("priority"); n.Exists() {
		l.add(diag.New(diag.CodeNotDelegated, n.Pos(), "attached route %q has a priority, but it comes after all routes of the host's owner", e.Name).
			WithFix("delete it: among a package's attached routes the more specific one comes first"))
	}
	l.attachedInside(p, owner, path, r, word, e.Node)
	l.attachedOwn(p, r, e.Node)
	for _, rule := range l.rules {
		if f := e.Node.Field(rule.Field); rule.Holds && f.Exists() && around.node.Has(rule.Field) {
			l.add(diag.New(diag.CodeNotDelegated, f.Pos(), "attached route %q has `%s`, of which the host's owner has decided", e.Name, rule.Field).
				WithRelated(around.node.Field(rule.Field).Pos(), "decided here").WithFix("delete it, or ask %s for another host", owner))
		}
	}
	return r
}

// attachedInside proves that all requests that the route can take have a delegated
// path, whatever kinds of conditions the match has.
func (l *linker) attachedInside(p, owner *pkg, path string, r model.Route, word model.DelegatedHost, n intent.Node) {
	if word.Paths == nil || l.broken[path] {
		return
	}
	at, outside, err := takesOutside(r.Match, word.Paths)
	d := diag.New(diag.CodeNotDelegated, n.Pos(), "attached route %q takes requests outside of what %s delegates, such as %s %s", r.Name, owner, at.Method, at.Path)
	switch {
	case err != nil:
		d.Text = "attached route " + r.Name + " cannot be proved to stay inside of what " + owner.String() + " delegates: " + err.Error()
	case !outside:
		return
	}
	l.add(d.WithRelated(owner.node.Field("delegate").Field(p.dir).Field("hosts").Field(word.Name).Pos(), "delegated are %s", strings.Join(pathTexts(word.Paths), ", ")).
		WithFix("match one of these paths"))
}

// takesOutside finds a request that m takes and whose path is none of allowed.
func takesOutside(m model.Match, allowed []model.Path) (space.Request, bool, error) {
	inside := space.Test{Dim: space.PathDim}
	for _, p := range allowed {
		inside.Any = append(inside.Any, p.Pattern())
	}
	list := space.List{{When: []space.Test{inside}, Then: space.Outcome{Verdict: space.Forward}}, {Then: space.Outcome{Verdict: space.Denied}}}
	hit, outside, err := prove.Never(space.Scope{Kind: "gateway"}, list, m.Tests(), space.Denied, prove.Limits{})
	return hit.Witness, outside, err
}

// attachedOwn: requests, and copies of them, go to services of the attaching package
// only. They are sent as the gateway, which others may let in for its own routes.
func (l *linker) attachedOwn(p *pkg, r model.Route, n intent.Node) {
	check := func(id string, at diag.Pos) {
		owner := l.home[id]
		if owner == nil || owner == p && l.kinds[id] == "service" {
			return
		}
		what := "an external"
		if owner != p {
			what = "not its own but belongs to " + owner.String()
		}
		l.add(diag.New(diag.CodeAttachedTo, at, "attached route %q sends requests to %q, which is %s", r.Name, id, what).
			WithRelated(l.declaredAt(id), "declared here").WithFix("send them to a service of %s, which may call on", p))
	}
	sends, _ := l.sends(n)
	for _, e := range sends {
		id, at := e.Name, e.Node.Pos()
		if s := n.Field("destination").Field(e.Name).Field("service"); s.Exists() {
			id, at = s.Str(), s.Pos()
		}
		check(p.qualify(id), at)
	}
	for _, rule := range l.rules {
		// What is said around is the host's own; what proxies ask of a provider is the provider's meaning, no
		// request of the route's making, and the provider grants it or not.
		if v, ok := r.Traits.Lookup(rule.Name); ok && rule.Uses != nil && rule.Sends == nil && n.Field(rule.Field).Exists() {
			for _, to := range rule.Uses(v) {
				check(to.Service, n.Field(rule.Field).Pos())
			}
		}
	}
}

// attachConflicts tells of two packages that attach routes for the same requests:
// neither's could be relied on. Routes are compared within their first segment.
func (l *linker) attachConflicts(h model.Host, path func(string) string) {
	seen := map[string][]model.Route{}
	for _, b := range h.Routes {
		if b.Package == "" || l.broken[path(b.Name)] {
			continue
		}
		key := firstSegment(b.Match.Path)
		near := slices.Concat(seen[key], seen[""])
		if key == "" {
			near = nil
			for _, k := range sortedKeys(seen) {
				near = append(near, seen[k]...)
			}
		}
		for _, a := range near {
			if a.Package != b.Package && a.Match.Meets(b.Match) {
				l.add(diag.New(diag.CodeAttachConflict, l.lineOf(path(b.Name)), "attached routes %q and %q take the same requests to host %q", b.Name, a.Name, h.Name).
					WithRelated(l.lineOf(path(a.Name)), "the other route").WithFix("let their matches exclude each other; the host's owner can delegate other paths"))
			}
		}
		seen[key] = append(seen[key], b)
	}
}

// firstSegment is the first segment that a path must have, "" if it may be any.
func firstSegment(p model.Path) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(p.Value, "/"), "/")
	if space.IsVariable(first) || p.Kind != model.PathExact && p.Kind != model.PathPrefix && p.Kind != model.PathTemplate {
		return ""
	}
	return first
}
