// Package locality is the feature `locality` of services, their ports and versions, and of externals: in which
// order a caller's proxy takes workloads, by where both are. The release has the rule; where proxies and
// workloads are is known where endpoints are served, which is where ranks are made of it.
package locality

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

const name = "locality"

// What tells that workloads are not well, by the names of the features.
const (
	outlier = "outlier"
	health  = "health"
)

// Order is the rule, as the release has it.
type Order struct {
	release.Locality
}

// TraitName is "locality".
func (Order) TraitName() string { return name }

// Ranks is trait.Ranked.
func (Order) Ranks() {}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: []resolve.On{resolve.OnService, resolve.OnVersion, resolve.OnPort, resolve.OnExternal, resolve.OnDefault}, Answers: false, Bytes: true, Places: true,
		Defaults: []resolve.Default{{Field: "service.locality", Value: "all workloads alike", Why: "who is near is not always who has room"}},
		Read:     read, Fits: fits, Uses: nil,
	},
	Codec:      trait.JSON[Order],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.OnCluster(lower),
	Kubernetes: kubernetes.Nothing("the callers' proxies choose"),
	GatewayAPI: gatewayapi.Refuse("Gateway API says nothing of where a Service's endpoints are"),
}

// lower puts the rule beside the source of the cluster's addresses. Of it come the priorities of
// ClusterLoadAssignment.endpoints, by Envoy's own factor (overprovisioning_factor, 140 %): the next rank
// gets requests once less than 72 % of the ones before are well. Addresses that intent writes have no places.
func lower(_ *clusterv3.Cluster, v Order, x *envoy.Ctx) {
	if x.Live != nil {
		x.Live.Locality = &v.Locality
	}
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	o := Order{}
	prefer, failover := n.Field("prefer"), n.Field("failover")
	if o.Prefer = prefer.Str(); !prefer.Exists() && !failover.Exists() {
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "%s needs at least one of prefer and failover, it has none", n.Path()).WithFix(`write prefer: "zone", or take it out`))
	}
	empty := func(n intent.Node) {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "%s names no zone, so that nothing follows", n.Path()).WithFix("name the zones that follow with their ranks, or take it out"))
	}
	if failover.Exists() && len(failover.Fields()) == 0 {
		empty(failover)
	}
	for _, from := range failover.Fields() {
		ranks := map[string]int{}
		for _, to := range from.Node.Fields() {
			if to.Name == from.Name {
				x.Problem(diag.New(diag.CodeNever, to.Node.Pos(), "zone %q follows itself: callers of a zone take its own workloads first", to.Name).WithFix("take it out of the ranks"))
				continue
			}
			ranks[to.Name] = int(to.Node.Int())
		}
		if len(from.Node.Fields()) == 0 {
			empty(from.Node)
		}
		if o.Failover == nil {
			o.Failover = map[string]map[string]int{}
		}
		o.Failover[from.Name] = ranks
	}
	return o
}

// fits refuses an order of which nothing ever takes the next rank, and one of addresses without places.
func fits(_ trait.Value, others trait.Set, n intent.Node, x *resolve.Place) {
	_, judged := others.Lookup(outlier)
	if _, asked := others.Lookup(health); !judged && !asked {
		fix := "write `outlier` beside it"
		if x.External() != nil || len(x.Discovered()) == 0 {
			fix += ", or `health`"
		}
		x.Problem(diag.New(diag.CodeNotJudged, n.Pos(), "nothing says when the nearer workloads are not well, so that callers would never go to the others").
			WithFix("%s, with what counts as a failure", fix))
	}
	if x.At == resolve.OnDefault { // what is usual elsewhere
		return
	}
	known := func(e model.Endpoints) bool { return len(e.Static) == 0 && e.DNS == "" }
	if all := x.Endpoints(); len(all) > 0 && !slices.ContainsFunc(all, known) {
		x.Problem(diag.New(diag.CodePlaceless, n.Pos(), "the workloads are at addresses of which nobody says in which zone they are").
			WithFix("name them with their zones (workload: …), write them into an endpoint file with these (endpoints: file: …), or take `locality` out"))
	}
}

func meaning(v trait.Value) []space.Act {
	o := v.(Order)
	var fields []space.Field
	for _, zone := range slices.Sorted(maps.Keys(o.Failover)) {
		fields = append(fields, space.Field{Feature: name, Name: "after " + zone + " follow", Value: following(o.Failover[zone])})
	}
	switch o.Prefer {
	case release.PreferZone:
		fields = append(fields, space.Field{Feature: name, Name: "order", Value: "the caller's zone, its region, all others"})
	case release.PreferRegion:
		fields = append(fields, space.Field{Feature: name, Name: "order", Value: "the caller's region, all others"})
	}
	return space.Labels(space.AtWorkload, fields...)
}

// following are ranks in words: the zones of one rank, then those of the next.
func following(ranks map[string]int) string {
	zones := slices.SortedFunc(maps.Keys(ranks), func(a, b string) int { return cmp.Or(ranks[a]-ranks[b], cmp.Compare(a, b)) })
	var b strings.Builder
	for i, z := range zones {
		switch {
		case i == 0:
		case ranks[zones[i-1]] == ranks[z]:
			b.WriteString(" and ")
		default:
			b.WriteString(", then ")
		}
		b.WriteString(z)
	}
	return b.String()
}

// change: whichever workload it is, it answers the same; without an order none is near.
func change(before, after []space.Field) (plan.Class, string) {
	class := plan.Neutral
	if len(after) == 0 {
		class = plan.Weakening
	}
	return class, plan.Arrow("order by places", before, after)
}
