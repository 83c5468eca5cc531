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

// OnAbsence lowers a version's trait (trait.Yielded), whatever its value, on the routes that send to it and to other versions:
// they get its share, by their weights, while it has no workloads.
func OnAbsence() Lowering { return Lowering{yields: true} }

// others are the shares of a version's service and port that are not its own.
func (s share) others(all []share) []share {
	return slices.DeleteFunc(slices.Clone(all), func(o share) bool {
		return o.external || o.cluster == s.cluster || o.to.Service != s.to.Service || o.to.Port != s.to.Port
	})
}

// spread parts the share of each version that yields it: one for each of the route's other versions, by their weights, to a
// cluster that is the version's own and behind it the other's. So as soon as the first is empty, Envoy gives
// each of the others its part, in whichever proportion they stand. Where several are empty, the part of one is taken by
// the next in the order of the route.
func spread(all []share) []share {
	if !slices.ContainsFunc(all, func(s share) bool { return s.traits.Yields() }) {
		return all
	}
	var sum, unit uint64 = 0, 1
	others := make([][]share, len(all)) // of those that yield
	for i, s := range all {
		sum += uint64(s.weight)
		if !s.traits.Yields() {
			continue
		}
		others[i] = s.others(all)
		if whole := sumOf(others[i]); whole > 0 {
			unit *= whole / gcd(whole, unit*uint64(s.weight))
			unit = min(unit, mostWeight) // which no product of two of them exceeds
		}
	}
	if !slices.ContainsFunc(others, func(o []share) bool { return len(o) > 0 }) {
		return all
	}
	unit = max(min(unit, mostWeight/sum), 1)
	var out []share
	for i, s := range all {
		total, rest := uint64(s.weight)*unit, others[i]
		if len(rest) == 0 {
			s.weight = uint32(total)
			out = append(out, s)
			continue
		}
		left, whole := total, sumOf(rest)
		for j, o := range rest {
			part := s
			part.behind = []string{o.to.Version}
			for _, next := range rest {
				if next.cluster != o.cluster {
					part.behind = append(part.behind, next.to.Version)
				}
			}
			given := total * uint64(o.weight) / whole
			if j == len(rest)-1 {
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
