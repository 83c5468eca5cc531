// Package bandwidth is the feature `bandwidth` of services, gateways' hosts and gateways' routes:
// bodies are slowed down to a rate.
package bandwidth

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	bandwidthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/bandwidth_limit/v3"

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

const (
	name = "bandwidth"
	// most is a rate that no proxy reaches.
	most     = 4095 * trait.MiB
	request  = "request"
	response = "response"
)

// Rates are bytes in a second, in whole KiB, 0 for any number.
type Rates struct {
	Request  trait.Size `json:"request,omitempty"`
	Response trait.Size `json:"response,omitempty"`
}

// TraitName is "bandwidth".
func (Rates) TraitName() string { return name }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false, Forwards: true,
		Defaults: nil, Read: read, Uses: nil,
	},
	Codec:   trait.JSON[Rates],
	Meaning: meaning,
	Change:  change,
	Envoy: envoy.Join(
		envoy.OnRoute(func(r *routev3.Route, v Rates, _ *envoy.Ctx) {
			for _, f := range lower(v) {
				envoy.AddFilter(r, envoy.SlotBodies, "meshc.bandwidth", f)
			}
		}),
		envoy.OnInbound(func(h *routev3.VirtualHost, v Rates, _ *envoy.Ctx) {
			for _, f := range lower(v) {
				envoy.AddHostFilter(h, envoy.SlotBodies, "meshc.bandwidth", f)
			}
		}),
	).Needs(envoy.SlotBodies),
	Kubernetes: kubernetes.Nothing("the proxies slow down"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no limits of bandwidth"),
}

// lower makes a BandwidthLimit for each direction: one of both has one rate, and one bucket of which both take.
func lower(v Rates) []*bandwidthv3.BandwidthLimit {
	var out []*bandwidthv3.BandwidthLimit
	add := func(rate trait.Size, way string, mode bandwidthv3.BandwidthLimit_EnableMode) {
		if rate > 0 {
			out = append(out, &bandwidthv3.BandwidthLimit{StatPrefix: "bandwidth_" + way, EnableMode: mode, LimitKbps: envoy.UInt64(uint64(rate / trait.KiB))})
		}
	}
	add(v.Request, request, bandwidthv3.BandwidthLimit_REQUEST)
	add(v.Response, response, bandwidthv3.BandwidthLimit_RESPONSE)
	return out
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	v := Rates{Request: rate(n.Field(request), x), Response: rate(n.Field(response), x)}
	if !n.Field(request).Exists() && !n.Field(response).Exists() {
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "`bandwidth` says no rate").WithFix("write request, response or both"))
		return nil
	}
	return v
}

func rate(n intent.Node, x *resolve.Place) trait.Size {
	if !n.Exists() {
		return 0
	}
	size, ok := x.Size(n, most)
	if ok && size%trait.KiB != 0 {
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "%s is %s, and proxies count whole KiB", n.Path(), size).WithFix("write whole KiB, such as %q", (size/trait.KiB*trait.KiB + trait.KiB).String()))
	}
	return size
}

func meaning(v trait.Value) []space.Act {
	r := v.(Rates)
	var fields []space.Field
	for _, f := range []struct {
		way  string
		rate trait.Size
	}{{request, r.Request}, {response, r.Response}} {
		if f.rate > 0 {
			fields = append(fields, space.Field{Feature: name, Name: f.way, Value: f.rate.String() + " a second", Number: float64(f.rate)})
		}
	}
	return space.Labels(space.AtWorkload, fields...) // behind the grants: who has none has nothing to send
}

// change: a rate that goes or grows protects less; one that comes or falls refuses nothing.
func change(before, after []space.Field) (plan.Class, string) {
	class := plan.Neutral
	for _, b := range before {
		weaker := true
		for _, a := range after {
			weaker = weaker && (a.Name != b.Name || a.Number > b.Number)
		}
		if weaker {
			class = plan.Weakening
		}
	}
	return class, plan.Arrow("bandwidth", before, after)
}
