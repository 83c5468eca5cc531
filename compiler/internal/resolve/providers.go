package resolve

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
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
		l.providers[id] = l.provider(id, e.Node)
	}
}

func (l *linker) provider(id string, n intent.Node) model.Provider {
	out := model.Provider{ID: id, Issuer: n.Field("issuer").Str(), Audiences: n.Field("audiences").Strings(), Forward: n.Field("forward").Bool(), From: l.tokens(n.Field("from"))}
	slices.Sort(out.Audiences)
	out.Audiences = slices.Compact(out.Audiences)
	if len(out.Audiences) == 0 {
		l.add(diag.Warn(diag.CodeToken, n.Pos(), "provider %q says no audience: tokens that %s signs for any other application sign in here, too", id, out.Issuer).
			WithFix(`write what tokens for you say in "aud", like audiences: ["shop"]`))
	}
	inline := n.Field("keys").Field("inline")
	keys, err := keySet(inline.Str())
	if err != nil {
		l.add(diag.New(diag.CodeToken, inline.Pos(), "the keys of provider %q cannot be used: %v", id, err).
			WithFix("write the JWK Set that the issuer publishes as its jwks_uri, with public keys alone"))
	}
	out.Keys = keys
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
	return p, ok && p.Keys != ""
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

// Requests reads which requests n means, by methods and paths; nil for all. Problems are noted.
func (x *Place) Requests(n intent.Node) (methods []string, paths []model.Path) {
	t := x.l.termsOf(x.pkg, n)
	return t.Methods, t.Paths
}
