package resolve

import (
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// checkExternalHosts: a sidecar tells the destinations of one port number by host,
// so a host stands for one of them (Envoy refuses a route configuration with a
// domain twice).
func (l *linker) checkExternalHosts() {
	if !slices.ContainsFunc(l.mesh.Externals, func(x *model.External) bool { return len(x.Hosts) > 0 }) {
		return
	}
	l.checkExternalCallers()
	taken := map[string]string{} // "host:number" → mesh path
	named := func(name, namespace, path string, ports []model.Port) {
		for _, p := range ports {
			for _, suffix := range []string{"", ".svc", ".svc.cluster.local"} {
				taken[fmt.Sprintf("%s.%s%s:%d", name, namespace, suffix, p.Number)] = path
			}
		}
	}
	for _, s := range l.mesh.Services {
		named(s.Name, s.Namespace, model.ServicePath(s.ID), s.Ports)
	}
	for _, x := range l.mesh.Externals {
		if len(x.Hosts) == 0 { // it is called like a service
			named(x.Name, x.Namespace, model.ExternalPath(x.ID), x.Ports)
		}
	}
	for _, x := range l.mesh.Externals {
		path := model.ExternalPath(x.ID)
		for i, h := range x.Hosts {
			if i > 0 && x.Hosts[i-1] == h { // they are sorted
				l.add(diag.New(diag.CodeDuplicate, l.lineOf(path), "host %q of external service %q is written twice", h, x.ID).WithFix("delete one of them"))
				continue
			}
			for _, p := range x.Ports {
				key := fmt.Sprintf("%s:%d", h, p.Number)
				if other, ok := taken[key]; ok {
					l.add(diag.New(diag.CodeDuplicate, l.lineOf(path), "host %q on port %d belongs to two destinations%s, and a proxy cannot tell which is meant", h, p.Number, l.ofTwo(other, path)).
						WithRelated(l.lineOf(other), "the other destination").WithFix("join them in one external service, or choose another host or port for one of them"))
					continue
				}
				taken[key] = path
			}
		}
	}
}

// ofTwo names two destinations if they are two packages'.
func (l *linker) ofTwo(one, other string) string {
	_, a, _ := strings.Cut(one, "/")
	_, b, _ := strings.Cut(other, "/")
	if l.home[a] == l.home[b] {
		return ""
	}
	return ", " + l.destinationOf(one) + " and " + l.destinationOf(other)
}

// destinationOf names what has a mesh path, and whose it is.
func (l *linker) destinationOf(path string) string {
	_, id, _ := strings.Cut(path, "/")
	return fmt.Sprintf("%q of %s", id, l.home[id])
}

// checkExternalCallers: at the proxy of an account that calls two externals, the one
// with the narrower host takes requests away from the other. Of one package that is a
// choice; between two, a later change of one would redirect what is sent to the other.
// A proxy also knows the services of its own namespace by their short names.
func (l *linker) checkExternalCallers() {
	callers, told := map[string][]*model.Service{}, map[string]bool{}
	for _, s := range l.mesh.Services {
		for _, account := range l.accounts[s.ID] {
			callers[account] = append(callers[account], s)
		}
	}
	for _, account := range sortedKeys(callers) {
		called := l.calledBy(callers[account])
		namespace, _, _ := strings.Cut(account, "/")
		for i, x := range called {
			for j, y := range called {
				if key := x.at.String() + " " + y.id(); i != j && x.external != nil && !told[key] {
					told[key] = l.collide(account, namespace, x, y)
				}
			}
		}
	}
}

// callee is what an account calls, and where that is written.
type callee struct {
	service  *model.Service
	external *model.External
	at       diag.Pos
}

func (c callee) id() string {
	if c.external != nil {
		return c.external.ID
	}
	return c.service.ID
}

// calledBy are the destinations that the proxies of services with one account know,
// each once.
func (l *linker) calledBy(services []*model.Service) []callee {
	var out []callee
	for _, s := range services {
		for _, c := range s.Calls {
			x := callee{l.mesh.Service(c.To), l.mesh.External(c.To), l.lineOf(model.ServicePath(s.ID) + "/calls/" + c.To)}
			if (x.service != nil || x.external != nil) && !slices.ContainsFunc(out, func(o callee) bool { return o.id() == c.To }) {
				out = append(out, x)
			}
		}
	}
	return out
}

// collide reports that external x takes requests that are meant for y.
func (l *linker) collide(account, namespace string, x, y callee) bool {
	if y.service != nil {
		s := y.service
		if s.Namespace != namespace || !samePort(x.external.Ports, s.Ports) || !slices.Contains(x.external.Hosts, s.Name) {
			return false
		}
		l.add(diag.New(diag.CodeDuplicate, x.at, "account %q calls service %q by the name %q, which is a host of external %s", account, s.ID, s.Name, l.destinationOf(model.ExternalPath(x.id()))).
			WithRelated(y.at, "the call of the service").WithFix("choose another host or port for the external"))
		return true
	}
	if l.home[x.id()] == l.home[y.id()] || !samePort(x.external.Ports, y.external.Ports) {
		return false
	}
	host, over, ok := takes(x.external, y.external)
	if ok {
		l.add(diag.New(diag.CodeExternalOwner, x.at, "for account %q, host %q of %s takes requests from %q of %s", account, host, l.destinationOf(model.ExternalPath(x.id())), over, l.destinationOf(model.ExternalPath(y.id()))).
			WithRelated(l.lineOf(model.ExternalPath(x.id())), "the narrower").WithRelated(l.lineOf(model.ExternalPath(y.id())), "the wider").
			WithFix("call one of the two, or let one package declare both"))
	}
	return ok
}

func samePort(a, b []model.Port) bool {
	return slices.ContainsFunc(a, func(p model.Port) bool {
		return slices.ContainsFunc(b, func(q model.Port) bool { return p.Number == q.Number })
	})
}

// takes finds a host of narrow below one of wide.
func takes(narrow, wide *model.External) (host, over string, ok bool) {
	for _, h := range narrow.Hosts {
		for _, w := range append(wildcardsOver(h), "*") {
			if h != w && slices.Contains(wide.Hosts, w) {
				return h, w, true
			}
		}
	}
	return "", "", false
}
