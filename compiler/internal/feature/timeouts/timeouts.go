// Package timeouts is the features `timeout`, `idle` and `maxDuration` of routes, of what is
// around them, and of a service's ports: how long the whole answer may take, retries
// included; how long nothing may move; how long a stream may last.
package timeouts

import (
	"time"

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
	"meshc.dev/meshc/internal/hop"
)

const (
	name = "timeout"
	none = "none"
)

// byDefault equals Envoy's own default, so that writing nothing surprises nobody.
const byDefault = 15 * time.Second

// Timeout bounds a request from its end at the proxy to the end of the answer.
type Timeout struct {
	// Request is 0 for no bound: streams last.
	Request trait.Duration `json:"request"`
}

// TraitName is "timeout".
func (Timeout) TraitName() string { return name }

// Then is the shorter of both.
func (t Timeout) Then(next trait.Value) trait.Value {
	return Timeout{shorter(t.Request, next.(Timeout).Request)}
}

// Waits is the bound.
func (t Timeout) Waits() time.Duration { return time.Duration(t.Request) }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: carriers(), Answers: false, Forwards: true,
		Defaults: []resolve.Default{
			{Field: "route.timeout", Value: byDefault.String(), Why: "no request waits for ever"},
			{Field: "route.timeout (port grpc)", Value: none, Why: "a stream lasts as long as something moves, and callers of gRPC bring deadlines of their own"},
		},
		Read: read, Fits: fits, Uses: nil,
		// What is usual for answers would end streams that nobody meant.
		Spares: func(x *resolve.Place) bool { return x.Speaks(model.GRPC) },
	},
	Codec:      trait.JSON[Timeout],
	Meaning:    meaning,
	Change:     change(name, "request", byDefault),
	Envoy:      envoy.Join(envoy.OnRoute(lower), envoy.Proxyless(envoy.OnRoute(func(r *routev3.Route, _ Timeout, x *envoy.Ctx) { ofCall(r, x) }))),
	Kubernetes: kubernetes.Nothing("the proxies keep it"),
	GatewayAPI: gatewayapi.OnRule(func(r *gatewayapi.Rule, v Timeout, _ *gatewayapi.Ctx) {
		r.Timeouts = &gatewayapi.Timeouts{Request: v.Request.String()}
	}),
}

// carriers are the same for all three: the nearest counts.
func carriers() []resolve.On {
	return []resolve.On{resolve.OnRoute, resolve.OnHost, resolve.AroundPort, resolve.AroundRoutes, resolve.AroundExternal, resolve.OnCall, resolve.OnDefault}
}

// lower sets RouteAction.timeout. Envoy also ends a stream on which nothing moves for five
// minutes, a destination that still works on its answer included, so that a longer timeout
// takes its RouteAction.idle_timeout along, unless that is written. Neither the timeout of a
// route counts for a connection that has changed its protocol: that request never ends.
func lower(r *routev3.Route, v Timeout, x *envoy.Ctx) {
	a := envoy.Action(r)
	if a == nil {
		return
	}
	a.Timeout = envoy.Duration(time.Duration(v.Request))
	if _, written := trait.Get[Silence](x.Traits); !written && time.Duration(v.Request) > hop.Silence {
		a.IdleTimeout = envoy.Duration(time.Duration(v.Request))
	}
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() && x.Gateway {
		return nil // the service's own timeout holds behind a gateway
	}
	if n.Str() == none || !n.Exists() && x.Speaks(model.GRPC) {
		return Timeout{}
	}
	return Timeout{Request: x.Duration(n, byDefault)}
}

func meaning(v trait.Value) []space.Act {
	return bounds(name, "request", space.OfAnswer, v.(Timeout).Request)
}

// bounds is the meaning of a bound; 0 is none.
func bounds(feature, what string, of space.Span, t trait.Duration) []space.Act {
	return space.Labels(space.AtWorkload, space.Field{Feature: feature, Name: what, Value: words(t), Number: time.Duration(t).Seconds(), Bounds: of})
}

// change: under a shorter bound requests fail that were answered, and without one nothing
// ends them. Where nothing is written, the default holds.
func change(feature, what string, byDefault time.Duration) plan.Word {
	bound := func(fs []space.Field) trait.Duration {
		if len(fs) == 0 {
			return trait.Duration(byDefault)
		}
		return trait.Duration(plan.Number(fs, what) * float64(time.Second))
	}
	return func(before, after []space.Field) (plan.Class, string) {
		b, a := bound(before), bound(after)
		class := plan.Neutral
		switch {
		case a == b:
			return plan.Nothing, ""
		case a == 0:
			class = plan.Weakening
		case b == 0 || a < b:
			class = plan.Narrowing
		}
		return class, feature + " " + words(b) + " → " + words(a)
	}
}

// words is a bound as intent writes it.
func words(t trait.Duration) string {
	if t == 0 {
		return none
	}
	return t.String()
}
