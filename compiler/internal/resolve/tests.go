package resolve

import (
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
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
	t := Test{Name: e.Name, Pos: e.Node.Pos(), Host: q.Field("host").Str(), Method: q.Field("method").Str(), Path: q.Field("path").Str()}
	if t.Method == "" {
		t.Method = "GET"
	}
	if t.Path == "" {
		t.Path = "/"
	}
	if from := q.Field("from"); from.Exists() {
		accounts := l.caller(p, from)
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
	if !l.testTarget(p, q, &t) {
		return t, false
	}
	return t, l.expect(p, e.Node.Field("expect"), &t)
}

func (l *linker) testTarget(p *pkg, q intent.Node, t *Test) bool {
	to := q.Field("to")
	if name, ok := strings.CutPrefix(to.Str(), gatewayPrefix); ok {
		t.Gateway, t.To = true, l.gatewayID(p, name, to.Pos())
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
	if t.Expect == (Expect{}) {
		l.add(diag.New(diag.CodeOneOf, n.Pos(), "test %q expects nothing", t.Name).WithFix("add: expect: allowed: true, or a status, `to`, port, version, path or host"))
		return false
	}
	return true
}
