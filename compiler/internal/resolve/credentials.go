package resolve

import (
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

// basic is what stands before a name with its password (RFC 7617 section 2).
const basic = "Basic "

// declareCredentials enters the keys and passwords of a package among the providers: they sign users in, too.
func (l *linker) declareCredentials(p *pkg) {
	for _, e := range p.node.Field("credentials").Fields() {
		id := p.namespace + "/" + e.Name
		if l.free(model.ProviderPath(id), "provider", id, e.Node.Pos()) {
			l.providers[id] = l.credentials(p, id, e.Node)
		}
	}
}

func (l *linker) credentials(p *pkg, id string, n intent.Node) model.Provider {
	c := &model.Credentials{Certificate: model.Certificate{ID: id, Owner: p.owner, File: n.Field("file").Str()}}
	if owner := n.Field("owner"); owner.Exists() {
		c.Owner = owner.Str()
	}
	if l.oneOf(n, "file", "secret") == "secret" {
		c.Secret = l.secretOf(p, n.Field("secret"))
	}
	out := model.Provider{ID: id, Credentials: c, Forward: n.Field("forward").Bool()}
	switch l.oneOf(n, "apiKey", "basic") {
	case "apiKey":
		out.From = l.keyPlace(n.Field("apiKey"))
	case "basic":
		c.Basic, c.Realm = true, n.Field("basic").Field("realm").Str()
		if c.Realm == "" {
			_, c.Realm, _ = strings.Cut(id, "/")
		}
		out.From.Headers = []model.TokenHeader{{Name: "authorization", Prefix: basic}}
	}
	if name := n.Field("name"); name.Exists() {
		out.Claims = []model.Claim{{Header: strings.ToLower(name.Str()), Name: subject}}
		if h := out.Claims[0].Header; hop.Reserved(h) || hop.OfConnection(h) || strings.HasPrefix(h, "x-forwarded-") {
			l.add(diag.New(diag.CodeToken, name.Pos(), "credentials %q write header %s, by which proxies go themselves", id, h).WithFix("write another header, such as x-client"))
		}
	}
	return out
}

// ownCredentials notes who answers for a package's credentials.
func (l *linker) ownCredentials(p *pkg) {
	for _, e := range p.node.Field("credentials").Fields() {
		l.owned(e.Node, p, model.ProviderPath(p.namespace+"/"+e.Name))
	}
}

// keyPlace is where a key stands.
func (l *linker) keyPlace(n intent.Node) model.Tokens {
	switch l.oneOf(n, "header", "query") {
	case "header":
		h := n.Field("header")
		name := strings.ToLower(h.Str())
		if hop.Reserved(name) || hop.OfConnection(name) || name == "cookie" {
			l.add(diag.New(diag.CodeToken, h.Pos(), "header %s is written by proxies or has several values, and no key arrives in it", name).WithFix("name another header, such as x-api-key"))
		}
		return model.Tokens{Headers: []model.TokenHeader{{Name: name}}}
	case "query":
		return model.Tokens{Query: []string{n.Field("query").Str()}}
	}
	return model.Tokens{}
}

// CredentialsHere notes what keeps a carrier from signing users in by credentials: they are the package's own, and
// go nowhere without TLS.
func (x *Place) CredentialsHere(p model.Provider, at intent.Node) {
	problem := func(fix, format string, args ...any) {
		x.Problem(diag.New(diag.CodeCredentials, at.Pos(), format, args...).WithRelated(x.l.lineOf(model.ProviderPath(p.ID)), "declared here").WithFix("%s", fix))
	}
	if p.Credentials == nil {
		return
	}
	namespace, _, _ := strings.Cut(p.ID, "/")
	switch {
	case namespace != x.pkg.namespace:
		problem("declare credentials in this package: whoever may name them may use them", "credentials %q belong to another package", p.ID)
	case x.At == OnGatewayRoute && x.Attached():
		problem("let your service sign its users in, or the gateway's package", "credentials %q lie in this package, and the gateway of another one asks for them", p.ID)
	case x.Gateway && x.plain:
		problem("give the host a certificate, tls: certificates: [\"my-tls\"], and leave out http: \"serve\"", "credentials %q come to host %q without TLS: everybody on the way would have them", p.ID, x.Host)
	case !x.Gateway && p.Credentials.Secret != "":
		problem("write `file`, or let a gateway sign them in", "credentials %q are a Secret, and only a gateway's pods read Secrets", p.ID)
	}
}

// takesPlain reports whether a gateway's host gets requests without TLS.
func (l *linker) takesPlain(host intent.Node) bool {
	tls := host.Field("tls")
	if !tls.Exists() || tls.Field("http").Str() != string(model.PlainServe) {
		return !tls.Exists()
	}
	told := len(l.diags)
	ended := l.expired(tls)
	l.diags = l.diags[:told] // the host tells of it
	return !ended
}
