// Package mirror is the feature `route.mirror`: a copy of the requests goes to
// another service, and its answers are thrown away.
package mirror

import (
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

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
	"meshc.dev/meshc/internal/diag"
)

const name = "mirror"

// Mirror is where copies go: behind a gateway to where its route says and to where the service's does.
type Mirror struct {
	Copies []Copy `json:"copies"`
}

// Copy is one receiver.
type Copy struct {
	model.Receiver
	// Percent of the requests are copied, 0 to 100.
	Percent float64 `json:"percent"`
}

// TraitName is "mirror".
func (Mirror) TraitName() string { return name }

// Beside leaves nothing where a route behind answers by itself: nothing is sent of which there could be a copy.
func (m Mirror) Beside(all trait.Set) trait.Value {
	if all.Answers() {
		return nil
	}
	return m
}

// Then sends copies to both.
func (m Mirror) Then(next trait.Value) trait.Value {
	return Mirror{slices.Concat(m.Copies, next.(Mirror).Copies)}
}

func uses(v trait.Value) []model.Target { return model.Targets(v.(Mirror).Copies) }

// idle: no copy of 0 % is ever sent.
func idle(v trait.Value, to model.Target) bool {
	return !slices.ContainsFunc(v.(Mirror).Copies, func(c Copy) bool {
		return c.Receiver == model.Receiver{To: to.Service, Port: to.Port, Version: to.Version} && c.Percent > 0
	})
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "mirror", On: []resolve.On{resolve.OnRoute}, Answers: false, Forwards: true, Copies: true,
		Defaults: []resolve.Default{{Field: "route.mirror.percent", Value: "100", Why: "a mirror without a share copies everything"}},
		Read:     read,
		Uses:     uses,
		Idle:     idle,
	},
	Codec:   trait.JSON[Mirror],
	Meaning: meaning,
	Change:  change,
	// RouteAction.request_mirror_policies. The suffix "-shadow" on the host is off:
	// the copy is to be the request that the service would see.
	Envoy: envoy.OnRoute(func(r *routev3.Route, v Mirror, x *envoy.Ctx) {
		a := envoy.Action(r)
		if a == nil {
			x.Problem("delete `mirror`", "a route that answers by itself has nothing to mirror")
			return
		}
		for _, c := range v.Copies {
			a.RequestMirrorPolicies = append(a.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{
				Cluster:                       x.Cluster(c.Target()),
				RuntimeFraction:               &corev3.RuntimeFractionalPercent{DefaultValue: envoy.Percent(c.Percent)},
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
	if len(n.Fields()) == 0 {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "`mirror` names nobody").WithFix("delete it, or write who gets copies: mirror: <service>: {}"))
		return nil
	}
	var out Mirror
	for _, e := range n.Fields() {
		to, ok := x.Receiver(e)
		if !ok {
			continue
		}
		c := Copy{Receiver: to, Percent: x.Percent(e.Node.Field("percent"), 100)}
		if i := slices.IndexFunc(out.Copies, func(o Copy) bool { return o.Receiver == to }); i >= 0 {
			x.Problem(diag.New(diag.CodeDuplicate, e.Node.Pos(), "%q gets copies of the same requests under two names", to.To).WithFix("keep one of them"))
			continue
		}
		out.Copies = append(out.Copies, c)
	}
	if len(out.Copies) == 0 {
		return nil
	}
	return out
}

// meaning: the copy is sent whatever the destination's grants say. Copies of no request
// are none.
func meaning(v trait.Value) []space.Act {
	var out []space.Field
	for _, c := range v.(Mirror).Copies {
		if c.Percent > 0 {
			to := model.ClusterName(c.To, c.Port, c.Version)
			out = append(out, space.Field{Feature: name, Name: "to " + to, Value: strconv.FormatFloat(c.Percent, 'f', -1, 64) + "%", Number: c.Percent, Does: space.Deed{Kind: space.Copies, Of: to}})
		}
	}
	if out == nil {
		return nil
	}
	return space.Labels(space.AtRoute, out...)
}

// change: a new receiver of copies, or more of them, is more that others see of what
// requests hold.
func change(before, after []space.Field) (plan.Class, string) {
	class := plan.Neutral
	for _, f := range after {
		if f.Number > plan.Number(before, f.Name) {
			class = plan.Weakening
		}
	}
	return class, plan.Arrow("mirror", before, after)
}
