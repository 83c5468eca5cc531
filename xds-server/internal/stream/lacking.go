package stream

import (
	"cmp"
	"slices"
	"sync"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"meshc.dev/meshc/compiler/release"
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
	found := map[ledger.Lacking]endpoints.Key{}
	for _, c := range st.byID {
		v := c.turn.Load().approved().version.Load()
		if empty := h.empty(v); len(empty) > 0 {
			for l := range v.set.Lists[view.Routes].All() {
				if slices.ContainsFunc(l.Needs[view.Clusters], func(n string) bool { return empty[n] != endpoints.Key{} }) {
					splits(v, l, empty, found)
				}
			}
		}
	}
	var out []ledger.Lacking
	for l, source := range found {
		l.Since = h.silent.of(source)
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b ledger.Lacking) int {
		return cmp.Or(cmp.Compare(a.Routes, b.Routes), cmp.Compare(a.Cluster, b.Cluster))
	})
	return out
}

// empty are the clusters without addresses, with the source that has none.
func (h *Hub) empty(v *version) map[string]endpoints.Key {
	table := *h.table.Load()
	out := map[string]endpoints.Key{}
	for _, e := range v.set.Live {
		k := endpoints.KeyOf(e)
		if len(e.Workloads) == 0 && isSilent(table, k) {
			out[e.Cluster] = k
		}
	}
	return out
}

// isSilent reports whether a source has no address, or has said nothing.
func isSilent(t endpoints.Table, k endpoints.Key) bool {
	addrs, known := t.Find(k)
	return !known || addrs.Len() == 0
}

// silence is since when which sources have had no address: since they lost the last one, or
// since a release first named them. The zero value is ready.
type silence struct {
	mu    sync.Mutex
	since map[endpoints.Key]time.Time
}

// heard notes what has become of sources.
func (s *silence) heard(t endpoints.Table, keys []endpoints.Key, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since == nil {
		return // no release has asked yet
	}
	for _, k := range keys {
		_, was := s.since[k]
		switch silent := isSilent(t, k); {
		case !silent:
			delete(s.since, k)
		case !was:
			s.since[k] = now
		}
	}
}

// want notes which sources a release names, and forgets all others.
func (s *silence) want(st *state, t endpoints.Table, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[endpoints.Key]time.Time{}
	for k := range st.byKey {
		if since, was := s.since[k]; was {
			next[k] = since
		} else if isSilent(t, k) {
			next[k] = now
		}
	}
	s.since = next
}

// of is since when a source has had no address.
func (s *silence) of(k endpoints.Key) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since[k]
}

// splits adds the splits of a route table that have an empty part beside others.
func splits(v *version, it *view.Item, empty map[string]endpoints.Key, found map[ledger.Lacking]endpoints.Key) {
	raw, err := v.release.Blob(it.Digest)
	if err != nil {
		return
	}
	var table routev3.RouteConfiguration
	if protojson.Unmarshal(raw, &table) != nil {
		return // it was decoded when it was prepared
	}
	for _, host := range table.GetVirtualHosts() {
		for _, r := range routesOf(host) {
			parts := slices.DeleteFunc(slices.Clone(r.GetRoute().GetWeightedClusters().GetClusters()), func(w *routev3.WeightedCluster_ClusterWeight) bool {
				return w.GetWeight().GetValue() == 0
			})
			var total uint32
			for _, w := range parts {
				total += w.GetWeight().GetValue()
			}
			for _, w := range parts {
				if source, silent := empty[w.GetName()]; silent && len(parts) > 1 {
					l := ledger.Lacking{Routes: it.Name, Cluster: w.GetName(), Weight: w.GetWeight().GetValue(), Total: total, Source: source.String(), Pos: position(v.release, it)}
					if u, ok := release.ParseUpstream(l.Cluster); ok {
						l.Service, l.Version = u.Service, u.Version
					}
					found[l] = source
				}
			}
		}
	}
}

// routesOf are the routes of a host, which is a list, or a tree whose leaves are lists.
func routesOf(h *routev3.VirtualHost) []*routev3.Route {
	out := slices.Clone(h.GetRoutes())
	for _, leaf := range h.GetMatcher().GetMatcherTree().GetPrefixMatchMap().GetMap() {
		var list routev3.RouteList
		if leaf.GetAction().GetTypedConfig().UnmarshalTo(&list) == nil {
			out = append(out, list.GetRoutes()...)
		}
	}
	return out
}
