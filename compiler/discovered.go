package compiler

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
)

// Discovered returns the services of a release whose instances a cluster knows: those
// with versions for which intent says neither an address nor a source of them, and gateways
// through which externals are called.
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
	for _, g := range p.mesh.Gateways {
		if d := discoveredGateway(p.mesh, g); len(d.Ports) > 0 {
			out = append(out, d)
		}
	}
	return out, nil
}

// discoveredGateway has the ports of a gateway to which callers of externals send.
func discoveredGateway(m *model.Mesh, g *model.Gateway) release.Discovered {
	d, clusters := release.Discovered{Namespace: g.Namespace, Name: g.Name}, map[string][]string{}
	for _, exit := range g.Exits {
		x := m.External(exit.External)
		if x.Via.Host != "" {
			continue
		}
		if !slices.Contains(d.Ports, exit.Port) {
			d.Ports = append(d.Ports, exit.Port)
		}
		for _, p := range x.Ports {
			clusters[exit.Port] = append(clusters[exit.Port], x.ViaName(p.Name))
		}
	}
	slices.Sort(d.Ports)
	d.Versions = []release.DiscoveredVersion{{Name: "default", Clusters: clusters}}
	return d
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
		dv := release.DiscoveredVersion{Name: v.Name, Labels: v.Labels, Clusters: map[string][]string{}}
		for _, p := range s.Ports {
			if v.Host(p) == "" {
				dv.Clusters[p.Name] = []string{model.ClusterName(s.ID, p.Name, v.Name)}
			}
		}
		if len(dv.Clusters) > 0 {
			d.Versions = append(d.Versions, dv)
		}
	}
	return d
}
