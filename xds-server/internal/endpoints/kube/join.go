package kube

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/endpoints"
)

// name is a namespaced name.
type name struct{ namespace, name string }

func (n name) String() string { return n.namespace + "/" + n.name }

// slice is what is used of an EndpointSlice.
type slice struct {
	name    name
	service name
	family  discoveryv1.AddressType
	// byHand says that no controller of Kubernetes wrote it.
	byHand    bool
	ports     []port
	endpoints []endpoint
}

// port is a TCP port of a slice: what the pods listen on, under the Service's name for it.
type port struct {
	name   string
	number uint16
}

// endpoint is an address of a slice.
type endpoint struct {
	// addr is not valid for an address that is a name.
	addr netip.Addr
	// pod is the uid of its pod in the slice's namespace, "" if it has none.
	pod   string
	node  string
	zone  string
	state state
}

// state is how an endpoint may be used; a smaller one is the better.
type state int

const (
	ready state = iota
	// leaving means that its pod ends and still serves.
	leaving
	notReady
)

// pod is what is used of a pod.
type pod struct {
	name   name
	labels map[string]string
}

// place is where a node is; "" is unknown.
type place struct{ region, zone string }

// Fate is what became of an endpoint.
type Fate string

// The fates of endpoints.
const (
	// Served means that it is offered to proxies.
	Served Fate = "served"
	// Draining means that its pod ends: it is not offered while others are there.
	Draining Fate = "draining"
	// NotReady means that its pod is not ready.
	NotReady Fate = "not_ready"
	// NoPod means that it has no pod, or that the pod is not known (yet).
	NoPod Fate = "no_pod"
	// NoVersion and SeveralVersions are pods whose labels are not those of exactly one version.
	NoVersion       Fate = "no_version"
	SeveralVersions Fate = "several_versions"
	// NoPort means that the Service has none of the release's ports by name.
	NoPort Fate = "no_port"
	// ByName means that its address is a DNS name.
	ByName Fate = "by_name"
	// Unknown means that the release does not have its service.
	Unknown Fate = "unknown_service"
)

// fates are all, in the order in which they are told.
func fates() []Fate {
	return []Fate{Served, Draining, NotReady, NoPod, NoVersion, SeveralVersions, NoPort, ByName, Unknown}
}

// found is what the join of a service gives.
type found struct {
	// addresses of each cluster of the service by its name, also of those with none.
	addresses map[string][]endpoints.Address
	// fates are how many endpoints met which, and example one of those that met it: a
	// pod's name, or an address.
	fates    map[Fate]int
	examples map[Fate]string
	// byHand are slices that no controller of Kubernetes wrote.
	byHand []name
}

func (f *found) count(fate Fate, n int, example string) {
	f.fates[fate] += n
	if old, ok := f.examples[fate]; example != "" && (!ok || example < old) {
		f.examples[fate] = example
	}
}

// offer is one way to reach a pod's port.
type offer struct {
	at   netip.AddrPort
	from endpoint
}

// better orders offers of one pod's port: ready ones first, then IPv4, so that a pod
// with both families is there once.
func better(a, b offer) int {
	return cmp.Or(cmp.Compare(a.from.state, b.from.state), a.at.Compare(b.at))
}

// join finds the addresses of a service. Slices may come in any order and say the same
// endpoint several times.
func join(s release.Discovered, all []*slice, pods map[string]*pod, nodes map[string]place) found {
	out := found{addresses: map[string][]endpoints.Address{}, fates: map[Fate]int{}, examples: map[Fate]string{}}
	byPod := map[string]map[int]offer{} // pod, index of the port
	for _, sl := range all {
		if sl.byHand {
			out.byHand = append(out.byHand, sl.name)
		}
		if sl.family == discoveryv1.AddressTypeFQDN {
			out.count(ByName, len(sl.endpoints), sl.name.String())
			continue
		}
		numbers := portsOf(s, sl)
		for _, e := range sl.endpoints {
			if p, ok := pods[e.pod]; !ok || p.name.namespace != sl.service.namespace {
				out.count(NoPod, 1, e.addr.String())
				continue
			}
			if byPod[e.pod] == nil {
				byPod[e.pod] = map[int]offer{}
			}
			for i, number := range numbers {
				o := offer{at: netip.AddrPortFrom(e.addr, number), from: e}
				if old, ok := byPod[e.pod][i]; !ok || better(o, old) < 0 {
					byPod[e.pod][i] = o
				}
			}
		}
	}
	slices.SortFunc(out.byHand, func(a, b name) int { return cmp.Compare(a.String(), b.String()) })
	out.divide(s, byPod, pods, nodes)
	return out
}

// portsOf gives the number of each of the service's ports that the slice has, by the
// port's index. A Service with one port need not name it.
func portsOf(s release.Discovered, sl *slice) map[int]uint16 {
	out := map[int]uint16{}
	for i, want := range s.Ports {
		for _, p := range sl.ports {
			if p.name == want || p.name == "" && len(sl.ports) == 1 && len(s.Ports) == 1 {
				out[i] = p.number
			}
		}
	}
	return out
}

// divide puts the pods into the service's versions.
func (f *found) divide(s release.Discovered, byPod map[string]map[int]offer, pods map[string]*pod, nodes map[string]place) {
	type key struct{ version, port int }
	offers := map[key][]offer{}
	for _, uid := range slices.Sorted(maps.Keys(byPod)) {
		ways, p := byPod[uid], pods[uid]
		version, n := fit(s, p.labels)
		switch {
		case n == 0:
			f.count(NoVersion, 1, p.name.name)
			continue
		case n > 1:
			f.count(SeveralVersions, 1, p.name.name)
			continue
		case len(ways) == 0:
			f.count(NoPort, 1, p.name.name)
			continue
		}
		for i, o := range ways {
			offers[key{version, i}] = append(offers[key{version, i}], o)
		}
	}
	told := map[string]Fate{}
	for v, version := range s.Versions {
		for i, port := range s.Ports {
			for _, cluster := range version.Clusters[port] {
				f.addresses[cluster] = offered(offers[key{v, i}], nodes, told)
			}
		}
	}
	for uid, fate := range told {
		f.count(fate, 1, pods[uid].name.name)
	}
}

// fit is the version whose labels the pod has, and how many there are.
func fit(s release.Discovered, labels map[string]string) (version, n int) {
	for i, v := range s.Versions {
		if has(labels, v.Labels) {
			version = i
			n++
		}
	}
	return version, n
}

func has(labels, want map[string]string) bool {
	for k, v := range want {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// offered are the addresses that a cluster gets: those that are ready; if there is none,
// those that end and still serve. An endpoint that ends is left out rather than marked as
// draining: Envoy gives it nothing new and lets the requests that it has there end either
// way (1.40), and a list without it is the shorter one.
func offered(all []offer, nodes map[string]place, told map[string]Fate) []endpoints.Address {
	best := notReady
	for _, o := range all {
		best = min(best, o.from.state)
	}
	out := make([]endpoints.Address, 0, len(all))
	seen := map[netip.AddrPort]bool{}
	slices.SortFunc(all, better)
	for _, o := range all {
		fate := NotReady
		switch {
		case o.from.state == best && best != notReady:
			fate = Served
		case o.from.state == leaving:
			fate = Draining
		}
		if old, ok := told[o.from.pod]; !ok || fate == Served || old != Served && fate == Draining {
			told[o.from.pod] = fate
		}
		if fate != Served || seen[o.at] { // two pods of one address: one of them is gone
			continue
		}
		seen[o.at] = true
		at := nodes[o.from.node]
		out = append(out, endpoints.Address{Addr: o.at, Health: endpoints.Healthy, Region: at.region, Zone: cmp.Or(o.from.zone, at.zone)})
	}
	return out
}
