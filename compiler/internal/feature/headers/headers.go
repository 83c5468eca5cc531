// Package headers is the features `route.requestHeaders` and
// `route.responseHeaders`: edits of header fields on the way.
package headers

import (
	"maps"
	"slices"
	"strings"

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
	"meshc.dev/meshc/internal/hop"
)

const (
	requestName  = "request-headers"
	responseName = "response-headers"
)

// Edit changes header fields. Names are lower case. Removals happen first, then
// sets (replacing all lines), then additions of one more line.
type Edit struct {
	Set    map[string]string `json:"set,omitempty"`
	Add    map[string]string `json:"add,omitempty"`
	Remove []string          `json:"remove,omitempty"`
}

// RequestEdit edits what the destination sees.
type RequestEdit struct{ Edit }

// TraitName is "request-headers".
func (RequestEdit) TraitName() string { return requestName }

// ResponseEdit edits what the caller sees.
type ResponseEdit struct{ Edit }

// TraitName is "response-headers".
func (ResponseEdit) TraitName() string { return responseName }

// Request is the row of `requestHeaders`.
var Request = feature.Feature{
	Rule: resolve.Rule{Name: requestName, Field: "requestHeaders", On: resolve.OnRoute, Answers: false, Defaults: nil, Uses: nil,
		Read: func(n intent.Node, x *resolve.Place) trait.Value {
			if e, ok := read(n, x); ok {
				return RequestEdit{e}
			}
			return nil
		}},
	Codec: trait.JSON[RequestEdit],
	Meaning: func(v trait.Value) []space.Act {
		return space.Labels(space.AtWorkload, fields(requestName, v.(RequestEdit).Edit)...)
	},
	Change: change("request headers"),
	// Route.request_headers_to_add / _to_remove.
	Envoy: envoy.OnRoute(func(r *routev3.Route, v RequestEdit, _ *envoy.Ctx) {
		r.RequestHeadersToAdd = append(r.RequestHeadersToAdd, envoy.HeaderOptions(v.Set, v.Add)...)
		r.RequestHeadersToRemove = append(r.RequestHeadersToRemove, v.Remove...)
	}),
	Kubernetes: kubernetes.Nothing("the caller's proxy edits"),
	GatewayAPI: gatewayapi.OnRule(func(r *gatewayapi.Rule, v RequestEdit, _ *gatewayapi.Ctx) {
		r.Filters = append(r.Filters, gatewayapi.Filter{Type: "RequestHeaderModifier", RequestHeaderModifier: gatewayapi.Headers(v.Set, v.Add, v.Remove)})
	}),
}

// Response is the row of `responseHeaders`.
var Response = feature.Feature{
	Rule: resolve.Rule{Name: responseName, Field: "responseHeaders", On: resolve.OnRoute, Answers: false, Defaults: nil, Uses: nil,
		Read: func(n intent.Node, x *resolve.Place) trait.Value {
			if e, ok := read(n, x); ok {
				return ResponseEdit{e}
			}
			return nil
		}},
	Codec: trait.JSON[ResponseEdit],
	Meaning: func(v trait.Value) []space.Act {
		return space.Labels(space.AtCaller, fields(responseName, v.(ResponseEdit).Edit)...)
	},
	Change: change("response headers"),
	// Route.response_headers_to_add / _to_remove.
	Envoy: envoy.OnRoute(func(r *routev3.Route, v ResponseEdit, _ *envoy.Ctx) {
		r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd, envoy.HeaderOptions(v.Set, v.Add)...)
		r.ResponseHeadersToRemove = append(r.ResponseHeadersToRemove, v.Remove...)
	}),
	Kubernetes: kubernetes.Nothing("the caller's proxy edits"),
	GatewayAPI: gatewayapi.OnRule(func(r *gatewayapi.Rule, v ResponseEdit, _ *gatewayapi.Ctx) {
		r.Filters = append(r.Filters, gatewayapi.Filter{Type: "ResponseHeaderModifier", ResponseHeaderModifier: gatewayapi.Headers(v.Set, v.Add, v.Remove)})
	}),
}

// reserved are headers that the proxies themselves rest on: an edit would change
// where a request goes, or forge who sent it, or be lost at the next proxy.
func reserved(h string) bool {
	return h != "x-forwarded-for" && hop.Reserved(h) || hop.OfConnection(h)
}

func read(n intent.Node, x *resolve.Place) (Edit, bool) {
	if !n.Exists() {
		return Edit{}, false
	}
	seen := map[string]string{}
	use := func(h, how string, at diag.Pos) string {
		h = strings.ToLower(h)
		if reserved(h) {
			x.Problem(diag.New(diag.CodeRange, at, "header %q belongs to the proxies and cannot be edited", h).WithFix("use a header of your own"))
		}
		if other, ok := seen[h]; ok && other != how {
			x.Problem(diag.New(diag.CodeDuplicate, at, "header %q stands under both %s and %s", h, other, how).WithFix("keep one of them"))
		}
		seen[h] = how
		return h
	}
	var e Edit
	edits := func(how string) map[string]string {
		m := map[string]string{}
		for _, f := range n.Field(how).Fields() {
			v := f.Node.Str()
			if v != strings.Trim(v, " \t") {
				x.Problem(diag.New(diag.CodeRange, f.Node.Pos(), "the value %q begins or ends with a blank, which HTTP drops", v).WithFix("write it without"))
			}
			m[use(f.Name, how, f.Node.Pos())] = v
		}
		return m
	}
	e.Set, e.Add = edits("set"), edits("add")
	for _, h := range n.Field("remove").List() {
		e.Remove = append(e.Remove, use(h.Str(), "remove", h.Pos()))
	}
	slices.Sort(e.Remove)
	e.Remove = slices.Compact(e.Remove)
	if lines, size := e.adds(); lines > hop.EditLines || size > hop.EditBytes {
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "the edits add up to %d lines and %d bytes of header, which the next proxy may not take with the rest", lines, size).
			WithFix("write at most %d lines with %d bytes of names and values", hop.EditLines, hop.EditBytes))
	}
	return e, len(seen) > 0
}

// adds is how many lines, and bytes of names and values, an edit may add.
func (e Edit) adds() (lines, size int) {
	for _, m := range []map[string]string{e.Set, e.Add} {
		for name, value := range m {
			lines, size = lines+1, size+len(name)+len(value)
		}
	}
	return lines, size
}

func fields(feature string, e Edit) []space.Field {
	var out []space.Field
	put := func(how string, m map[string]string) {
		for _, h := range slices.Sorted(maps.Keys(m)) {
			out = append(out, space.Field{Feature: feature, Name: how + " " + h, Value: m[h]})
		}
	}
	put("set", e.Set)
	put("add", e.Add)
	for _, h := range e.Remove {
		out = append(out, space.Field{Feature: feature, Name: "remove " + h, Value: ""})
	}
	return out
}

// change: what an application makes of a header is its own affair.
func change(what string) plan.Word {
	return func(before, after []space.Field) (plan.Class, string) {
		return plan.Neutral, plan.Arrow(what, before, after)
	}
}
