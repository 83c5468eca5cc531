package resolve

import (
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// allGateways stands for every gateway where a never names callers.
const allGateways = gatewayPrefix + "*"

// readNevers links what a package says must never be allowed. Whether it is, is asked when the mesh
// is whole.
func (l *linker) readNevers(p *pkg) {
	for _, e := range p.node.Field("never").Fields() {
		l.mesh.Nevers = append(l.mesh.Nevers, l.never(p, e))
	}
}

func (l *linker) never(p *pkg, e intent.Entry) model.Never {
	n, not := e.Node, e.Node.Field("not")
	out := model.Never{Package: p.dir, Deny: model.Deny{Name: e.Name, Owner: p.owner, Terms: l.termsOf(p, n), Not: l.exceptOf(p, not)}}
	l.place(model.NeverPath(out), n.Pos())
	l.saysWho("never "+strconv.Quote(e.Name), out.Terms, n, orAnyone)
	about, ok := l.neverTo(p, n.Field("to"), &out)
	for _, w := range []struct {
		n  intent.Node
		to *[]string
	}{{n, &out.Ports}, {not, &out.Not.Ports}} {
		ports, known := l.neverPorts(about, w.n.Field("ports"))
		*w.to, ok = ports, ok && known
	}
	if l.onlyCallers(e, about) {
		ok = false
	}
	if ok && len(about) > 0 {
		l.saysSomething(e, out, about)
	}
	return out
}

// onlyCallers refuses a never of services that take nothing.
func (l *linker) onlyCallers(e intent.Entry, about []string) bool {
	if len(about) == 0 || slices.ContainsFunc(about, func(id string) bool { return len(l.ports[id]) > 0 || l.kinds[id] != "service" }) {
		return false
	}
	l.add(diag.New(diag.CodeOnlyCalls, e.Node.Field("to").Pos(), "never %q is about requests to service %q, which has no port: it only calls", e.Name, about[0]).
		WithRelated(l.declaredAt(about[0]), "declared here").WithFix("say in `from` that it must never call, or name another service in `to`"))
	return true
}

// neverTo reads whom a never speaks of. about are their IDs, sorted; ok is false if some pattern has a problem.
func (l *linker) neverTo(p *pkg, n intent.Node, out *model.Never) (about []string, ok bool) {
	l.nonEmpty(n, "to")
	ok = true
	for _, r := range n.List() {
		pattern := p.qualify(r.Str())
		out.To = append(out.To, pattern)
		var fit, own []string
		for _, id := range sortedKeys(l.kinds) {
			if model.Fits(pattern, id) {
				if fit = append(fit, id); p.root || l.home[id] == p {
					own = append(own, id)
				}
			}
		}
		switch {
		case len(own) > 0:
			about = append(about, own...)
		case len(fit) == 0:
			ok = false
			l.add(l.unknown(r.Pos(), "service", r.Str(), l.patternsFor(p, r.Str())))
		default:
			ok = false
			l.add(diag.New(diag.CodeOwnersWord, r.Pos(), "never %q speaks of %q, which is not of %s: only the root package speaks of other packages' services", out.Name, fit[0], p).
				WithRelated(l.declaredAt(fit[0]), "declared here").WithFix("move it into the root package"))
		}
	}
	slices.Sort(out.To)
	out.To = slices.Compact(out.To)
	slices.Sort(about)
	return slices.Compact(about), ok
}

// patternsFor are the words that would name something where ref does not: of a pattern those with its stars.
func (l *linker) patternsFor(p *pkg, ref string) []string {
	known := l.known(p)
	if !strings.Contains(ref, "*") {
		return known
	}
	var out []string
	for _, id := range sortedKeys(l.kinds) {
		namespace, name, _ := strings.Cut(id, "/")
		switch first, last, both := strings.Cut(ref, "/"); {
		case !both: // "*", in a namespace that has nothing
			out = append(out, namespace+"/*")
		case last == "*" && first != "*":
			out = append(out, namespace+"/*")
		case first == "*" && last != "*":
			out = append(out, "*/"+name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// neverPorts are the names of ports in a never, nil if it names none; ok is false if nothing that it speaks of has one.
func (l *linker) neverPorts(about []string, n intent.Node) (ports []string, ok bool) {
	var known []string
	for _, id := range about {
		known = append(known, portNames(l.ports[id])...)
	}
	slices.Sort(known)
	known = slices.Compact(known)
	ok = true
	for _, port := range n.List() {
		if len(about) > 0 && !slices.Contains(known, port.Str()) {
			ok = false
			l.add(l.unknown(port.Pos(), "port", port.Str(), known))
		}
	}
	return l.nonEmpty(n, "ports"), ok
}

// saysSomething refuses a never that no request can break.
func (l *linker) saysSomething(e intent.Entry, n model.Never, about []string) {
	where, bytes := false, true
	for _, id := range about {
		for _, port := range l.ports[id] {
			if n.At(port.Name) {
				where, bytes = true, bytes && !port.Protocol.IsHTTP()
			}
		}
	}
	switch {
	case !l.leaves(n.Terms, n.Not) || !where:
		l.add(diag.New(diag.CodeNever, e.Node.Pos(), "never %q says nothing: its `not` takes back all that it says", e.Name).
			WithFix("delete it, or what excepts too much"))
	case bytes && n.AsksRequests():
		l.add(diag.New(diag.CodeProtocol, e.Node.Pos(), "never %q is about requests, but the ports that it speaks of take bytes only", e.Name).
			WithFix("leave out what is about requests, or name other services"))
	}
}
