package retries

import (
	"reflect"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

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
	kept = "buffer"
	// keptByDefault is what other meshes keep.
	keptByDefault = trait.MiB
	// keptAtMost bounds what a request may make a proxy hold.
	keptAtMost = 64 * trait.MiB
)

// Buffer is how much of a request's body a proxy keeps, to be able to send it again.
type Buffer struct {
	// Bytes is above 0. Of a larger body nothing is sent again.
	Bytes trait.Size `json:"bytes"`
}

// TraitName is "buffer".
func (Buffer) TraitName() string { return kept }

// Kept is the row of the feature `buffer`: how large a body may be that is sent again.
var Kept = feature.Feature{
	Rule: resolve.Rule{
		Name: kept, Field: kept,
		On:      []resolve.On{resolve.OnRoute, resolve.OnHost, resolve.AroundPort, resolve.AroundRoutes, resolve.AroundExternal, resolve.OnCall, resolve.OnDefault},
		Answers: false, Forwards: true,
		Defaults: []resolve.Default{{
			Field: "route.buffer", Value: "1MiB where a retry is written, else 32KiB at a gateway and 1MiB at a sidecar",
			Why: "whoever asks for retries means most bodies too, and visitors cannot make a gateway hold much where nobody did",
		}},
		Read: readBuffer, Follows: keptForRetry, Unsaid: unsaid, Fits: fitsRetry, Uses: nil,
	},
	Codec: trait.JSON[Buffer],
	Meaning: func(v trait.Value) []space.Act {
		b := v.(Buffer).Bytes
		return space.Labels(space.AtWorkload, space.Field{Feature: kept, Name: "up to", Value: b.String(), Number: float64(b)})
	},
	Change: func(before, after []space.Field) (plan.Class, string) {
		words := func(fs []space.Field) string {
			if len(fs) == 0 {
				return "what a connection may hold"
			}
			return plan.List(fs)
		}
		return plan.Neutral, "bodies that can be sent again: " + words(before) + " → " + words(after)
	},
	Envoy:      envoy.Join(envoy.OnRoute(keep), envoy.Proxyless(envoy.OnRoute(keptByProgram))),
	Kubernetes: kubernetes.Nothing("the caller's proxy keeps it"),
	GatewayAPI: gatewayapi.RefuseWritten(Buffer{Bytes: keptByDefault}, "Gateway API says nothing of the bodies of requests that are sent again"),
}

// keep sets Route.request_body_buffer_limit, which counts instead of the listener's
// per_connection_buffer_limit_bytes, for this alone.
func keep(r *routev3.Route, v Buffer, _ *envoy.Ctx) {
	if envoy.Action(r) != nil {
		r.RequestBodyBufferLimit = &wrapperspb.UInt64Value{Value: uint64(v.Bytes)}
	}
}

// keptByProgram: how much a gRPC program without a proxy keeps of a call is its own affair.
func keptByProgram(_ *routev3.Route, v Buffer, x *envoy.Ctx) {
	if v.Bytes != keptByDefault {
		x.Lost(v, "take `buffer` out", "be told how much of a call it keeps")
	}
}

// keptForRetry is what a retry brings along that is written. What nobody wrote keeps what a
// connection may hold.
func keptForRetry(route trait.Set) trait.Value {
	r, ok := trait.Get[Retry](route)
	if !ok || r.Attempts == 0 || route.IsDefault(name) && reflect.DeepEqual(r, byDefault) {
		return nil
	}
	return Buffer{Bytes: keptByDefault}
}

// unsaid tells those who asked for retries of which requests there are none. A method whose bodies
// mean nothing (RFC 9110, 9.3) has no large ones.
func unsaid(v trait.Value, methods []string) (string, diag.Diagnostic) {
	bodiless := []string{"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"}
	if methods != nil && !slices.ContainsFunc(methods, func(m string) bool { return !slices.Contains(bodiless, m) }) {
		return "", diag.Diagnostic{}
	}
	kept := v.(Buffer).Bytes.String()
	return name, diag.Warn(diag.CodeNotRepeated, diag.Pos{}, "a request whose body is larger than %s is not tried again", kept).
		WithFix("write how large bodies are, beside it or around it: buffer: %q, up to %q", kept, keptAtMost.String())
}

// Means reports whether anything is sent again at all.
func (Buffer) Means(beside trait.Set) bool {
	r, ok := trait.Get[Retry](beside)
	return ok && r.Attempts > 0
}

func readBuffer(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	b, ok := x.Size(n, keptAtMost)
	if !ok {
		return nil
	}
	return Buffer{Bytes: b}
}

// fitsRetry refuses a buffer of a route that sends nothing again.
func fitsRetry(_ trait.Value, route trait.Set, n intent.Node, x *resolve.Place) {
	if r, ok := trait.Get[Retry](route); ok && r.Attempts == 0 && x.At == resolve.OnRoute {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "bodies are kept to be sent again, and nothing is tried again here").WithFix("delete it, or write `attempts` above 0"))
	}
}
