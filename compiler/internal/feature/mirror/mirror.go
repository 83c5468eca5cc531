// Package mirror is the feature `route.mirror`: a copy of the requests goes to
// another service, and its answers are thrown away.
package mirror

import (
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

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

const name = "mirror"

// Mirror is where copies go.
type Mirror struct {
	// To is the service's ID, Version one of its versions.
	To      string `json:"to"`
	Version string `json:"version"`
	// Percent of the requests are copied, 0 to 100.
	Percent float64 `json:"percent"`
}

// TraitName is "mirror".
func (Mirror) TraitName() string { return name }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "mirror", On: resolve.OnRoute, Answers: false, Forwards: true,
		Defaults: []resolve.Default{{Field: "route.mirror.percent", Value: "100", Why: "a mirror without a share copies everything"}},
		Read:     read,
		Uses:     func(v trait.Value) []string { return []string{v.(Mirror).To} },
	},
	Codec:   trait.JSON[Mirror],
	Meaning: meaning,
	Change:  change,
	// RouteAction.request_mirror_policies. The suffix "-shadow" on the host is off:
	// the copy is to be the request that the service would see.
	Envoy: envoy.OnRoute(func(r *routev3.Route, v Mirror, x *envoy.Ctx) {
		a := envoy.Action(r)
		if a == nil {
			x.Problem("a route that answers by itself has nothing to mirror")
			return
		}
		clusters := x.Clusters(v.To, v.Version)
		if len(clusters) == 0 {
			x.Problem("%q has no port that takes requests to mirror", v.To)
		}
		for _, c := range clusters {
			a.RequestMirrorPolicies = append(a.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{
				Cluster:                       c,
				RuntimeFraction:               &corev3.RuntimeFractionalPercent{DefaultValue: envoy.Percent(v.Percent)},
				DisableShadowHostSuffixAppend: true,
			})
		}
	}),
	Kubernetes: kubernetes.Nothing("the caller's proxy sends the copy"),
	GatewayAPI: gatewayapi.Refuse("RequestMirror in Gateway API names a Service, and versions are no Services of their own"),
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	to, version := n.Field("to"), n.Field("version")
	id, ok := x.Service(to, version)
	if !ok {
		return nil
	}
	if id == x.Self() && !version.Exists() {
		x.Problem(diag.New(diag.CodeCycle, to.Pos(), "%q mirrors to itself", id).WithFix("name a version that gets no requests otherwise, or another service"))
		return nil
	}
	m := Mirror{To: id, Version: version.Str(), Percent: 100}
	if p := n.Field("percent"); p.Exists() {
		m.Percent = float64(p.Int())
	}
	if m.Version == "" {
		vs := x.Versions(id)
		if len(vs) != 1 {
			x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "service %q has %d versions; a mirror needs to name one", id, len(vs)).WithFix("add: version: %q", vs[0]))
			return nil
		}
		m.Version = vs[0]
	}
	return m
}

// meaning: the copy is sent whatever the destination's grants say.
func meaning(v trait.Value) []space.Act {
	m := v.(Mirror)
	return space.Labels(space.AtCaller,
		space.Field{Feature: name, Name: "to", Value: m.To + "/" + m.Version},
		space.Field{Feature: name, Name: "percent", Value: strconv.FormatFloat(m.Percent, 'f', -1, 64)})
}

// change: a new receiver of copies is one more place that sees what requests hold.
func change(before, after []space.Field) (plan.Class, string) {
	class := plan.Neutral
	if len(after) > 0 && plan.Value(after, "to") != plan.Value(before, "to") {
		class = plan.Weakening
	}
	return class, plan.Arrow("mirror", before, after)
}
