// Package headers is the features `route.requestHeaders` and
// `route.responseHeaders`: edits of header fields on the way.
package headers

import (
	"fmt"
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
	Set    map[string]string   `json:"set,omitempty"`
	Add    map[string][]string `json:"add,omitempty"`
	Remove []string            `json:"remove,omitempty"`
}

// then is the one edit that does what e does and then what next does.
func (e Edit) then(next Edit) Edit {
	out := Edit{Set: maps.Clone(e.Set), Add: maps.Clone(e.Add)}
	if out.Set == nil {
		out.Set = map[string]string{}
	}
	if out.Add == nil {
		out.Add = map[string][]string{}
	}
	gone := map[string]bool{}
	for _, h := range e.Remove {
		gone[h] = true
	}
	clear := func(h string) {
		delete(out.Set, h)
		delete(out.Add, h)
		delete(gone, h)
	}
	for _, h := range next.Remove {
		clear(h)
		gone[h] = true
	}
	for h, v := range next.Set {
		clear(h)
		out.Set[h] = v
	}
	for h, vs := range next.Add {
		if gone[h] { // the first of the lines stands in place of those that are removed
			clear(h)
			out.Set[h], vs = vs[0], vs[1:]
		}
		if len(vs) > 0 {
			out.Add[h] = slices.Concat(out.Add[h], vs)
		}
	}
	out.Remove = slices.Sorted(maps.Keys(gone))
	return out
}

// RequestEdit edits what the destination sees.
type RequestEdit struct{ Edit }

// TraitName is "request-headers".
func (RequestEdit) TraitName() string { return requestName }

// Image is what whoever is behind sees of the headers.
func (e RequestEdit) Image() space.Image {
	edits := map[string]space.Edit{}
	for _, h := range e.Remove {
		edits[h] = space.Edit{Name: h, Clear: true}
	}
	for h, v := range e.Set {
		edits[h] = space.Edit{Name: h, Clear: true, Lines: []string{v}}
	}
	for h, vs := range e.Add {
		one := edits[h]
		one.Name, one.Lines = h, slices.Concat(one.Lines, vs)
		edits[h] = one
	}
	var out space.Image
	for _, h := range slices.Sorted(maps.Keys(edits)) {
		out.Headers = append(out.Headers, edits[h])
	}
	return out
}

// Then edits as e and then as next: the gateway's proxy before the service's route.
func (e RequestEdit) Then(next trait.Value) trait.Value {
	return RequestEdit{e.then(next.(RequestEdit).Edit)}
}

// Apart lets each destination of a route have edits of its own, behind the route's.
func (RequestEdit) Apart() {}

// ResponseEdit edits what the caller sees.
type ResponseEdit struct{ Edit }

// TraitName is "response-headers".
func (ResponseEdit) TraitName() string { return responseName }

// Then edits as next and then as e: an answer comes back by the service's route first.
func (e ResponseEdit) Then(next trait.Value) trait.Value {
	return ResponseEdit{next.(ResponseEdit).then(e.Edit)}
}

// Apart lets each destination of a route have edits of its own, before the route's on the way back.
func (ResponseEdit) Apart() {}

// Beside leaves the place to which a redirect sends to the redirect: what a gateway's route says of
// it is about the answers of the service behind it, not about those of the proxy itself.
func (e ResponseEdit) Beside(all trait.Set) trait.Value {
	if !moves(all) {
		return e
	}
	e.Set, e.Add = maps.Clone(e.Set), maps.Clone(e.Add)
	delete(e.Set, location)
	delete(e.Add, location)
	e.Remove = slices.DeleteFunc(slices.Clone(e.Remove), func(h string) bool { return h == location })
	if len(e.Set)+len(e.Add)+len(e.Remove) == 0 {
		return nil
	}
	return e
}

// location is the header in which a redirect says where to.
const location = "location"

// moves reports whether a route with these values answers with a redirect.
func moves(all trait.Set) bool {
	return slices.ContainsFunc(all.Names(), func(name string) bool {
		v, _ := all.Lookup(name)
		_, ok := v.(trait.Moved)
		return ok
	})
}

// fits refuses edits of what the redirect of the same route says.
func fits(_ trait.Value, others trait.Set, n intent.Node, x *resolve.Place) {
	if !moves(others) {
		return
	}
	refuse := func(at diag.Pos) {
		x.Problem(diag.New(diag.CodeRange, at, "header %q is what the route's redirect says, and cannot be edited", location).
			WithFix("say under `redirect` where it leads: host, path, prefix, port, scheme"))
	}
	for _, how := range []string{"set", "add"} {
		for _, f := range n.Field(how).Fields() {
			if strings.EqualFold(f.Name, location) {
				refuse(f.Node.Pos())
			}
		}
	}
	for _, h := range n.Field("remove").List() {
		if strings.EqualFold(h.Str(), location) {
			refuse(h.Pos())
		}
	}
}

// Request is the row of `requestHeaders`.
var Request = feature.Feature{
	Rule: resolve.Rule{Name: requestName, Field: "requestHeaders", On: []resolve.On{resolve.OnRoute, resolve.OnHost, resolve.OnDestination}, Adds: true, Answers: false, Defaults: nil, Uses: nil,
		Read: func(n intent.Node, x *resolve.Place) trait.Value {
			if e, ok := read(n, x); ok {
				return RequestEdit{e}
			}
			return nil
		}},
	Codec: trait.JSON[RequestEdit],
	Meaning: func(v trait.Value) []space.Act {
		return space.Labels(space.AtWorkload, fields(requestName, v.(RequestEdit).Edit, ofRequests())...)
	},
	Change: change("request headers"),
	// Route.request_headers_to_add / _to_remove.
	Envoy: envoy.Join(envoy.OnRoute(func(r *routev3.Route, v RequestEdit, x *envoy.Ctx) {
		v.bounded(x)
		r.RequestHeadersToAdd = append(r.RequestHeadersToAdd, envoy.HeaderOptions(v.Set, v.Add)...)
		r.RequestHeadersToRemove = append(r.RequestHeadersToRemove, v.Remove...)
	}), envoy.OnShare(func(c *routev3.WeightedCluster_ClusterWeight, v RequestEdit, x *envoy.Ctx) {
		v.bounded(x)
		c.RequestHeadersToAdd = append(c.RequestHeadersToAdd, envoy.HeaderOptions(v.Set, v.Add)...)
		c.RequestHeadersToRemove = append(c.RequestHeadersToRemove, v.Remove...)
	})),
	Kubernetes: kubernetes.Nothing("the caller's proxy edits"),
	GatewayAPI: gatewayapi.OnRule(func(r *gatewayapi.Rule, v RequestEdit, _ *gatewayapi.Ctx) {
		r.Filters = append(r.Filters, gatewayapi.Filter{Type: "RequestHeaderModifier", RequestHeaderModifier: gatewayapi.Headers(v.Set, v.Add, v.Remove)})
	}),
}

// Response is the row of `responseHeaders`.
var Response = feature.Feature{
	Rule: resolve.Rule{Name: responseName, Field: "responseHeaders", On: []resolve.On{resolve.OnRoute, resolve.OnHost, resolve.OnDestination}, Adds: true, Answers: false, Defaults: nil, Fits: fits, Uses: nil,
		Read: func(n intent.Node, x *resolve.Place) trait.Value {
			e, ok := read(n, x)
			if slices.Contains(e.Remove, dated) {
				x.Problem(diag.New(diag.CodeNever, n.Field("remove").Pos(), "an answer always has a %s: the first proxy on its way writes it where there is none", dated).WithFix("leave it out"))
			}
			if ok {
				return ResponseEdit{e}
			}
			return nil
		}},
	Codec: trait.JSON[ResponseEdit],
	Meaning: func(v trait.Value) []space.Act {
		return space.Labels(space.AtRoute, fields(responseName, v.(ResponseEdit).Edit, ofAnswers())...)
	},
	Change: change("response headers"),
	// Route.response_headers_to_add / _to_remove.
	Envoy: envoy.Join(envoy.OnRoute(func(r *routev3.Route, v ResponseEdit, x *envoy.Ctx) {
		v.bounded(x)
		r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd, envoy.HeaderOptions(v.Set, v.Add)...)
		r.ResponseHeadersToRemove = append(r.ResponseHeadersToRemove, v.Remove...)
	}), envoy.OnShare(func(c *routev3.WeightedCluster_ClusterWeight, v ResponseEdit, x *envoy.Ctx) {
		v.bounded(x)
		c.ResponseHeadersToAdd = append(c.ResponseHeadersToAdd, envoy.HeaderOptions(v.Set, v.Add)...)
		c.ResponseHeadersToRemove = append(c.ResponseHeadersToRemove, v.Remove...)
	})),
	Kubernetes: kubernetes.Nothing("the caller's proxy edits"),
	GatewayAPI: gatewayapi.OnRule(func(r *gatewayapi.Rule, v ResponseEdit, _ *gatewayapi.Ctx) {
		r.Filters = append(r.Filters, gatewayapi.Filter{Type: "ResponseHeaderModifier", ResponseHeaderModifier: gatewayapi.Headers(v.Set, v.Add, v.Remove)})
	}),
}

// dated is the header that Envoy writes into every answer that has none, behind all edits.
const dated = "date"

// reserved are headers that the proxies themselves rest on: an edit would change
// where a request goes, or forge who sent it, or be lost at the next proxy.
func reserved(h string) bool {
	return h != "x-forwarded-for" && hop.Reserved(h) || hop.OfConnection(h) || h == hop.NotAnswered
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
			h := use(f.Name, how, f.Node.Pos())
			if _, ok := m[h]; ok {
				x.Problem(diag.New(diag.CodeDuplicate, f.Node.Pos(), "header %q stands under %s in two spellings, and names of headers have no case", h, how).WithFix("keep one of them"))
			}
			if how == "add" && hop.Single(h) {
				x.Problem(diag.Warn(diag.CodeTwoValues, f.Node.Pos(), "header %q has one value, and beside one that is there already a second line is added, which others read in ways of their own", h).
					WithFix("write it under `set`"))
			}
			m[h] = v
		}
		return m
	}
	e.Set = edits("set")
	for h, v := range edits("add") {
		if e.Add == nil {
			e.Add = map[string][]string{}
		}
		e.Add[h] = []string{v}
	}
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

// bounded notes a problem if two routes together add more than each alone may.
func (e Edit) bounded(x *envoy.Ctx) {
	if lines, size := e.adds(); lines > hop.EditLines || size > hop.EditBytes {
		x.Problem(fmt.Sprintf("make fewer or shorter edits: %d lines and %d bytes of header at most", hop.EditLines, hop.EditBytes),
			"the edits of this route and of the service's route behind it add up to %d lines and %d bytes of header", lines, size)
	}
}

// adds is how many lines, and bytes of names and values, an edit may add.
func (e Edit) adds() (lines, size int) {
	for name, value := range e.Set {
		lines, size = lines+1, size+len(name)+len(value)
	}
	for name, values := range e.Add {
		for _, value := range values {
			lines, size = lines+1, size+len(name)+len(value)
		}
	}
	return lines, size
}

// deeds are how edits of requests, or of answers, clear, set and add.
type deeds [3]space.DeedKind

func ofRequests() deeds { return deeds{space.ClearsRequest, space.SetsRequest, space.AddsRequest} }

func ofAnswers() deeds { return deeds{space.ClearsAnswer, space.SetsAnswer, space.AddsAnswer} }

func fields(feature string, e Edit, does deeds) []space.Field {
	var out []space.Field
	for _, h := range slices.Sorted(maps.Keys(e.Set)) {
		out = append(out, space.Field{Feature: feature, Name: "set " + h, Value: e.Set[h], Does: space.Deed{Kind: does[1], Of: h}})
	}
	for _, h := range slices.Sorted(maps.Keys(e.Add)) {
		for _, v := range e.Add[h] {
			out = append(out, space.Field{Feature: feature, Name: "add " + h, Value: v, Does: space.Deed{Kind: does[2], Of: h}})
		}
	}
	for _, h := range e.Remove {
		out = append(out, space.Field{Feature: feature, Name: "remove " + h, Value: "", Does: space.Deed{Kind: does[0], Of: h}})
	}
	return out
}

// change: what an application makes of a header is its own affair.
func change(what string) plan.Word {
	return func(before, after []space.Field) (plan.Class, string) {
		return plan.Neutral, plan.Arrow(what, before, after)
	}
}
