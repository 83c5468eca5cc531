package resolve

import (
	"net/netip"
	"slices"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// declareWorkloads notes where versions of the package's services run, by the version's mesh path.
func (l *linker) declareWorkloads(p *pkg) {
	at := map[string]map[string]intent.Entry{} // service, address
	for _, e := range p.node.Field("workload").Fields() {
		id, ok := l.service(p, e.Node.Field("service"))
		if !ok {
			continue
		}
		if l.home[id] != p {
			l.add(diag.New(diag.CodeWorkload, e.Node.Field("service").Pos(), "workload %q is of service %q, which another package declares: who runs as it is for that one to say", e.Name, id).
				WithRelated(l.lineOf(model.ServicePath(id)), "the service").WithFix("declare the workload in the service's package"))
			continue
		}
		if len(l.ports[id]) == 0 {
			l.add(diag.New(diag.CodeOnlyCalls, e.Node.Pos(), "workload %q is where service %q takes requests, but that has no port: it only calls", e.Name, id).
				WithRelated(l.lineOf(model.ServicePath(id)), "the service").WithFix("delete the workload: who runs as the service says it by its certificate"))
			continue
		}
		version, ok := l.workloadVersion(id, e)
		w := model.Workload{Name: e.Name, Region: e.Node.Field("region").Str(), Zone: e.Node.Field("zone").Str(), Weight: uint32(e.Node.Field("weight").Int())}
		address, isIP := l.workloadAddress(e.Node.Field("address"))
		if !ok || !isIP {
			continue
		}
		w.Address = address
		if at[id] == nil {
			at[id] = map[string]intent.Entry{}
		}
		if other, twice := at[id][address]; twice {
			l.add(diag.New(diag.CodeDuplicate, e.Node.Field("address").Pos(), "workloads %q and %q of service %q are both at %s", other.Name, e.Name, id, address).
				WithRelated(other.Node.Field("address").Pos(), "the other one").WithFix("delete one of them, or correct its address"))
			continue
		}
		at[id][address] = e
		path := model.VersionPath(id, version)
		l.workloads[path] = append(l.workloads[path], w)
	}
}

// workloadVersion is the version of which a workload is one.
func (l *linker) workloadVersion(id string, e intent.Entry) (string, bool) {
	all, n := l.versions[id], e.Node.Field("version")
	switch version := n.Str(); {
	case version == "" && len(all) == 1:
		return all[0], true
	case version == "":
		l.add(diag.New(diag.CodeOneOf, e.Node.Pos(), "service %q has %d versions; workload %q needs to name one", id, len(all), e.Name).WithFix("add: version: %q", slices.Min(all)))
		return "", false
	case !slices.Contains(all, version):
		l.add(l.unknown(n.Pos(), "version", version, all).WithRelated(l.lineOf(model.ServicePath(id)), "service %q", id))
		return "", false
	default:
		return version, true
	}
}

// workloadAddress reads an IP address that connections can go to.
func (l *linker) workloadAddress(n intent.Node) (string, bool) {
	ip, err := netip.ParseAddr(n.Str())
	if ip = ip.Unmap(); err != nil || ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "" {
		l.add(diag.New(diag.CodeListen, n.Pos(), "%q is no IP address of a host", n.Str()).WithFix(`write the host's own address, "10.4.0.7", without a port: those are the service's`))
		return "", false
	}
	return ip.String(), true
}

// atWorkloads refuses a version of which two words say where it is.
func (l *linker) atWorkloads(id string, v *model.Version, endpoints intent.Node) {
	v.Endpoints.Workloads = l.workloads[model.VersionPath(id, v.Name)]
	if len(v.Endpoints.Workloads) > 0 && endpoints.Exists() {
		l.add(diag.New(diag.CodeWorkload, endpoints.Pos(), "`endpoints` and workload %q both say where version %q of service %q is", v.Endpoints.Workloads[0].Name, v.Name, id).
			WithFix("keep one of them; workloads and other places of one service are two versions of it, and its routes say what each gets"))
	}
}
