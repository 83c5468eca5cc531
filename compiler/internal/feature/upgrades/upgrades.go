// Package upgrades is the feature `upgrade` of routes, services and their ports: the
// protocols to which a request may change its connection, which then is open in both
// directions for as long as its sides like. The caller's proxy lets through what the route
// says, the callee's what the service says, or its port, or one of its own routes; at a
// gateway its route and the service's have to agree.
package upgrades

import (
	"slices"
	"strings"

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

const name = "upgrade"

// Upgrades are what is let through.
type Upgrades struct {
	// To are protocols, in lower case ("websocket"), sorted; at least one.
	To []string `json:"to"`
}

// TraitName is "upgrade".
func (Upgrades) TraitName() string { return name }

// Lasts says that what has changed its protocol lasts as long as its sides like.
func (Upgrades) Lasts() {}

// With is what both let through.
func (u Upgrades) With(other trait.Value) trait.Value {
	both := slices.DeleteFunc(slices.Clone(u.To), func(p string) bool { return !slices.Contains(other.(Upgrades).To, p) })
	if len(both) == 0 {
		return nil
	}
	return Upgrades{To: both}
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "upgrade", On: []resolve.On{resolve.OnRoute, resolve.AroundPort, resolve.AroundRoutes, resolve.OnPort, resolve.OnService},
		Answers: false, Forwards: true,
		Defaults: []resolve.Default{{Field: "route.upgrade", Value: "none", Why: "what follows an upgrade is seen by no grant and bounded by no timeout"}},
		Read:     read, Uses: nil,
	},
	Codec:   trait.JSON[Upgrades],
	Meaning: meaning,
	Change:  change,
	Envoy: envoy.Join(
		envoy.OnRoute(func(r *routev3.Route, v Upgrades, x *envoy.Ctx) {
			if x.Service == nil && x.Port.Protocol != model.HTTP {
				x.Problem("delete `upgrade`, or let the destination's port say protocol: \"http\"", "only a destination that speaks HTTP/1.1 can be asked to change to %s", strings.Join(v.To, ", "))
			}
			lower(envoy.Action(r), v)
		}),
		envoy.OnInbound(func(h *routev3.VirtualHost, v Upgrades, _ *envoy.Ctx) {
			for _, r := range h.Routes {
				lower(envoy.Action(r), v)
			}
		}),
	),
	Kubernetes: kubernetes.Nothing("the proxies let them through"),
	GatewayAPI: gatewayapi.Refuse("an HTTPRoute cannot say which requests may change their connection's protocol: implementations let all of them, or go by the Service's appProtocol"),
}

// lower sets RouteAction.upgrade_configs. The connection manager has none of its own, so
// that it lets through nothing that no route names, and a change replaces no listener.
func lower(a *routev3.RouteAction, v Upgrades) {
	if a == nil {
		return
	}
	for _, p := range v.To {
		a.UpgradeConfigs = append(a.UpgradeConfigs, &routev3.RouteAction_UpgradeConfig{UpgradeType: p})
	}
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	to := n.Strings()
	switch {
	case n.Exists() && len(to) == 0:
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "an empty list lets no upgrade through, and neither does none").WithFix("delete `upgrade`"))
	case n.Exists() && !x.Gateway && (!x.MaySpeak(model.HTTP) || x.OnPort() && x.To.Protocol != model.HTTP):
		x.Problem(diag.New(diag.CodeProtocol, n.Pos(), "an upgrade changes what a connection of HTTP/1.1 carries, which is not what %q speaks here", x.Self()).
			WithFix("let the port say protocol: \"http\", or delete `upgrade`"))
	}
	if !x.Gateway && x.To.Name != "" && x.To.Protocol != model.HTTP {
		return nil
	}
	for _, r := range x.Routes {
		if u, ok := trait.Get[Upgrades](r.TraitsAt(x.To.Name)); ok {
			to = append(to, u.To...)
		}
	}
	if len(to) == 0 {
		return nil
	}
	slices.Sort(to)
	return Upgrades{To: slices.Compact(to)}
}

func meaning(v trait.Value) []space.Act {
	u := v.(Upgrades)
	a := space.Act{At: space.AtArrival, Passing: true, Upgrades: u.To}
	for _, p := range u.To {
		a.Fields = append(a.Fields, space.Field{Feature: name, Name: p})
	}
	return []space.Act{a}
}

func change(before, after []space.Field) (plan.Class, string) {
	less := func(a, b []space.Field) bool {
		return slices.ContainsFunc(a, func(f space.Field) bool { return !slices.Contains(b, f) })
	}
	class := plan.Neutral
	switch {
	case less(after, before):
		class = plan.Widening
	case less(before, after):
		class = plan.Narrowing
	}
	return class, plan.Arrow("upgrades", before, after)
}
