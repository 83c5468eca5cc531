package stream

import (
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/endpoints"
	"meshc.dev/meshc/xds-server/internal/view"
)

// near is what proxies of a class are given by where they are. Those of one place share it.
type near struct {
	// clusters are those whose addresses are known and have an order by places.
	clusters []orderedCluster
	// zones and regions are those of which such an order may have something to say.
	zones, regions map[string]bool

	mu sync.Mutex
	// from are the endpoints of the class as a proxy of a place is to have them.
	from map[release.Place]*view.List
}

type orderedCluster struct {
	name  string
	rule  *release.Locality
	addrs endpoints.Addresses
}

// placeOf is where a client says that it is.
func placeOf(l *corev3.Locality) release.Place {
	return release.Place{Region: l.GetRegion(), Zone: l.GetZone()}
}

// serving is what a version is with these lists. The caller holds mu.
func (c *class) serving(v *version, lists view.Lists) *serving {
	return &serving{v: v, lists: lists, near: c.near(v), wake: make(chan struct{})}
}

// near has the present addresses of a version's ordered clusters; nil if it has none.
func (c *class) near(v *version) *near {
	if len(v.ordered) == 0 {
		return nil
	}
	table := *c.hub.table.Load()
	n := &near{zones: map[string]bool{}, regions: map[string]bool{}, from: map[release.Place]*view.List{}}
	for _, e := range v.ordered {
		addrs, known := table.Find(endpoints.KeyOf(e))
		if len(e.Workloads) > 0 {
			own, err := endpoints.Of(e.Workloads) // join has taken them
			addrs, known = own, err == nil
		}
		if !known {
			continue // nothing to put in order, and nothing that may be taken away
		}
		n.clusters = append(n.clusters, orderedCluster{e.Cluster, e.Locality, addrs})
		for a := range addrs.All() {
			n.zones[a.Zone], n.regions[a.Region] = true, true
		}
		for zone := range e.Locality.Failover {
			n.zones[zone] = true
		}
	}
	return n
}

// known is the place as far as it matters. Whatever clients say, there are no more of them than
// there are places of workloads.
func (n *near) known(p release.Place) release.Place {
	if !n.zones[p.Zone] {
		p.Zone = ""
	}
	if !n.regions[p.Region] {
		p.Region = ""
	}
	return p
}

// from is what is served to a client there.
func (h *Hub) from(here release.Place, cur *serving) (*serving, error) {
	if cur.near == nil {
		return cur, nil
	}
	n := cur.near
	here = n.known(here)
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.from[here]
	if list == nil {
		items := make([]*view.Item, len(n.clusters))
		for i, c := range n.clusters {
			it, err := h.store.Assignment(c.name, c.addrs.From(here, c.rule), true)
			if err != nil {
				return nil, err
			}
			items[i] = it
		}
		list = cur.lists[view.Endpoints].With(items...)
		n.from[here] = list
	}
	out := *cur
	out.lists[view.Endpoints] = list
	return &out, nil
}
