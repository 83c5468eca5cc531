package resolve

import (
	"maps"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// gatewayPrefix marks a gateway in a place where callers are named.
const gatewayPrefix = "gateway/"

// service resolves a reference to a service inside the mesh.
func (l *linker) service(p *pkg, n intent.Node) (string, bool) {
	return l.serviceNamed(p, n.Str(), n.Pos())
}

func (l *linker) serviceNamed(p *pkg, name string, at diag.Pos) (string, bool) {
	id, kind, ok := l.destination(p, name, at)
	if ok && kind != "service" {
		l.add(diag.New(diag.CodeUnknown, at, "%q is an external service; a service of the mesh is needed here", id).
			WithFix("name a service of the mesh"))
		return "", false
	}
	return id, ok
}

// destination resolves a reference to a service or an external.
func (l *linker) destination(p *pkg, ref string, at diag.Pos) (id, kind string, ok bool) {
	id = p.qualify(ref)
	kind, ok = l.kinds[id]
	if !ok {
		l.add(l.unknown(at, "service", ref, l.known(p)))
	}
	return id, kind, ok
}

// known lists what may be referred to, as a package would write it.
func (l *linker) known(p *pkg) []string {
	var out []string
	for id := range maps.Keys(l.kinds) {
		out = append(out, strings.TrimPrefix(id, p.namespace+"/"))
	}
	slices.Sort(out)
	return out
}

// port resolves the port of a service or an external that named says, or the one that is
// meant if it says none; at is what needs one, field where it can be written.
func (l *linker) port(id string, named, at intent.Node, field string) (model.Port, bool) {
	ports := l.ports[id]
	if len(ports) == 0 && l.kinds[id] == "service" {
		l.add(diag.New(diag.CodeOnlyCalls, at.Pos(), "%s leads to service %q, which has no port: it only calls", at.Path(), id).
			WithRelated(l.declaredAt(id), "declared here").WithFix("name another service, or give it a port"))
		return model.Port{}, false
	}
	if !named.Exists() {
		p, ok := model.Unnamed(ports)
		if !ok && len(ports) > 0 {
			l.add(diag.New(diag.CodePort, at.Pos(), "%s has to name a port: %q has several and none is the main one", at.Path(), id).
				WithRelated(l.declaredAt(id), "declared here").
				WithFix("name one of %s in `%s`, or let one of them say `main: true`", strings.Join(portNames(ports), ", "), field))
		}
		return p, ok
	}
	return l.portNamed(id, named.Str(), named)
}

// portNamed resolves the port of that name of a service or an external.
func (l *linker) portNamed(id, name string, at intent.Node) (model.Port, bool) {
	ports := l.ports[id]
	if i := slices.IndexFunc(ports, func(p model.Port) bool { return p.Name == name }); i >= 0 {
		return ports[i], true
	}
	l.add(l.unknown(at.Pos(), "port", name, portNames(ports)).WithRelated(l.declaredAt(id), "%q is declared here", id))
	return model.Port{}, false
}

// httpPort resolves a port to which requests are sent: one that takes bytes only cannot
// carry what is said of requests.
func (l *linker) httpPort(id string, named, at intent.Node, field string) (string, bool) {
	p, ok := l.port(id, named, at, field)
	if ok && !p.Protocol.IsHTTP() {
		l.add(diag.New(diag.CodeProtocol, at.Pos(), "%s sends requests to port %q of %q, which takes bytes only", at.Path(), p.Name, id).
			WithRelated(l.declaredAt(id), "declared here").WithFix("name a port whose protocol is http, http2 or grpc"))
		ok = false
	}
	return p.Name, ok
}

func portNames(ps []model.Port) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.Name
	}
	return out
}

func (l *linker) version(id string, n intent.Node) bool {
	if slices.Contains(l.versions[id], n.Str()) {
		return true
	}
	l.add(l.unknown(n.Pos(), "version", n.Str(), l.versions[id]).WithRelated(l.lineOf("service/"+id), "service %q", id))
	return false
}

// unknown words a name that refers to nothing, with the nearest known one.
func (l *linker) unknown(at diag.Pos, what, name string, known []string) diag.Diagnostic {
	d := diag.New(diag.CodeUnknown, at, "unknown %s %q", what, name)
	if near, ok := diag.Nearest(name, known); ok {
		return d.WithFix("did you mean %q?", near)
	}
	if len(known) == 0 {
		return d.WithFix("declare it; there is no %s yet", what)
	}
	const shown = 8
	list := strings.Join(known[:min(shown, len(known))], ", ")
	if len(known) > shown {
		list += ", …"
	}
	return d.WithFix("declare it, or use one of: %s", list)
}

// caller resolves who a grant or a test names: the accounts of a service or a gateway.
func (l *linker) caller(p *pkg, n intent.Node) []string {
	ref := n.Str()
	if ref == allGateways {
		return l.gatewayAccounts()
	}
	if name, ok := strings.CutPrefix(ref, gatewayPrefix); ok {
		if id := l.gatewayID(p, name, n.Pos()); id != "" {
			return l.accountsOf(gatewayPrefix + id)
		}
		return nil
	}
	id, ok := l.service(p, n)
	if !ok {
		return nil
	}
	return l.accountsOf(id)
}

// gatewayAccounts are those of all gateways.
func (l *linker) gatewayAccounts() []string {
	var out []string
	for _, key := range sortedKeys(l.accounts) {
		if strings.HasPrefix(key, gatewayPrefix) {
			out = append(out, l.accountsOf(key)...)
		}
	}
	return out
}

// gatewayID resolves a gateway's name: the package's own first, then the only one of that name.
func (l *linker) gatewayID(p *pkg, name string, at diag.Pos) string {
	if id, ok := l.gateways[p.qualify(name)]; ok {
		return id
	}
	id, ok := l.gateways[name]
	if !ok {
		var known []string
		for k := range l.gateways {
			known = append(known, k)
		}
		slices.Sort(known)
		l.add(l.unknown(at, "gateway", name, known))
		return ""
	}
	if id == "" {
		l.add(diag.New(diag.CodeUnknown, at, "several gateways are called %q", name).WithFix("write gateway/namespace/name"))
	}
	return id
}
