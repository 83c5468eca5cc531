package resolve

import (
	"fmt"
	"slices"

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
					l.add(diag.New(diag.CodeDuplicate, l.pos[path], "host %q on port %d belongs to two destinations, and a proxy cannot tell which is meant", h, p.Number).
						WithRelated(l.pos[other], "the other destination").WithFix("join them in one external service, or choose another host or port for one of them"))
					continue
				}
				taken[key] = path
			}
		}
	}
}
