package stream

import (
	"cmp"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"meshc.dev/meshc/xds-server/internal/endpoints"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/view"
)

// Lacking returns the parts of splits that lead to a cluster without endpoints,
// sorted, each once however many classes have the route.
func (h *Hub) Lacking() []ledger.Lacking {
	st := h.state.Load()
	if st == nil {
		return nil
	}
	found := map[ledger.Lacking]bool{}
	for _, c := range st.byID {
		v := c.turn.Load().approved().version.Load()
		if empty := h.empty(v); len(empty) > 0 {
			for l := range v.set.Lists[view.Routes].All() {
				if slices.ContainsFunc(l.Needs[view.Clusters], func(n string) bool { return empty[n] != "" }) {
					splits(v, l, empty, found)
				}
			}
		}
	}
	var out []ledger.Lacking
	for l := range found {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b ledger.Lacking) int {
		return cmp.Or(cmp.Compare(a.Routes, b.Routes), cmp.Compare(a.Cluster, b.Cluster))
	})
	return out
}

// empty are the clusters without addresses, with the source that has none.
func (h *Hub) empty(v *version) map[string]string {
	table := *h.table.Load()
	out := map[string]string{}
	for _, e := range v.set.Live {
		k := endpoints.KeyOf(e)
		if addrs, known := table.Find(k); !known || addrs.Len() == 0 {
			out[e.Cluster] = k.String()
		}
	}
	return out
}

// splits adds the splits of a route table that have an empty part beside others.
func splits(v *version, it *view.Item, empty map[string]string, found map[ledger.Lacking]bool) {
	raw, err := v.release.Blob(it.Digest)
	if err != nil {
		return
	}
	var table routev3.RouteConfiguration
	if protojson.Unmarshal(raw, &table) != nil {
		return // it was decoded when it was prepared
	}
	for _, host := range table.GetVirtualHosts() {
		for _, r := range host.GetRoutes() {
			parts := slices.DeleteFunc(slices.Clone(r.GetRoute().GetWeightedClusters().GetClusters()), func(w *routev3.WeightedCluster_ClusterWeight) bool {
				return w.GetWeight().GetValue() == 0
			})
			var total uint32
			for _, w := range parts {
				total += w.GetWeight().GetValue()
			}
			for _, w := range parts {
				if source := empty[w.GetName()]; source != "" && len(parts) > 1 {
					found[ledger.Lacking{
						Routes: it.Name, Cluster: w.GetName(), Weight: w.GetWeight().GetValue(), Total: total,
						Source: source, Pos: position(v.release, it),
					}] = true
				}
			}
		}
	}
}
