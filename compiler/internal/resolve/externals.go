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
	for _, s := range l.mesh.Services {
		for _, p := range s.Ports {
			for _, suffix := range []string{"", ".svc", ".svc.cluster.local"} {
				taken[fmt.Sprintf("%s.%s%s:%d", s.Name, s.Namespace, suffix, p.Number)] = model.ServicePath(s.ID)
			}
		}
	}
	for _, x := range l.mesh.Externals {
		path := model.ExternalPath(x.ID)
		for i, h := range x.Hosts {
			if i > 0 && x.Hosts[i-1] == h { // they are sorted
				l.add(diag.New(diag.CodeDuplicate, l.pos[path], "host %q of external service %q is written twice", h, x.ID).WithFix("delete one of them"))
				continue
			}
			for _, p := range x.Ports {
				key := fmt.Sprintf("%s:%d", h, p.Number)
				if other, ok := taken[key]; ok {
					l.add(diag.New(diag.CodeDuplicate, l.pos[path], "host %q on port %d belongs to two destinations%s, and a proxy cannot tell which is meant", h, p.Number, l.ofTwo(other, path)).
						WithRelated(l.pos[other], "the other destination").WithFix("join them in one external service, or choose another host or port for one of them"))
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

// checkExternalCallers: at the proxy of a service that calls two externals, the one
// with the narrower host takes requests away from the other. Of one package that is a
// choice; between two, a later change of one would redirect what is sent to the other.
func (l *linker) checkExternalCallers() {
	for _, s := range l.mesh.Services {
		var called []*model.External
		for _, c := range s.Calls {
			if x := l.mesh.External(c.To); x != nil && len(x.Hosts) > 0 {
				called = append(called, x)
			}
		}
		for _, narrow := range called {
			for _, wide := range called {
				if l.home[narrow.ID] == l.home[wide.ID] {
					continue
				}
				if host, over, ok := takes(narrow, wide); ok {
					l.add(diag.New(diag.CodeExternalOwner, l.pos[model.ServicePath(s.ID)+"/calls/"+narrow.ID], "at %q, host %q of %s takes requests from %q of %s", s.ID, host, l.destinationOf(model.ExternalPath(narrow.ID)), over, l.destinationOf(model.ExternalPath(wide.ID))).
						WithRelated(l.pos[model.ExternalPath(narrow.ID)], "the narrower").WithRelated(l.pos[model.ExternalPath(wide.ID)], "the wider").
						WithFix("call one of the two, or let one package declare both"))
				}
			}
		}
	}
}

// takes finds a host of narrow below one of wide, on a port that both have.
func takes(narrow, wide *model.External) (host, over string, ok bool) {
	if !slices.ContainsFunc(narrow.Ports, func(p model.Port) bool {
		return slices.ContainsFunc(wide.Ports, func(q model.Port) bool { return p.Number == q.Number })
	}) {
		return "", "", false
	}
	for _, h := range narrow.Hosts {
		for _, w := range append(wildcardsOver(h), "*") {
			if h != w && slices.Contains(wide.Hosts, w) {
				return h, w, true
			}
		}
	}
	return "", "", false
}
