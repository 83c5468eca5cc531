// Package faults is the feature `route.fault`: requests are delayed or aborted on
// purpose, until an instant, with an owner and a reason.
package faults

import (
	"strconv"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"

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

const name = "fault"

// Fault breaks a share of the requests. Owner, reason and end are no part of it:
// a longer end alone pushes nothing.
type Fault struct {
	// Delay is 0 for none; DelayPercent and AbortPercent are 0 to 100.
	Delay        trait.Duration `json:"delay,omitempty"`
	DelayPercent float64        `json:"delay_percent,omitempty"`
	// Status is 0 for no abort.
	Status       int     `json:"status,omitempty"`
	AbortPercent float64 `json:"abort_percent,omitempty"`
}

// TraitName is "fault".
func (Fault) TraitName() string { return name }

// Feature is the row.
var Feature = feature.Feature{
	Rule:    resolve.Rule{Name: name, Field: "fault", On: []resolve.On{resolve.OnRoute}, Answers: false, Defaults: nil, Read: read, Uses: nil},
	Codec:   trait.JSON[Fault],
	Meaning: meaning,
	Change:  change,
	// HTTPFault per route; the filter itself is always in the chain.
	Envoy:      envoy.OnRoute(func(r *routev3.Route, v Fault, _ *envoy.Ctx) { envoy.RouteFilter(r, envoy.SlotFault, lower(v)) }).Needs(envoy.SlotFault),
	Kubernetes: kubernetes.Nothing("the caller's proxy does it"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no faults"),
}

func lower(v Fault) *faultv3.HTTPFault {
	f := &faultv3.HTTPFault{}
	if v.Delay > 0 {
		f.Delay = &commonfaultv3.FaultDelay{
			FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: envoy.Duration(time.Duration(v.Delay))},
			Percentage:         envoy.Percent(v.DelayPercent),
		}
	}
	if v.Status != 0 {
		f.Abort = &faultv3.FaultAbort{
			ErrorType:  &faultv3.FaultAbort_HttpStatus{HttpStatus: uint32(v.Status)},
			Percentage: envoy.Percent(v.AbortPercent),
		}
	}
	return f
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() || x.Expired(n) {
		return nil
	}
	d, a := n.Field("delay"), n.Field("abort")
	if !d.Exists() && !a.Exists() {
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "the fault neither delays nor aborts").WithFix("add delay or abort"))
		return nil
	}
	x.Except(name, n)
	f := Fault{Status: int(a.Field("status").Int()), AbortPercent: float64(a.Field("percent").Int()), DelayPercent: float64(d.Field("percent").Int())}
	if d.Exists() {
		f.Delay = x.Duration(d.Field("duration"), 0)
	}
	return f
}

// meaning: what happens to no request is nothing.
func meaning(v trait.Value) []space.Act {
	f := v.(Fault)
	percent := func(p float64) string { return strconv.FormatFloat(p, 'f', -1, 64) + "%" }
	var out []space.Act
	if f.Delay > 0 && f.DelayPercent > 0 {
		out = append(out, space.Labels(space.AtDrill, space.Field{Feature: name, Name: "delay", Value: f.Delay.String() + " for " + percent(f.DelayPercent)})...)
	}
	if f.Status != 0 && f.AbortPercent > 0 {
		out = append(out, space.Act{
			At: space.AtDrill, Answer: &space.Reply{Status: f.Status, Percent: f.AbortPercent},
			Fields: []space.Field{{Feature: name, Name: "abort", Value: strconv.Itoa(f.Status) + " for " + percent(f.AbortPercent)}},
		})
	}
	return out
}

// change: a fault that ends is good news; any other change breaks more or otherwise.
func change(before, after []space.Field) (plan.Class, string) {
	if len(after) == 0 {
		return plan.Neutral, plan.Arrow("fault", before, after)
	}
	return plan.Weakening, plan.Arrow("fault", before, after)
}
