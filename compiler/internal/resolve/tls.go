package resolve

import (
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// gatewayPorts are the ports of a gateway, by name.
func (l *linker) gatewayPorts(p *pkg, e intent.Entry) []model.Port {
	id := p.namespace + "/" + e.Name
	var out []model.Port
	main := map[model.Protocol]string{}
	for _, f := range e.Node.Field("port").Fields() {
		port := model.Port{Name: f.Name, Number: uint32(f.Node.Field("number").Int()), Protocol: model.HTTP, MTLS: model.Disable, Main: f.Node.Field("main").Bool()}
		if v := f.Node.Field("protocol"); v.Exists() {
			port.Protocol = model.Protocol(v.Str())
		}
		if port.Protocol == model.MeshTLS {
			port.MTLS = model.Strict
		}
		l.place(model.GatewayPortPath(id, f.Name), f.Node.Pos())
		if other := main[port.Protocol]; port.Main && other != "" {
			l.add(diag.New(diag.CodeDuplicate, f.Node.Field("main").Pos(), "ports %q and %q of gateway %q both say that they are the main one of %s", other, f.Name, id, port.Protocol).
				WithFix("let one of them say it"))
		}
		if port.Main {
			main[port.Protocol] = f.Name
		}
		if i := slices.IndexFunc(out, func(o model.Port) bool { return o.Number == port.Number }); i >= 0 {
			l.add(diag.New(diag.CodeListen, f.Node.Pos(), "ports %q and %q of gateway %q both have the number %d", out[i].Name, f.Name, id, port.Number).
				WithRelated(l.lineOf(model.GatewayPortPath(id, out[i].Name)), "the other").WithFix("choose another number for one of them"))
		}
		out = append(out, port)
	}
	if len(out) == 0 {
		l.add(diag.New(diag.CodeOneOf, e.Node.Pos(), "gateway %q has no port", id).WithFix("add: port: http: number: 80"))
	}
	slices.SortFunc(out, func(a, b model.Port) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func speaking(ps []model.Port, of model.Protocol) []model.Port {
	return slices.DeleteFunc(slices.Clone(ps), func(p model.Port) bool { return p.Protocol != of })
}

// hostPorts are the names of the ports at which a host is: those that it names, else
// for each protocol the one that is meant where none is named.
func (l *linker) hostPorts(g *model.Gateway, tls bool, e intent.Entry) []string {
	if named := e.Node.Field("ports"); named.Exists() {
		return l.namedPorts(g, tls, named, e)
	}
	out := l.unnamedPorts(g, model.HTTP, e)
	switch https := speaking(g.Ports, model.HTTPS); {
	case !tls && len(https) > 0 && len(speaking(g.Ports, model.HTTP)) == 0:
		l.add(noTLS(g, https[0].Name, e, e.Node.Pos()))
	case tls && len(https) == 0:
		l.add(diag.New(diag.CodeHostPort, e.Node.Field("tls").Pos(), "host %q has `tls`, but no port of gateway %q speaks https", e.Name, g.ID).
			WithRelated(l.lineOf(model.GatewayPath(g.ID)), "the gateway").WithFix(`add to the gateway: port: https: {number: 443, protocol: "https"}`))
	case tls:
		out = append(out, l.unnamedPorts(g, model.HTTPS, e)...)
	case len(https) == 0 && len(speaking(g.Ports, model.HTTP)) == 0 && len(g.Ports) > 0:
		l.add(diag.New(diag.CodeHostPort, e.Node.Pos(), "host %q is at no port: none of gateway %q takes requests", e.Name, g.ID).
			WithRelated(l.lineOf(model.GatewayPath(g.ID)), "the gateway").WithFix("add to the gateway: port: http: number: 80"))
	}
	slices.Sort(out)
	return out
}

// unnamedPorts is the port of a protocol at which hosts are that name none, if there is one.
func (l *linker) unnamedPorts(g *model.Gateway, of model.Protocol, e intent.Entry) []string {
	ps := speaking(g.Ports, of)
	p, ok := model.Unnamed(ps)
	switch {
	case ok:
		return []string{p.Name}
	case len(ps) > 1:
		l.add(diag.New(diag.CodePort, e.Node.Pos(), "host %q has to name its ports: gateway %q has several that speak %s and none is the main one", e.Name, g.ID, of).
			WithRelated(l.lineOf(model.GatewayPath(g.ID)), "the gateway").
			WithFix("name some of %s in `ports`, or let one of them say `main: true`", strings.Join(portNames(ps), ", ")))
	}
	return nil
}

func (l *linker) namedPorts(g *model.Gateway, tls bool, named intent.Node, e intent.Entry) []string {
	var out []string
	https := false
	for _, n := range named.List() {
		p, ok := g.Port(n.Str())
		switch {
		case !ok:
			l.add(l.unknown(n.Pos(), "port", n.Str(), portNames(g.Ports)).WithRelated(l.lineOf(model.GatewayPath(g.ID)), "the gateway"))
		case p.Protocol == model.HTTPS && !tls:
			l.add(noTLS(g, p.Name, e, n.Pos()))
		case !p.Protocol.IsHTTP():
			l.add(diag.New(diag.CodeHostPort, n.Pos(), "host %q is at port %q of gateway %q, which passes bytes on and sees no request", e.Name, p.Name, g.ID).
				WithRelated(l.lineOf(model.GatewayPortPath(g.ID, p.Name)), "the port").WithFix("name a port of the protocol http or https, or give that port a route"))
		}
		https = https || p.Protocol == model.HTTPS
		out = append(out, n.Str())
	}
	switch {
	case len(out) == 0:
		l.add(diag.New(diag.CodeNever, named.Pos(), "host %q is at no port, so that no request reaches it", e.Name).WithFix("leave `ports` out, or name some of %s", strings.Join(portNames(g.Ports), ", ")))
	case tls && !https:
		l.add(diag.New(diag.CodeHostPort, e.Node.Field("tls").Pos(), "host %q has `tls`, but is at no port that speaks https", e.Name).
			WithRelated(named.Pos(), "its ports").WithFix("name a port of the protocol https as well, or delete `tls`"))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// checkGatewayPorts warns of ports at which no host is: they listen and answer nobody.
func (l *linker) checkGatewayPorts() {
	for _, g := range l.mesh.Gateways {
		l.checkStreamHosts(g)
	}
	if l.diags.HasErrors() {
		return
	}
	for _, g := range l.mesh.Gateways {
		for _, p := range g.Ports {
			if len(g.Streams(p.Name)) > 0 || len(g.Hosts) == 0 && p.Protocol.IsHTTP() || slices.ContainsFunc(g.Hosts, func(h model.Host) bool { return slices.Contains(h.Ports, p.Name) }) {
				continue
			}
			if p.Protocol == model.MeshTLS {
				if !slices.ContainsFunc(g.Exits, func(x model.Exit) bool { return x.Port == p.Name }) {
					l.add(diag.Warn(diag.CodeDeafPort, l.lineOf(model.GatewayPortPath(g.ID, p.Name)), "port %q of gateway %q answers nobody: no external goes out there", p.Name, g.ID).
						WithFix("let an external say: via: gateway: %q", g.ID))
				}
				continue
			}
			if !p.Protocol.IsHTTP() {
				l.add(diag.Warn(diag.CodeDeafPort, l.lineOf(model.GatewayPortPath(g.ID, p.Name)), "port %q of gateway %q answers nobody: it has no route", p.Name, g.ID).
					WithFix("add to it: route: default: to: <service>: 100"))
				continue
			}
			d := diag.Warn(diag.CodeDeafPort, l.lineOf(model.GatewayPortPath(g.ID, p.Name)), "port %q of gateway %q answers nobody: no host is at it", p.Name, g.ID)
			if p.Protocol == model.HTTPS {
				d = d.WithFix("give a host a certificate, tls: certificates: [%q], or delete the port", "my-tls")
			} else {
				d = d.WithFix("name it in a host's `ports`, or delete it")
			}
			l.add(d)
		}
	}
}

func noTLS(g *model.Gateway, port string, e intent.Entry, at diag.Pos) diag.Diagnostic {
	return diag.New(diag.CodeHostPort, at, "host %q is at port %q of gateway %q, which speaks https, and has no `tls`", e.Name, port, g.ID).
		WithFix("add: tls: certificates: [%q], and the certificate: mesh: certificate: %q: file: %q", "my-tls", "my-tls", "my-tls")
}

// defaultTLS is the oldest version of TLS that visitors may speak unless a host says more.
const defaultTLS = "1.2"

// hostTLS reads how a host is reached by HTTPS, nil if it is not.
func (l *linker) hostTLS(p *pkg, path string, e intent.Entry) *model.HostTLS {
	n := e.Node.Field("tls")
	if !n.Exists() {
		return nil
	}
	out := &model.HostTLS{Min: defaultTLS, Plain: model.PlainRedirect}
	if v := n.Field("min"); v.Exists() {
		out.Min = v.Str()
	}
	if v := n.Field("http"); v.Exists() {
		out.Plain = l.plainHTTP(path, n, e)
	}
	for _, c := range n.Field("certificates").List() {
		if x, ok := l.certificate(p, c); ok {
			out.Certificates = append(out.Certificates, x)
		}
	}
	if list := n.Field("certificates"); len(list.List()) == 0 {
		l.add(diag.New(diag.CodeCertificate, list.Pos(), "host %q has an empty list of certificates, so that no visitor could be answered", e.Name).WithFix(`name one: certificates: ["my-tls"]`))
	}
	slices.SortFunc(out.Certificates, func(a, b model.Certificate) int { return strings.Compare(a.ID, b.ID) })
	out.Certificates = slices.Compact(out.Certificates)
	out.Client = l.clientTLS(p, n, out.Plain, e)
	out.Ciphers, out.ALPN = l.some(n.Field("ciphers"), "cipher"), l.some(n.Field("alpn"), "version of HTTP")
	if c := n.Field("ciphers"); c.Exists() && out.Min != defaultTLS {
		l.add(diag.New(diag.CodeNever, c.Pos(), "host %q takes no TLS older than %s, and ciphers are chosen up to 1.2: those of 1.3 are always all", e.Name, out.Min).WithFix("delete `ciphers`, or `min`"))
	}
	return out
}

// some are the words of a list, sorted, each once; one that is written has some.
func (l *linker) some(n intent.Node, what string) []string {
	var out []string
	for _, x := range n.List() {
		out = append(out, x.Str())
	}
	if n.Exists() && len(out) == 0 {
		l.add(diag.New(diag.CodeNever, n.Pos(), "%s is an empty list: no %s is left, so that nobody could be answered", n.Path(), what).WithFix("name some, or leave it out"))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// clientTLS reads whom a host takes by the certificates of visitors, nil for anyone.
func (l *linker) clientTLS(p *pkg, tls intent.Node, plain model.Plain, e intent.Entry) *model.ClientTLS {
	n := tls.Field("client")
	if !n.Exists() {
		return nil
	}
	out := &model.ClientTLS{Required: n.Field("mode").Str() == "require", CRL: n.Field("crl").Bool()}
	out.Roots, _ = l.certificate(p, n.Field("roots"))
	out.SANs, out.SPKI = l.some(n.Field("sans"), "name"), l.some(n.Field("spki"), "key")
	if fewer := n.Field("sans"); !out.Required && (fewer.Exists() || n.Field("spki").Exists()) {
		if !fewer.Exists() {
			fewer = n.Field("spki")
		}
		l.add(diag.New(diag.CodeNever, fewer.Pos(), "host %q lets in visitors without a certificate (`mode: \"optional\"`), and a proxy that asks for names or keys lets in none", e.Name).
			WithFix(`write mode: "require", or leave out ` + "`sans` and `spki`"))
	}
	if plain == model.PlainServe {
		l.add(diag.New(diag.CodeNever, n.Pos(), "host %q asks visitors for a certificate and serves plain HTTP as well, by which they show none", e.Name).
			WithRelated(tls.Field("http").Pos(), "plain HTTP").WithFix(`write http: "redirect" or "refuse", or delete ` + "`client`"))
	}
	return out
}

// plainHTTP is what a host does with requests that come without TLS. Serving them is an
// exception that somebody answers for, until it ends.
func (l *linker) plainHTTP(path string, n intent.Node, e intent.Entry) model.Plain {
	word := n.Field("http")
	plain := model.Plain(word.Str())
	if plain != model.PlainServe {
		for _, f := range []string{"until", "owner", "reason"} {
			if x := n.Field(f); x.Exists() {
				l.add(diag.New(diag.CodeOneOf, x.Pos(), "%s is about plain HTTP that is served, which %q does not do", x.Path(), word.Str()).WithFix("delete it"))
			}
		}
		return plain
	}
	var missing []string
	for _, f := range []string{"owner", "reason", "until"} {
		if !n.Field(f).Exists() {
			missing = append(missing, "`"+f+"`")
		}
	}
	if len(missing) > 0 {
		l.add(diag.New(diag.CodeOneOf, word.Pos(), "host %q serves plain HTTP, which anybody on the way can read and change, without %s", e.Name, strings.Join(missing, ", ")).
			WithFix(`say who answers for it, why and until when, or write http: "redirect"`))
	}
	if l.ended(n, "plain HTTP of host "+strconv.Quote(e.Name)) {
		return model.PlainRedirect
	}
	l.exceptions = append(l.exceptions, Exception{Path: path, Kind: "plain HTTP", Mode: string(plain), Owner: n.Field("owner").Str(),
		Reason: n.Field("reason").Str(), Until: n.Field("until").Str()})
	return plain
}

// certificate resolves the name of a certificate at a gateway's host. A gateway shows what
// its own package has: who may name a key may use it.
func (l *linker) certificate(p *pkg, n intent.Node) (model.Certificate, bool) {
	id := p.qualify(n.Str())
	c, ok := l.certificates[id]
	if !ok {
		var known []string
		for _, k := range sortedKeys(l.certificates) {
			if l.certificates[k].pkg == p {
				known = append(known, strings.TrimPrefix(k, p.namespace+"/"))
			}
		}
		l.add(l.unknown(n.Pos(), "certificate", n.Str(), known))
		return model.Certificate{}, false
	}
	if c.pkg != p {
		l.add(diag.New(diag.CodeCertificate, n.Pos(), "certificate %q belongs to %s", id, c.pkg).WithRelated(l.lineOf(model.CertificatePath(id)), "declared here").
			WithFix("declare one in this package: whoever may name a key may use it"))
		return model.Certificate{}, false
	}
	return c.Certificate, true
}

// Certificate is the certificate of its own package that a carrier refers to.
func (x *Place) Certificate(n intent.Node) (model.Certificate, bool) {
	return x.l.certificate(x.pkg, n)
}

// ownCertificate is a certificate and the package that may use it.
type ownCertificate struct {
	model.Certificate
	pkg *pkg
}

// declareCertificates enters the certificates of a package into the tables.
func (l *linker) declareCertificates(p *pkg) {
	for _, e := range p.node.Field("certificate").Fields() {
		id := p.namespace + "/" + e.Name
		if !l.free(model.CertificatePath(id), "certificate", id, e.Node.Pos()) {
			continue
		}
		c := model.Certificate{ID: id, Owner: l.owned(e.Node, p, model.CertificatePath(id)), File: e.Node.Field("file").Str()}
		if secret := e.Node.Field("secret"); secret.Exists() {
			c.Secret = l.secretOf(p, secret)
		}
		if (c.File == "") == (c.Secret == "") {
			l.add(diag.New(diag.CodeOneOf, e.Node.Pos(), "certificate %q lies in one place: `file`, a folder of the gateway's operator, or `secret`, a Secret of a cluster", id).
				WithFix("write one of them, like secret: %q", e.Name))
		}
		l.certificates[id] = ownCertificate{c, p}
	}
}

// secretOf is "namespace/name" of a Secret that a package names. A gateway's pods read
// Secrets of their own namespace: whoever owns another one has not said that its keys
// may be used here.
func (l *linker) secretOf(p *pkg, n intent.Node) string {
	id := p.qualify(n.Str())
	if namespace, name, _ := strings.Cut(id, "/"); namespace != p.namespace {
		l.add(diag.New(diag.CodeCertificate, n.Pos(), "the Secret %q is not in namespace %q, where this package's gateways run and may read Secrets", id, p.namespace).
			WithFix("keep the Secret in namespace %q and write secret: %q", p.namespace, name))
	}
	return id
}
