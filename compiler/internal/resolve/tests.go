package resolve

import (
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// readTests links the `test:` blocks of a package.
func (l *linker) readTests(p *pkg) {
	for _, e := range p.node.Field("test").Fields() {
		if t, ok := l.test(p, e); ok {
			l.tests = append(l.tests, t)
		}
	}
}

func (l *linker) test(p *pkg, e intent.Entry) (Test, bool) {
	q := e.Node.Field("request")
	t := Test{Name: e.Name, Pos: e.Node.Pos(), Host: q.Field("host").Str(), Method: q.Field("method").Str(), Path: q.Field("path").Str(),
		HTTP: q.Field("http").Str(), ServerName: q.Field("sni").Str(), Certificate: q.Field("certificate").Str(), Source: q.Field("source").Str(), Client: q.Field("client").Str()}
	if t.Method == "" {
		t.Method = "GET"
	}
	if t.Path == "" {
		t.Path = "/"
	}
	if from := q.Field("from"); from.Exists() {
		accounts := l.runsAs(p, from)
		if len(accounts) == 0 {
			return t, false
		}
		ns, sa, _ := strings.Cut(accounts[0], "/")
		t.From = release.Class{Namespace: ns, Account: sa}.SPIFFEID(l.mesh.TrustDomain)
	}
	for _, h := range q.Field("headers").Fields() {
		if t.Headers == nil {
			t.Headers = map[string]string{}
		}
		t.Headers[strings.ToLower(h.Name)] = h.Node.Str()
	}
	x := Place{l: l, pkg: p}
	for _, u := range q.Field("user").Fields() {
		of, ok := x.Provider(u.Name, u.Node)
		if !ok {
			return t, false
		}
		token := space.SignedIn
		if said := u.Node.Field("token"); said.Exists() {
			token = said.Str()
		}
		said := l.saidClaims(u.Node.Field("claims"), token)
		t.Users = append(t.Users, space.User{Provider: of.ID, Token: token, Claims: said})
	}
	if !l.testTarget(p, q, &t) {
		return t, false
	}
	return t, l.pace(q, e.Node, &t) && l.serverName(q, &t) && l.expect(p, e.Node.Field("expect"), &t)
}

// pace reads how long both sides take. Connections have no answers to wait for.
func (l *linker) pace(q, n intent.Node, t *Test) bool {
	x := Place{l: l}
	for _, w := range []struct {
		n  intent.Node
		to *time.Duration
	}{{q.Field("pause"), &t.Pause}, {n.Field("answer").Field("after"), &t.After}} {
		if !w.n.Exists() {
			continue
		}
		if at := slices.IndexFunc(l.ports[t.To], func(p model.Port) bool { return p.Name == t.Port }); !t.Gateway && at >= 0 && !l.ports[t.To][at].Protocol.IsHTTP() {
			l.add(diag.New(diag.CodeProtocol, w.n.Pos(), "test %q says how long a request or its answer takes, but port %q of %q takes bytes only", t.Name, t.Port, t.To).
				WithFix("leave it out, or name a port whose protocol is http, http2 or grpc").WithRelated(l.declaredAt(t.To), "declared here"))
			return false
		}
		*w.to = time.Duration(x.Duration(w.n, 0))
	}
	return true
}

func (l *linker) testTarget(p *pkg, q intent.Node, t *Test) bool {
	to := q.Field("to")
	if name, ok := strings.CutPrefix(to.Str(), gatewayPrefix); ok {
		t.Gateway, t.To = true, l.gatewayID(p, name, to.Pos())
		if g := l.mesh.Gateway(t.To); g != nil && bytesAt(g, q.Field("port").Str()) {
			t.Port = q.Field("port").Str()
			return true
		}
		if t.To != "" && t.Host == "" {
			l.add(diag.New(diag.CodeOneOf, q.Pos(), "test %q enters at a gateway but names no host", t.Name).WithFix(`add: request: host: "…"`))
			return false
		}
		if port := q.Field("port"); port.Exists() {
			if t.Port = port.Str(); !l.gatewayPort(t.To, port) {
				return false
			}
		}
		return t.To != ""
	}
	id, _, ok := l.destination(p, to.Str(), to.Pos())
	if !ok {
		return false
	}
	port, ok := l.port(id, q.Field("port"), q, "port")
	t.To, t.Port = id, port.Name
	return ok
}

// serverName settles the port of a test that names one by SNI: only connections of TLS do.
func (l *linker) serverName(q intent.Node, t *Test) bool {
	g := l.mesh.Gateway(t.To)
	if c := q.Field("certificate"); c.Exists() && (!t.Gateway || g != nil && !slices.ContainsFunc(g.Hosts, func(h model.Host) bool { return h.TLS != nil && h.TLS.Client != nil })) {
		l.add(diag.New(diag.CodeOneOf, c.Pos(), "test %q shows a certificate, and nobody there asks for one: hosts of gateways do whose tls has `client`", t.Name).WithFix("leave certificate out"))
		return false
	}
	if t.ServerName == "" || t.Gateway && g == nil {
		return true // nothing is said, or it was told already
	}
	sni := q.Field("sni")
	if !t.Gateway {
		l.add(diag.New(diag.CodeOneOf, sni.Pos(), "test %q names a server (sni), but only a gateway's port of HTTPS looks at it", t.Name).WithFix("leave sni out"))
		return false
	}
	secure := slices.DeleteFunc(slices.Clone(g.Ports), func(p model.Port) bool {
		return p.Protocol != model.HTTPS && p.Protocol != model.TLS || t.Port != "" && p.Name != t.Port
	})
	if len(secure) != 1 {
		l.add(diag.New(diag.CodeOneOf, sni.Pos(), "test %q names a server (sni), which only a port of HTTPS looks at, and says no one port of those", t.Name).
			WithFix(`name one: request: port: "…", or leave sni out`).WithRelated(l.lineOf(model.GatewayPath(t.To)), "the gateway"))
		return false
	}
	t.Port = secure[0].Name
	return true
}

// bytesAt reports whether a gateway's port of that name, or its only one, passes bytes on.
func bytesAt(g *model.Gateway, port string) bool {
	p, ok := g.Port(port)
	if port == "" {
		p, ok = model.Unnamed(g.Ports)
	}
	return ok && !p.Protocol.IsHTTP()
}

// gatewayPort reports whether a gateway has the port that n names.
func (l *linker) gatewayPort(id string, n intent.Node) bool {
	g := l.mesh.Gateway(id)
	if g == nil {
		return true // told already
	}
	if _, ok := g.Port(n.Str()); !ok {
		l.add(l.unknown(n.Pos(), "port", n.Str(), portNames(g.Ports)).WithRelated(l.lineOf(model.GatewayPath(id)), "the gateway"))
		return false
	}
	return true
}

func (l *linker) expect(p *pkg, n intent.Node, t *Test) bool {
	if a := n.Field("allowed"); a.Exists() {
		v := a.Bool()
		t.Expect.Allowed = &v
	}
	if c := n.Field("closed"); c.Exists() {
		v := c.Bool()
		t.Expect.Closed = &v
	}
	t.Expect.Status = int(n.Field("status").Int())
	dest := t.To
	if to := n.Field("to"); to.Exists() {
		id, _, ok := l.destination(p, to.Str(), to.Pos())
		if !ok {
			return false
		}
		t.Expect.To, dest = id, id
	}
	if port := n.Field("port"); port.Exists() {
		if _, isService := l.versions[dest]; isService {
			if _, ok := l.port(dest, port, n, "port"); !ok {
				return false
			}
		}
		t.Expect.Port = port.Str()
	}
	if v := n.Field("version"); v.Exists() {
		t.Expect.Version = v.Str()
		if _, isService := l.versions[dest]; isService && !l.version(dest, v) {
			return false
		}
	}
	t.Expect.Path, t.Expect.Host = n.Field("path").Str(), n.Field("host").Str()
	t.Expect.By = n.Field("by").Str()
	if !l.expectSeen(p, n, t) {
		return false
	}
	if t.Expect.nothing() {
		l.add(diag.New(diag.CodeOneOf, n.Pos(), "test %q expects nothing", t.Name).
			WithFix("add: expect: allowed: true, or a status, closed, `to`, port, version, path, host, by, requestHeaders, responseHeaders or mirror"))
		return false
	}
	return true
}

// expectSeen reads what others must see of a request, and what they must not: its destination, its caller, and who gets
// copies.
func (l *linker) expectSeen(p *pkg, n intent.Node, t *Test) bool {
	problems := len(l.diags)
	for _, not := range []bool{false, true} {
		from := n
		if not {
			from = n.Field("not")
		}
		for _, w := range []struct {
			field string
			to    *[]space.Test
		}{{"requestHeaders", &t.Expect.RequestHeaders}, {"responseHeaders", &t.Expect.ResponseHeaders}} {
			headers := from.Field(w.field)
			l.seenOfBytes(headers, t)
			*w.to = append(*w.to, l.headerTests(p, headers, not)...)
		}
		copies := &t.Expect.Copies
		if not {
			copies = &t.Expect.NoCopies
		}
		l.seenOfBytes(from.Field("mirror"), t)
		for _, e := range from.Field("mirror").Fields() {
			if c, ok := l.copied(p, e); ok {
				*copies = append(*copies, c)
			}
		}
	}
	return len(l.diags) == problems
}

// seenOfBytes refuses an expectation about requests of a connection that has none, and one that names nothing.
func (l *linker) seenOfBytes(n intent.Node, t *Test) {
	if !n.Exists() {
		return
	}
	ports := l.ports[t.To]
	if g := l.mesh.Gateway(t.To); t.Gateway && g != nil {
		ports = g.Ports
	}
	at := slices.IndexFunc(ports, func(p model.Port) bool { return p.Name == t.Port })
	switch {
	case at >= 0 && !ports[at].Protocol.IsHTTP():
		l.add(diag.New(diag.CodeProtocol, n.Pos(), "%s is about requests, but port %q of %q takes bytes only", n.Path(), t.Port, t.To).
			WithFix("leave it out, or name a port whose protocol is http, http2 or grpc"))
	case len(n.Fields()) == 0:
		l.add(diag.New(diag.CodeNever, n.Pos(), "%s names nothing", n.Path()).WithFix("delete it, or write what is expected"))
	}
}

// headerTests reads conditions on headers as routes have them.
func (l *linker) headerTests(p *pkg, n intent.Node, not bool) []space.Test {
	i := slices.IndexFunc(l.words, func(w Word) bool { return w.Field == "headers" })
	if !n.Exists() || i < 0 {
		return nil
	}
	read := l.words[i].Read(n, &Place{l: l, pkg: p})
	if not {
		read = read.Opposites()
	}
	return read.Tests()
}

// copied reads where copies arrive.
func (l *linker) copied(p *pkg, e intent.Entry) (Copied, bool) {
	service, port, version := e.Node.Field("service"), e.Node.Field("port"), e.Node.Field("version")
	c := Copied{Port: port.Str(), Version: version.Str()}
	ok := false
	if service.Exists() {
		c.To, ok = l.service(p, service)
	} else {
		c.To, ok = l.serviceNamed(p, e.Name, e.Node.Pos())
	}
	if ok && port.Exists() {
		_, ok = l.httpPort(c.To, port, e.Node, "port")
	}
	if ok && version.Exists() {
		ok = l.version(c.To, version)
	}
	return c, ok
}
