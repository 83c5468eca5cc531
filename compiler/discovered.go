package compiler

import (
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
)

// Discovered returns the services of a release whose instances a cluster knows: those
// with versions for which intent says neither an address nor a source of them.
func Discovered(r release.Release) ([]release.Discovered, error) {
	p, err := Open(r)
	if err != nil {
		return nil, err
	}
	var out []release.Discovered
	for _, s := range p.mesh.Services {
		if d := discovered(s); len(d.Versions) > 0 {
			out = append(out, d)
		}
	}
	return out, nil
}

func discovered(s *model.Service) release.Discovered {
	d := release.Discovered{Namespace: s.Namespace, Name: s.Name}
	for _, p := range s.Ports {
		d.Ports = append(d.Ports, p.Name)
	}
	for _, v := range s.Versions {
		if v.Endpoints.Written() {
			continue
		}
		dv := release.DiscoveredVersion{Name: v.Name, Labels: v.Labels, Clusters: map[string]string{}}
		for _, p := range s.Ports {
			if v.Host(p) == "" {
				dv.Clusters[p.Name] = model.ClusterName(s.ID, p.Name, v.Name)
			}
		}
		if len(dv.Clusters) > 0 {
			d.Versions = append(d.Versions, dv)
		}
	}
	return d
}
