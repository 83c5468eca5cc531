package resolve

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

// bearer is how a token is sent if nobody says otherwise (RFC 6750 section 2.1).
const bearer = "Bearer "

// defaultSkew is how far clocks may differ if nobody says it: what Envoy takes.
const defaultSkew = time.Minute

// declareProviders enters whose tokens a package believes into the tables.
func (l *linker) declareProviders(p *pkg) {
	for _, e := range p.node.Field("jwt").Fields() {
		id := p.namespace + "/" + e.Name
		if !l.free(model.ProviderPath(id), "provider", id, e.Node.Pos()) {
			continue
		}
		l.providers[id] = l.provider(p, id, e.Node)
	}
}

func (l *linker) provider(p *pkg, id string, n intent.Node) model.Provider {
	out := model.Provider{ID: id, Issuer: n.Field("issuer").Str(), Audiences: n.Field("audiences").Strings(), Forward: n.Field("forward").Bool(), From: l.tokens(n.Field("from"))}
	slices.Sort(out.Audiences)
	out.Audiences = slices.Compact(out.Audiences)
	if len(out.Audiences) == 0 {
		l.add(diag.Warn(diag.CodeToken, n.Pos(), "provider %q says no audience: tokens that %s signs for any other application sign in here, too", id, out.Issuer).
			WithFix(`write what tokens for you say in "aud", like audiences: ["shop"]`))
	}
	switch keys := n.Field("keys"); l.oneOf(keys, "inline", "file", "url") {
	case "inline":
		out.Keys = l.keysOf(id, keys.Field("inline"), keys.Field("inline").Str())
	case "file":
		if text, ok := l.fileText(p, keys.Field("file")); ok {
			out.Keys = l.keysOf(id, keys.Field("file"), text)
		}
	}
	for _, c := range n.Field("claims").Fields() {
		header := strings.ToLower(c.Name)
		switch {
		case slices.ContainsFunc(out.Claims, func(o model.Claim) bool { return o.Header == header }):
			l.add(diag.New(diag.CodeDuplicate, c.Node.Pos(), "provider %q writes header %s twice: names of headers ignore case", id, header).WithFix("keep one of them"))
		case hop.Reserved(header) || hop.OfConnection(header) || strings.HasPrefix(header, "x-forwarded-"):
			l.add(diag.New(diag.CodeToken, c.Node.Pos(), "provider %q writes header %s, by which proxies go themselves", id, header).WithFix("write another header, such as x-user"))
		}
		out.Claims = append(out.Claims, model.Claim{Header: header, Name: c.Node.Str()})
	}
	slices.SortFunc(out.Claims, func(a, b model.Claim) int { return cmp.Compare(a.Header, b.Header) })
	x := Place{l: l}
	skew := time.Duration(x.Duration(n.Field("clockSkew"), defaultSkew))
	if skew < time.Second || skew%time.Second != 0 {
		l.add(diag.New(diag.CodeRange, n.Field("clockSkew").Pos(), "clockSkew is %s, and proxies count whole seconds from one on", n.Field("clockSkew").Str()).WithFix("write whole seconds"))
	}
	out.Skew = uint32(skew / time.Second)
	return out
}

// keysOf is the JWK Set that n says.
func (l *linker) keysOf(id string, n intent.Node, text string) string {
	keys, err := keySet(text)
	if err != nil {
		l.add(diag.New(diag.CodeToken, n.Pos(), "the keys of provider %q cannot be used: %v", id, err).
			WithFix("write the JWK Set that the issuer publishes as its jwks_uri, with public keys alone"))
	}
	return keys
}

// defaultCache is after what time keys are fetched again if nobody says it.
const defaultCache = 10 * time.Minute

// declareKeys enters where the keys of a package's providers are fetched: all externals are known.
func (l *linker) declareKeys(p *pkg) {
	for _, e := range p.node.Field("jwt").Fields() {
		id := p.namespace + "/" + e.Name
		n := e.Node.Field("keys").Field("url")
		provider, ok := l.providers[id]
		if !ok || !n.Exists() {
			continue
		}
		to, ok := l.overTLS(p, n, "keys are fetched from an external", "put keys of his own in")
		if !ok {
			continue
		}
		x := Place{l: l}
		cache := time.Duration(x.Duration(n.Field("cache"), defaultCache))
		if cache < time.Second || cache%time.Second != 0 {
			l.add(diag.New(diag.CodeRange, n.Field("cache").Pos(), "cache is %s, and proxies count whole seconds from one on", n.Field("cache").Str()).WithFix("write whole seconds"))
		}
		provider.Fetched = &model.Fetched{To: to.Service, Port: to.Port, Path: n.Field("path").Str(), Cache: uint32(cache / time.Second)}
		l.providers[id] = provider
	}
}

// overTLS is the port of an external that n names, by HTTPS. What comes of it says asked; danger is what anybody on the
// way could do without.
func (l *linker) overTLS(p *pkg, n intent.Node, asked, danger string) (model.Target, bool) {
	to, kind, ok := l.destination(p, n.Field("to").Str(), n.Field("to").Pos())
	if !ok {
		return model.Target{}, false
	}
	if kind != space.External {
		l.add(diag.New(diag.CodeToken, n.Field("to").Pos(), "%s, and %q is none", asked, to).
			WithRelated(l.declaredAt(to), "declared here").WithFix("declare who publishes them: external: idp: {hosts: [\"id.example\"], port: https: {number: 443, protocol: \"https\"}}"))
		return model.Target{}, false
	}
	port, ok := l.port(to, n.Field("port"), n, "port")
	if !ok {
		return model.Target{}, false
	}
	if port.Protocol != model.HTTPS && port.Protocol != model.HTTPS2 {
		l.add(diag.New(diag.CodeToken, n.Pos(), "port %q of %q speaks %s: whoever is on the way could %s", port.Name, to, port.Protocol, danger).
			WithRelated(l.declaredAt(to), "declared here").WithFix("name a port with protocol: \"https\""))
		return model.Target{}, false
	}
	return model.Target{Service: to, Port: port.Name}, true
}

// checkKeys refuses providers and logins that ask an external of another namespace that does not grant it.
func (l *linker) checkKeys() {
	for _, p := range l.mesh.Providers {
		if p.Fetched != nil {
			l.checkFetched(p.ID, model.ProviderPath(p.ID), p.Fetched.To, "provider "+strconv.Quote(p.ID)+" fetches its keys", "call it through a gateway of the mesh (`via: gateway`), directly, or write the keys (`keys: inline`)")
		}
	}
	for _, x := range l.mesh.Logins {
		l.checkFetched(x.ID, model.LoginPath(x.ID), x.To, "login "+strconv.Quote(x.ID)+" gets its tokens", "call it through a gateway of the mesh (`via: gateway`), or directly")
	}
}

// tokens reads where tokens are looked for.
func (l *linker) tokens(n intent.Node) model.Tokens {
	if !n.Exists() {
		return model.Tokens{Headers: []model.TokenHeader{{Name: "authorization", Prefix: bearer}}}
	}
	out := model.Tokens{Query: n.Field("query").Strings(), Cookies: n.Field("cookies").Strings()}
	for _, h := range n.Field("headers").Fields() {
		if name := strings.ToLower(h.Name); hop.Reserved(name) || hop.OfConnection(name) {
			l.add(diag.New(diag.CodeToken, h.Node.Pos(), "header %s is written by proxies, and no token arrives in it", name).WithFix("name another header"))
		}
		out.Headers = append(out.Headers, model.TokenHeader{Name: strings.ToLower(h.Name), Prefix: h.Node.Str()})
	}
	slices.SortFunc(out.Headers, func(a, b model.TokenHeader) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(out.Query)
	slices.Sort(out.Cookies)
	if len(out.Headers)+len(out.Query)+len(out.Cookies) == 0 {
		l.add(diag.New(diag.CodeOneOf, n.Pos(), "tokens are looked for nowhere").WithFix("write headers, query or cookies, or leave `from` out: then it is a bearer token"))
	}
	return out
}

// Provider resolves the name of a provider of tokens: the package's own, or "namespace/name". A
// problem is noted.
func (x *Place) Provider(name string, at intent.Node) (model.Provider, bool) {
	p, ok := x.l.providers[x.pkg.qualify(name)]
	if !ok {
		x.l.add(x.l.unknown(at.Pos(), "provider of tokens", name, sortedKeys(x.l.providers)))
	}
	if c := p.Credentials; c != nil {
		return p, (c.File != "" || c.Secret != "") && len(p.From.Headers)+len(p.From.Query) > 0
	}
	return p, ok && p.KeyID() != ""
}

// ClaimHeaders are the headers by which any provider tells of users, sorted.
func (x *Place) ClaimHeaders() []string {
	var out []string
	for _, p := range x.l.providers {
		for _, c := range p.Claims {
			out = append(out, c.Header)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Asked reads of which requests something is asked. Problems are noted.
func (x *Place) Asked(n intent.Node) model.Asked {
	except := n.Field("not")
	only, not := x.l.termsOf(x.pkg, n), x.l.termsOf(x.pkg, except)
	if except.Exists() && !x.l.leaves(only, not) {
		x.Problem(diag.New(diag.CodeNever, except.Pos(), "it is about no request: its `not` takes back all that it says").WithFix("delete it, or what excepts too much"))
	}
	return model.Asked{Requests: model.Requests{Methods: only.Methods, Paths: only.Paths}, Not: model.Requests{Methods: not.Methods, Paths: not.Paths}}
}
