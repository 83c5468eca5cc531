package envoy

import (
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
)

const (
	aggregateCluster = "envoy.clusters.aggregate"
	// spreadName begins the names of clusters of which others stand behind the first.
	spreadName = "spread/"
	// mostWeight bounds the sum of a route's weights, which Envoy counts in 32 bits.
	mostWeight = 1 << 31
)

// OnAbsence lowers a version's trait, whatever its value, on the routes that send to it and to other versions: they get its
// share, by their weights, while it has no workloads.
func OnAbsence() Lowering { return Lowering{yields: true} }

// yields reports whether a destination's share goes to others while nothing is there.
func (e *emitter) yields(s share) bool {
	return slices.ContainsFunc(s.traits.Names(), func(name string) bool { return e.cells[name].Lowering.yields })
}

// spread parts the share of each version that yields it: one for each of the route's other versions, by their weights, to a
// cluster that is the version's own and behind it the other's. So as soon as the first is empty, Envoy gives
// each of the others its part, in whichever proportion they stand. Where several are empty, the part of one is taken by
// the next in the order of the route.
func (e *emitter) spread(all []share) []share {
	others := func(s share) []share {
		if !e.yields(s) {
			return nil
		}
		return slices.DeleteFunc(slices.Clone(all), func(o share) bool {
			return o.external || o.cluster == s.cluster || o.to.Service != s.to.Service || o.to.Port != s.to.Port
		})
	}
	if !slices.ContainsFunc(all, func(s share) bool { return len(others(s)) > 0 }) {
		return all
	}
	var sum, unit uint64 = 0, 1
	for _, s := range all {
		sum += uint64(s.weight)
		if whole := sumOf(others(s)); whole > 0 {
			unit *= whole / gcd(whole, unit*uint64(s.weight))
			unit = min(unit, mostWeight) // which no product of two of them exceeds
		}
	}
	unit = max(min(unit, mostWeight/sum), 1)
	var out []share
	for _, s := range all {
		total, rest := uint64(s.weight)*unit, others(s)
		if len(rest) == 0 {
			s.weight = uint32(total)
			out = append(out, s)
			continue
		}
		left, whole := total, sumOf(rest)
		for i, o := range rest {
			part := s
			part.behind = []string{o.to.Version}
			for _, next := range rest {
				if next.cluster != o.cluster {
					part.behind = append(part.behind, next.to.Version)
				}
			}
			given := total * uint64(o.weight) / whole
			if i == len(rest)-1 {
				given = left
			}
			left -= given
			if part.weight, part.cluster = uint32(given), spreadCluster(s.cluster, part.behind); given > 0 {
				out = append(out, part)
			}
		}
	}
	return lowest(out)
}

// lowest are the same shares with the smallest weights.
func lowest(all []share) []share {
	var common uint64
	for _, s := range all {
		common = gcd(uint64(s.weight), common)
	}
	for i := range all {
		all[i].weight /= uint32(common)
	}
	return all
}

func sumOf(all []share) (sum uint64) {
	for _, s := range all {
		sum += uint64(s.weight)
	}
	return sum
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// spreadCluster is the name of a version's cluster with others behind it.
func spreadCluster(first string, behind []string) string {
	return spreadName + first + "/" + strings.Join(behind, "/")
}

// withBehind makes of a version's cluster one that takes from it first, and from those of other versions as far as it has
// no workloads that are well (Cluster.cluster_type aggregate). It has no addresses, and no connections of its own: what
// its router asks of it, its protocol and how many retries may be under way, is the first one's.
func (e *emitter) withBehind(c *clusterv3.Cluster, t target, out *entry) *clusterv3.Cluster {
	var clusters []string
	for _, v := range append([]string{t.version.Name}, t.behind...) {
		clusters = append(clusters, model.ClusterName(t.service.ID, t.port.Name, v))
	}
	out.need(release.ClusterType, clusters...)
	return &clusterv3.Cluster{
		Name: t.cluster(), ConnectTimeout: c.ConnectTimeout, LbPolicy: clusterv3.Cluster_CLUSTER_PROVIDED,
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: aggregateCluster, TypedConfig: pack(&aggregatev3.ClusterConfig{Clusters: clusters}),
		}},
		CircuitBreakers: c.CircuitBreakers, TypedExtensionProtocolOptions: c.TypedExtensionProtocolOptions,
	}
}

// needsOf adds the clusters to which destinations lead.
func (e *emitter) needsOf(to []model.Target, traits []routeTrait, n needs) {
	for _, s := range e.shares(to) {
		t, ok := e.destination(s.to.Service, s.to.Port)
		if !ok {
			continue
		}
		if t.service != nil {
			t.version, _ = t.service.Version(s.to.Version)
		}
		n.add(t, traits)
		if len(s.behind) > 0 {
			t.behind = s.behind
			n.add(t, traits)
		}
	}
}
