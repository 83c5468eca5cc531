// Package empty is the feature `empty` of versions: where a version's share of requests goes while it has no
// workloads. What a version says counts in each route that sends to it and to others of its service.
package empty

import (
	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

const name = "empty"

// session is the name of the feature that keeps callers at one workload.
const session = "session"

// Spread gives the share to the route's other versions.
type Spread struct{}

// TraitName is "empty".
func (Spread) TraitName() string { return name }

// Yields is trait.Yielded.
func (Spread) Yields() {}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: []resolve.On{resolve.OnVersion}, Answers: false, Bytes: true,
		Defaults: []resolve.Default{{Field: "version.empty", Value: "it keeps its share, answered with 503", Why: "a version that is gone is seen, and none gets more than it was meant to take"}},
		Read:     read, Fits: fits, Uses: nil,
	},
	Codec:      trait.JSON[Spread],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.OnAbsence(),
	Kubernetes: kubernetes.Nothing("the callers' proxies choose"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has the share of a Service without endpoints answered with 503"),
}

func read(n intent.Node, _ *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	return Spread{}
}

// fits refuses what no other version can take, and a session, whose workload Envoy looks for in one version alone.
func fits(_ trait.Value, others trait.Set, n intent.Node, x *resolve.Place) {
	if !x.Several() {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "%s is about a share that other versions take, and there is no other version", n.Path()).
			WithFix("take it out, or declare the other version"))
	}
	if _, kept := others.Lookup(session); kept && !others.IsDefault(session) {
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "the cookie of `session` names a workload of one version, and with %s its share may be another one's", n.Path()).
			WithFix("keep one of them: `sticky` on the route keeps callers at a version, `balance: hash` at a workload"))
	}
}

func meaning(trait.Value) []space.Act {
	return space.Labels(space.AtWorkload, space.Field{Feature: name, Name: "without workloads", Value: "other versions"})
}

// change: as long as the version has workloads nothing is different.
func change(before, after []space.Field) (plan.Class, string) {
	return plan.Neutral, plan.Arrow("its share without workloads", before, after)
}
