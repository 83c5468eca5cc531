package resolve

import (
	"cmp"
	"slices"
	"strconv"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// Claims that have fields of their own (RFC 7519 section 4.1, OpenID Connect Core section 2).
const subject, audience, presenter = "sub", "aud", "azp"

// userTerms reads who the end user is, by provider.
func (l *linker) userTerms(p *pkg, n intent.Node) []model.UserTerms {
	var out []model.UserTerms
	x := Place{l: l, pkg: p}
	if n.Exists() && len(n.Fields()) == 0 {
		l.add(diag.New(diag.CodeOneOf, n.Pos(), "`user` names no provider of tokens").WithFix(`write user: <provider>: {} for everybody who is signed in, or leave it out`))
	}
	for _, e := range n.Fields() {
		of, ok := x.Provider(e.Name, e.Node)
		if !ok {
			continue
		}
		if slices.ContainsFunc(out, func(o model.UserTerms) bool { return o.Provider == of.ID }) {
			l.add(diag.New(diag.CodeDuplicate, e.Node.Pos(), "provider %q is named twice, with and without its namespace", of.ID).WithFix("keep one of them"))
			continue
		}
		if of.Credentials != nil {
			l.add(diag.New(diag.CodeCredentials, e.Node.Pos(), "%q are credentials, of whose users no condition knows anything", of.ID).
				WithFix("let `users` require them where they are needed, and tell users apart by credentials of their own"))
			continue
		}
		out = append(out, model.UserTerms{Provider: of.ID, Claims: l.claimTerms(of, e.Node)})
	}
	slices.SortFunc(out, func(a, b model.UserTerms) int { return cmp.Compare(a.Provider, b.Provider) })
	return out
}

// EndUser are the tests of who the visitor is, by provider.
func (x *Place) EndUser(n intent.Node) []space.Test {
	var out []space.Test
	for _, u := range x.l.userTerms(x.pkg, n) {
		out = append(out, space.Values(space.UserDim(u.Provider), x.l.providers[u.Provider].Right()...))
		out = append(out, u.Tests()...)
	}
	return out
}

// claimTerms reads what is said of one user's token.
func (l *linker) claimTerms(of model.Provider, n intent.Node) []model.ClaimTerms {
	var out []model.ClaimTerms
	add := func(name, field string, at intent.Node) {
		switch texts := l.nonEmpty(at, field); {
		case slices.ContainsFunc(out, func(c model.ClaimTerms) bool { return c.Name == name }):
			l.add(diag.New(diag.CodeDuplicate, at.Pos(), "claim %q is named twice: it has a field of its own", name).WithFix("keep one of them"))
		case len(texts) > 0:
			slices.Sort(texts)
			out = append(out, model.ClaimTerms{Name: name, Any: slices.Compact(texts)})
		}
	}
	for _, own := range []struct{ name, field string }{{subject, "subjects"}, {audience, "audiences"}, {presenter, "presenters"}} {
		if at := n.Field(own.field); at.Exists() {
			add(own.name, own.field, at)
		}
	}
	for _, c := range n.Field("claims").Fields() {
		add(c.Name, strconv.Quote(c.Name), c.Node)
	}
	slices.SortFunc(out, func(a, b model.ClaimTerms) int { return cmp.Compare(a.Name, b.Name) })
	for _, c := range out {
		if c.Name == audience && len(of.Audiences) > 0 && !slices.ContainsFunc(c.Any, func(a string) bool { return slices.Contains(of.Audiences, a) }) {
			l.add(diag.Warn(diag.CodeIdle, n.Pos(), "provider %q takes tokens for %s alone: one that is for %s as well is rare", of.ID, quotedList(of.Audiences), quotedList(c.Any)).
				WithFix("name one of the provider's audiences, or add this one to them"))
		}
	}
	return out
}

// checkUsers refuses conditions on end users where nothing has found out before who they are: they
// would be nobody.
func (l *linker) checkUsers() {
	for _, s := range l.mesh.Services {
		for _, p := range s.Ports {
			if p.Protocol.IsHTTP() { // else it has been told
				l.checkUsersAt(s, p)
			}
		}
	}
	for _, g := range l.mesh.Gateways {
		var all []trait.Set
		for _, h := range g.Hosts {
			var around []trait.Set
			for _, r := range l.mesh.GatewayRoutes(g, h) {
				around = append(around, r.Traits)
			}
			all = append(all, around...)
			for _, r := range h.Routes {
				l.checkCounting(r.Traits, model.GatewayRoutePath(g.ID, h.Name, r.Name), "route "+strconv.Quote(r.Name)+" or host "+strconv.Quote(h.Name))
			}
			l.checkChosen(g, h)
			path := model.GatewayHostPath(g.ID, h.Name)
			for _, d := range slices.Concat(h.Denies, h.ShadowDenies) {
				l.knows("deny "+strconv.Quote(d.Name), model.DenyPath(path, d.Name), "each route of host "+strconv.Quote(h.Name), around, d.Terms, d.Not)
			}
		}
		for _, d := range slices.Concat(g.Denies, g.ShadowDenies) {
			l.knows("deny "+strconv.Quote(d.Name), model.DenyPath(model.GatewayPath(g.ID), d.Name), "each route of gateway "+strconv.Quote(g.ID), all, d.Terms, d.Not)
		}
	}
}

// checkChosen refuses routes that ask who the visitor is where not all of the host's routes look at his token: any of them
// may be the one that is chosen before that is known.
func (l *linker) checkChosen(g *model.Gateway, h model.Host) {
	for _, r := range h.Routes {
		for _, t := range r.Match.Late() {
			provider, ok := t.Dim.User()
			if !ok {
				continue // beside that
			}
			i := slices.IndexFunc(h.Routes, func(r model.Route) bool { _, ok := r.Traits.SignedIn(provider); return !ok })
			if i < 0 {
				continue
			}
			path := model.GatewayRoutePath(g.ID, h.Name, r.Name)
			d := diag.New(diag.CodeUserRoute, l.lineOf(path), "route %q is chosen by who the user is to provider %q, but its host %q does not look at tokens of that provider on all of its routes: a request has come by another one of them before it is known", r.Name, provider, h.Name)
			if h.Routes[i].Name != r.Name {
				d = d.WithRelated(l.lineOf(model.GatewayRoutePath(g.ID, h.Name, h.Routes[i].Name)), "a route that does not")
			}
			l.add(d.WithFix("write users: %q: {} on the host, and no other `users` on its routes", provider))
		}
	}
}

func (l *linker) checkUsersAt(s *model.Service, p model.Port) {
	around := []trait.Set{s.TraitsAt(p.Name)}
	l.checkCounting(around[0], model.ServicePath(s.ID), "service "+strconv.Quote(s.ID))
	for _, g := range slices.Concat(s.Grants, s.ShadowGrants) {
		if g.Ports == nil || slices.Contains(g.Ports, p.Name) {
			l.knows("grant "+strconv.Quote(g.Name), model.GrantPath(s.ID, g.Name), "service "+strconv.Quote(s.ID), around, g.Terms, g.Not)
		}
	}
	for _, d := range slices.Concat(s.Denies, s.ShadowDenies) {
		if d.At(p.Name) {
			l.knows("deny "+strconv.Quote(d.Name), model.DenyPath(model.ServicePath(s.ID), d.Name), "service "+strconv.Quote(s.ID), around, d.Terms, d.Not)
		}
	}
}

// knows refuses terms about users of a provider for whose tokens one of the places around does not look.
func (l *linker) knows(what, path, where string, around []trait.Set, all ...model.Terms) {
	for _, t := range all {
		for _, u := range t.Users {
			if slices.ContainsFunc(around, func(s trait.Set) bool { _, ok := s.SignedIn(u.Provider); return !ok }) {
				l.add(diag.New(diag.CodeUnknownUser, l.lineOf(path), "%s asks who the user is to provider %q, but nothing has looked at a token by then: to it everybody is nobody", what, u.Provider).
					WithFix("write users: %q: {} on %s", u.Provider, where))
				return
			}
		}
	}
}

// saidClaims reads what a test's token says.
func (l *linker) saidClaims(n intent.Node, token string) []space.Claim {
	var out []space.Claim
	for _, c := range n.Fields() {
		texts := l.nonEmpty(c.Node, strconv.Quote(c.Name))
		if len(texts) > 1 && (c.Name == subject || c.Name == "iss") {
			l.add(diag.New(diag.CodeOneOf, c.Node.Pos(), "a token has one %q: with a list it is wrong", c.Name).WithFix("keep one of them"))
		}
		for _, text := range texts {
			out = append(out, space.Claim{Name: c.Name, Value: text})
		}
	}
	if len(out) > 0 && token != space.SignedIn {
		l.add(diag.New(diag.CodeOneOf, n.Pos(), "what a token says counts only if it is right, and this one is %q", token).WithFix("leave out `claims` or `token`"))
	}
	return out
}
