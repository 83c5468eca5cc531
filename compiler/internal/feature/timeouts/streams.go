package timeouts

import (
	"slices"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

const (
	silenceName  = "idle"
	lifetimeName = "maxDuration"
)

// Silence bounds how long nothing may move on a request, in either direction.
type Silence struct {
	// Idle is 0 for no bound.
	Idle trait.Duration `json:"idle"`
}

// TraitName is "idle".
func (Silence) TraitName() string { return silenceName }

// Then is the shorter of both.
func (s Silence) Then(next trait.Value) trait.Value {
	return Silence{shorter(s.Idle, next.(Silence).Idle)}
}

// Waits is the bound: nothing moves while a request waits.
func (s Silence) Waits() time.Duration { return time.Duration(s.Idle) }

// Lifetime bounds a request with all that follows it: a stream, a connection that has
// changed its protocol.
type Lifetime struct {
	// Max is 0 for no bound.
	Max trait.Duration `json:"max"`
}

// TraitName is "maxDuration".
func (Lifetime) TraitName() string { return lifetimeName }

// Then is the shorter of both.
func (l Lifetime) Then(next trait.Value) trait.Value {
	return Lifetime{shorter(l.Max, next.(Lifetime).Max)}
}

// Waits is the bound.
func (l Lifetime) Waits() time.Duration { return time.Duration(l.Max) }

func shorter(a, b trait.Duration) trait.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Idle is the row of `idle`.
var Idle = feature.Feature{
	Rule: resolve.Rule{
		Name: silenceName, Field: silenceName, On: carriers(), Answers: false, Forwards: true,
		Defaults: []resolve.Default{{Field: "route.idle", Value: "5m, or the timeout where that is longer", Why: "what nobody uses any more goes, a stream too"}},
		Read: func(n intent.Node, x *resolve.Place) trait.Value {
			if t, ok := written(n, x); ok {
				return Silence{t}
			}
			return nil
		},
		Fits: fits, Uses: nil,
	},
	Codec: trait.JSON[Silence],
	Meaning: func(v trait.Value) []space.Act {
		return bounds(silenceName, "silence", space.OfSilence, v.(Silence).Idle)
	},
	Change: change(silenceName, "silence", hop.Silence),
	// RouteAction.idle_timeout; 0 is none.
	Envoy: envoy.OnRoute(func(r *routev3.Route, v Silence, _ *envoy.Ctx) {
		if a := envoy.Action(r); a != nil {
			a.IdleTimeout = envoy.Duration(time.Duration(v.Idle))
		}
	}),
	Kubernetes: kubernetes.Nothing("the proxies keep it"),
	GatewayAPI: gatewayapi.Refuse("an HTTPRoute bounds whole requests, not silence on them"),
}

// MaxDuration is the row of `maxDuration`.
var MaxDuration = feature.Feature{
	Rule: resolve.Rule{
		Name: lifetimeName, Field: lifetimeName, On: carriers(), Answers: false, Forwards: true,
		Defaults: []resolve.Default{{Field: "route.maxDuration", Value: none, Why: "a stream lasts as long as something moves"}},
		Read: func(n intent.Node, x *resolve.Place) trait.Value {
			if t, ok := written(n, x); ok {
				return Lifetime{t}
			}
			return nil
		},
		Fits: fits, Uses: nil,
	},
	Codec: trait.JSON[Lifetime],
	Meaning: func(v trait.Value) []space.Act {
		return bounds(lifetimeName, "stream", space.OfStream, v.(Lifetime).Max)
	},
	Change:     change(lifetimeName, "stream", 0),
	Envoy:      envoy.Join(envoy.OnRoute(lowerLifetime), envoy.Proxyless(envoy.OnRoute(func(r *routev3.Route, _ Lifetime, x *envoy.Ctx) { ofCall(r, x) }))),
	Kubernetes: kubernetes.Nothing("the proxies keep it"),
	GatewayAPI: gatewayapi.Refuse("an HTTPRoute bounds requests until their answer is there, not streams"),
}

// lowerLifetime sets RouteAction.max_stream_duration. A call of gRPC may ask for less by its
// header grpc-timeout, of which Envoy takes no notice unless grpc_timeout_header_max is set.
func lowerLifetime(r *routev3.Route, v Lifetime, x *envoy.Ctx) {
	a := envoy.Action(r)
	if a == nil || v.Max == 0 {
		return
	}
	a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: envoy.Duration(time.Duration(v.Max))}
	if x.Port.Protocol == model.GRPC {
		a.MaxStreamDuration.GrpcTimeoutHeaderMax = envoy.Duration(time.Duration(v.Max))
	}
}

// ofCall sets what gRPC programs without a proxy know for both bounds: how long a call may take, retries and all
// messages of both sides included (gRFC A31). What the program itself asks for counts where it is shorter.
func ofCall(r *routev3.Route, x *envoy.Ctx) {
	t, _ := trait.Get[Timeout](x.Traits)
	l, _ := trait.Get[Lifetime](x.Traits)
	if a, most := envoy.Action(r), shorter(t.Request, l.Max); a != nil && most != 0 {
		a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: envoy.Duration(time.Duration(most))}
	}
}

// written is a bound that intent writes; 0 is none.
func written(n intent.Node, x *resolve.Place) (trait.Duration, bool) {
	if !n.Exists() {
		return 0, false
	}
	if n.Str() == none {
		return 0, true
	}
	return x.Duration(n, byDefault), true
}

// fits warns of a bound that a route says and that another one always reaches first. A
// timeout does not end what lasts beyond its answer.
func fits(v trait.Value, others trait.Set, n intent.Node, x *resolve.Place) {
	if x.At != resolve.OnRoute {
		return // other routes have other bounds
	}
	own, earlier := trait.Duration(0), map[string]trait.Duration{}
	if t, _ := trait.Get[Timeout](others); !lasting(others) {
		earlier[name] = t.Request
	}
	l, _ := trait.Get[Lifetime](others)
	switch v := v.(type) {
	case Timeout:
		own, earlier = v.Request, map[string]trait.Duration{}
		if l.Max < own { // of two that are equal, maxDuration is told
			earlier[lifetimeName] = l.Max
		}
	case Silence:
		own, earlier[lifetimeName] = v.Idle, l.Max
	case Lifetime:
		own = v.Max
	}
	for _, other := range []string{name, lifetimeName} {
		if at := earlier[other]; own != 0 && at != 0 && at <= own {
			x.Problem(diag.Warn(diag.CodeNever, n.Pos(), "%s is %s, and never reached: the %s of %s ends every request before", n.Path(), words(own), other, at).
				WithFix("write less, or more for `%s`", other))
		}
	}
}

func lasting(s trait.Set) bool {
	return slices.ContainsFunc(s.Names(), func(name string) bool {
		v, _ := s.Lookup(name)
		_, ok := v.(trait.Lasting)
		return ok
	})
}
