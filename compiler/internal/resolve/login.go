package resolve

import (
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// Where browsers come back and where sessions end if nobody says it, and the scope that makes a login one of OpenID Connect.
const callback, logout, openID = "/login/callback", "/login/logout", "openid"

// declareLogins enters the logins of a package: all externals are known.
func (l *linker) declareLogins(p *pkg) {
	for _, e := range p.node.Field("login").Fields() {
		id := p.namespace + "/" + e.Name
		if l.free(model.LoginPath(id), "login", id, e.Node.Pos()) {
			l.logins[id] = l.login(p, id, e.Node)
		}
	}
}

func (l *linker) login(p *pkg, id string, n intent.Node) model.Login {
	out := model.Login{
		Certificate: model.Certificate{ID: id, Owner: p.owner, File: n.Field("file").Str()}, Client: n.Field("client").Str(), Authorization: n.Field("authorization").Str(),
		Path: n.Field("token").Field("path").Str(), Scopes: append(n.Field("scopes").Strings(), openID), Callback: callback, Logout: logout, End: n.Field("end").Str(),
	}
	slices.Sort(out.Scopes)
	out.Scopes = slices.Compact(out.Scopes)
	if owner := n.Field("owner"); owner.Exists() {
		out.Owner = owner.Str()
	}
	if l.oneOf(n, "file", "secret") == "secret" {
		out.Secret = l.secretOf(p, n.Field("secret"))
	}
	if at := n.Field("callback"); at.Exists() {
		out.Callback = at.Str()
	}
	if at := n.Field("logout"); at.Exists() {
		out.Logout = at.Str()
	}
	if out.Callback == out.Logout {
		l.add(diag.New(diag.CodeLogin, n.Pos(), "login %q has browsers come back to the path at which it ends their sessions, %s", id, out.Logout).WithFix("let callback and logout be two paths"))
	}
	if to, ok := l.overTLS(p, n.Field("token"), "tokens are asked of an external", "read the client's secret"); ok {
		out.To, out.Port = to.Service, to.Port
	}
	return out
}

// ownLogins notes who answers for a package's logins.
func (l *linker) ownLogins(p *pkg) {
	for _, e := range p.node.Field("login").Fields() {
		l.owned(e.Node, p, model.LoginPath(p.namespace+"/"+e.Name))
	}
}

// Login is how browsers get a token of the provider at a gateway's route; nil if n says nothing, or what keeps it from
// that is noted.
func (x *Place) Login(p model.Provider, n intent.Node) *model.Login {
	if !n.Exists() {
		return nil
	}
	login, ok := x.l.logins[x.pkg.namespace+"/"+n.Str()]
	if !ok {
		var own []string
		for _, id := range sortedKeys(x.l.logins) {
			if name, is := strings.CutPrefix(id, x.pkg.namespace+"/"); is {
				own = append(own, name)
			}
		}
		x.l.add(x.l.unknown(n.Pos(), "login of this package", n.Str(), own))
		return nil
	}
	if login.To == "" || login.File == "" && login.Secret == "" {
		return nil // it has a problem
	}
	problem := func(fix, format string, args ...any) {
		ok = false
		x.Problem(diag.New(diag.CodeLogin, n.Pos(), format, args...).WithRelated(x.l.lineOf(model.LoginPath(login.ID)), "declared here").WithFix("%s", fix))
	}
	switch {
	case !x.Gateway:
		problem("let the gateway sign them in, and the service read their tokens: `users` without `login`", "login %q is at a service, and browsers are sent to sign in at gateways", login.ID)
	case x.At == OnGatewayRoute && x.Attached():
		problem("let the gateway's package sign users in", "login %q is this package's, and the gateway of another one asks for its secret", login.ID)
	case x.plain:
		problem("give the host a certificate, tls: certificates: [\"my-tls\"], and leave out http: \"serve\"", "login %q is on host %q without TLS: everybody on the way would have its sessions", login.ID, x.Host)
	case x.Host == "*":
		problem("write `login` on a host that has a name", "login %q is on host \"*\", and whoever calls the gateway by a name of his own would be sent back there", login.ID)
	case p.Credentials != nil:
		problem("name it at a provider of tokens (`jwt`)", "login %q brings tokens, and %q are credentials", login.ID, p.ID)
	case p.Session() == "":
		problem(`let `+"`from`"+` have one header alone: authorization with "Bearer ", or another than cookie with ""`, "login %q puts tokens into a header of their own, and provider %q does not look for them in one", login.ID, p.ID)
	case len(p.Audiences) > 0 && !slices.Contains(p.Audiences, login.Client):
		problem("add the client to the provider's `audiences`", "login %q brings tokens for %q, and provider %q takes those for %s alone: everybody who has signed in would be refused", login.ID, login.Client, p.ID, quotedList(p.Audiences))
	}
	if !ok {
		return nil
	}
	x.l.place(loginOf(x.path), n.Pos())
	return &login
}

// loginOf is the mesh path of the login of a gateway's route.
func loginOf(route string) string { return route + "/login" }

// checkLogins refuses logins from which nobody comes back: paths of theirs that a host gives to a route without them.
func (l *linker) checkLogins() {
	for _, g := range l.mesh.Gateways {
		for _, h := range g.Hosts {
			told := map[string]bool{}
			for _, r := range l.mesh.GatewayRoutes(g, h) {
				for _, id := range r.Traits.Logins() {
					if !told[id] {
						told[id] = true
						l.comesBack(h, l.logins[id], loginOf(model.GatewayRoutePath(g.ID, h.Name, r.Outer.Name)))
					}
				}
			}
		}
	}
}

// comesBack counts the routes of the host's own package alone: what others attach, they may take away again, and it stands
// behind those.
func (l *linker) comesBack(h model.Host, login model.Login, at string) {
	for _, x := range []struct{ field, path string }{{"callback", login.Callback}, {"logout", login.Logout}} {
		i := slices.IndexFunc(h.Routes, func(r model.Route) bool {
			return r.Package == h.Package && len(r.Match.When) == 0 && r.Match.Path.Takes(x.path)
		})
		if i >= 0 && slices.Contains(h.Routes[i].Traits.Logins(), login.ID) {
			continue
		}
		who := "no route of its package takes it without further conditions"
		if i >= 0 {
			who = "route " + strconv.Quote(h.Routes[i].Name) + " takes it, and has no such login"
		}
		l.add(diag.New(diag.CodeLoginPath, l.lineOf(at), "login %q uses path %s of host %q, but %s", login.ID, x.path, h.Name, who).
			WithRelated(l.lineOf(model.LoginPath(login.ID)), "declared here").
			WithFix("write a path below which routes have the login, %s: \"/app%s\", or the login on the host", x.field, x.path))
	}
}

// checkFetched refuses what a package asks of an external in another namespace that does not grant it, or at which nothing
// can be asked. does says what, such as `provider "edge/corp" fetches its keys`; path is where that is declared, id its ID.
func (l *linker) checkFetched(id, path, to, does, proxied string) {
	namespace, _, _ := strings.Cut(id, "/")
	x := l.mesh.External(to)
	if x != nil && x.Endpoints.Dynamic {
		l.add(diag.New(diag.CodeDynamic, l.lineOf(path), "%s from external %q, which is wherever the name is that is asked for, and says none", does, x.ID).
			WithRelated(l.lineOf(model.ExternalPath(x.ID)), "the external").WithFix("declare the one host that is meant as an external of its own"))
		return
	}
	if x != nil && x.Proxy != "" { // Envoy fetches in a thread that cannot reach listeners of its own
		l.add(diag.New(diag.CodeProxied, l.lineOf(path), "%s from external %q, which is behind an HTTP proxy: Envoy fetches none through that", does, x.ID).
			WithRelated(l.lineOf(model.ExternalPath(x.ID)), "the external").WithFix("%s", proxied))
		return
	}
	if x == nil || x.Namespace == namespace || slices.ContainsFunc(x.Grants, func(g model.Grant) bool { return g.Mesh || slices.Contains(g.Namespaces, namespace) }) {
		return
	}
	l.add(diag.New(diag.CodeExternalGrant, l.lineOf(path), "%s from %s, which does not grant it: an external is for its own namespace", does, l.destinationOf(model.ExternalPath(x.ID))).
		WithRelated(l.lineOf(model.ExternalPath(x.ID)), "the external").WithFix("let the external say: grant: keys: namespaces: [%q]", namespace))
}
