// Package faults is the feature `route.fault`: requests are delayed or aborted on
// purpose, until an instant, with an owner and a reason.
package faults

import (
	"slices"
	"strconv"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"

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

const name = "fault"

// Fault breaks a share of the requests. Owner, reason and end are no part of it:
// a longer end alone pushes nothing.
type Fault struct {
	Drill
	// Behind are those that requests meet afterwards, which somebody else wrote: at a gateway's route
	// that of the service's, at a call that of the callee's.
	Behind []Drill `json:"behind,omitempty"`
}

// Drill is one delay, and then one abort.
type Drill struct {
	// Delay is 0 for none; DelayPercent and AbortPercent are 0 to 100.
	Delay        trait.Duration `json:"delay,omitempty"`
	DelayPercent float64        `json:"delay_percent,omitempty"`
	// Status is 0 for no abort, and for one with GRPC, the name of a status of gRPC.
	Status       int     `json:"status,omitempty"`
	GRPC         string  `json:"grpc,omitempty"`
	AbortPercent float64 `json:"abort_percent,omitempty"`
}

// TraitName is "fault".
func (Fault) TraitName() string { return name }

// Then is one after the other: whoever rehearses what a failure does, does so for the requests that
// the others leave.
func (f Fault) Then(next trait.Value) trait.Value {
	n := next.(Fault)
	f.Behind = slices.Concat(f.Behind, []Drill{n.Drill}, n.Behind)
	return f
}

// Calls reports whether the carrier itself ends calls of gRPC.
func (f Fault) Calls() bool { return f.GRPC != "" }

// ended is the HTTP status beside which a call is told how it has ended.
const ended = 200

// ends are the names of gRPC's statuses in their order, which begins with that of a good end
// (https://grpc.github.io/grpc/core/md_doc_statuscodes.html).
func ends() []string {
	return []string{
		"ok", "cancelled", "unknown", "invalid-argument", "deadline-exceeded", "not-found", "already-exists", "permission-denied", "resource-exhausted",
		"failed-precondition", "aborted", "out-of-range", "unimplemented", "internal", "unavailable", "data-loss", "unauthenticated",
	}
}

// Feature is the row.
var Feature = feature.Feature{
	Rule:       resolve.Rule{Name: name, Field: "fault", On: []resolve.On{resolve.OnRoute, resolve.OnCall}, Answers: false, Defaults: nil, Read: read, Uses: nil},
	Codec:      trait.JSON[Fault],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.Join(envoy.OnRoute(onEnvoy).Needs(envoy.SlotFault).Needs(envoy.SlotUsers), envoy.Proxyless(envoy.OnRoute(onCall))),
	Kubernetes: kubernetes.Nothing("the caller's proxy does it"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no faults"),
}

// onEnvoy sets HTTPFault per route; the filter itself is always in the chain. One such filter has
// one delay and one abort, and neither the times nor the statuses of two are one's, so that each drill
// behind the first is a filter of its own: they stand in the position that follows.
func onEnvoy(r *routev3.Route, v Fault, _ *envoy.Ctx) {
	envoy.RouteFilter(r, envoy.SlotFault, lower(v.Drill))
	for _, d := range v.Behind {
		envoy.AddFilter(r, envoy.SlotUsers, "meshc.fault", lower(d))
	}
}

// onCall is a fault in a gRPC program without a proxy (gRFC A33), whose filter has one delay and one abort.
func onCall(r *routev3.Route, v Fault, x *envoy.Ctx) {
	if len(v.Behind) > 0 {
		x.Lost(v, "keep one of the two faults", "rehearse two faults, of the call and of the route, one after the other")
	}
	envoy.RouteFilter(r, envoy.SlotFault, lower(v.Drill))
}

func lower(v Drill) *faultv3.HTTPFault {
	f := &faultv3.HTTPFault{}
	if v.Delay > 0 {
		f.Delay = &commonfaultv3.FaultDelay{
			FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: envoy.Duration(time.Duration(v.Delay))},
			Percentage:         envoy.Percent(v.DelayPercent),
		}
	}
	switch {
	case v.GRPC != "":
		f.Abort = &faultv3.FaultAbort{ErrorType: &faultv3.FaultAbort_GrpcStatus{GrpcStatus: uint32(slices.Index(ends(), v.GRPC))}, Percentage: envoy.Percent(v.AbortPercent)}
	case v.Status != 0:
		f.Abort = &faultv3.FaultAbort{ErrorType: &faultv3.FaultAbort_HttpStatus{HttpStatus: uint32(v.Status)}, Percentage: envoy.Percent(v.AbortPercent)}
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
	f := Drill{AbortPercent: x.Percent(a.Field("percent"), 0), DelayPercent: x.Percent(d.Field("percent"), 0)}
	if d.Exists() {
		f.Delay = x.Duration(d.Field("duration"), 0)
	}
	f = aborting(f, a, x)
	if f.Status == 0 && f.GRPC == "" {
		if f.AbortPercent = 0; f.Delay == 0 {
			return nil // of calls alone, at a port that gets none
		}
	}
	return Fault{Drill: f}
}

// aborting is a drill with the answer of its abort. What ends calls is about those ports of a service alone
// that speak gRPC.
func aborting(f Drill, a intent.Node, x *resolve.Place) Drill {
	if !a.Exists() {
		return f
	}
	switch x.OneOf(a, "status", "grpc") {
	case "status":
		f.Status = int(a.Field("status").Int())
	case "grpc":
		switch grpc := a.Field("grpc"); {
		case x.External() != nil && !x.Speaks(model.GRPC): // of whose ports none has routes of its own
			x.Problem(diag.New(diag.CodeProtocol, grpc.Pos(), "a status of gRPC ends calls, and some port of the external speaks something else").WithFix("let its ports say protocol: \"grpc\" or \"grpcs\", or write `status`"))
		case x.NoCalls():
			x.Problem(diag.New(diag.CodeProtocol, grpc.Pos(), "a status of gRPC ends calls, and no port here speaks grpc").WithFix("let the port say protocol: \"grpc\", or write `status`"))
		case !x.ElsewhereCalls():
			f.GRPC = grpc.Str()
		}
	}
	return f
}

// meaning: what happens to no request is nothing. What comes behind an abort is told as such, since
// only those meet it whom that leaves.
func meaning(v trait.Value) []space.Act {
	percent := func(p float64) string { return strconv.FormatFloat(p, 'f', -1, 64) + "%" }
	f := v.(Fault)
	var out []space.Act
	when := ""
	for _, d := range append([]Drill{f.Drill}, f.Behind...) {
		if d.Delay > 0 && d.DelayPercent > 0 {
			out = append(out, space.Act{
				At: space.AtDrill, Hold: &space.Hold{Seconds: time.Duration(d.Delay).Seconds(), Percent: d.DelayPercent},
				Fields: []space.Field{{Feature: name, Name: when + "delay", Value: d.Delay.String() + " for " + percent(d.DelayPercent)}},
			})
		}
		if d.AbortPercent > 0 {
			told, says := strconv.Itoa(d.Status), space.Reply{Status: d.Status, Percent: d.AbortPercent}
			if d.GRPC != "" { // of HTTP a call gets what all calls get
				told, says.Status, says.GRPC = "gRPC "+d.GRPC, ended, d.GRPC
			}
			out = append(out, space.Act{
				At: space.AtDrill, Answer: &says,
				Fields: []space.Field{{Feature: name, Name: when + "abort", Value: told + " for " + percent(d.AbortPercent)}},
			})
			when += "then "
		}
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
