// Package redirect is the feature `route.redirect`: the caller's own proxy
// answers with another place, and no destination sees the request.
package redirect

import (
	"cmp"
	"strconv"

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
)

const (
	name        = "redirect"
	defaultCode = 301
)

// Redirect is the new place; what is empty stays as the request had it.
type Redirect struct {
	Path   string `json:"path,omitempty"`
	Host   string `json:"host,omitempty"`
	Scheme string `json:"scheme,omitempty"`
	// Code is 301, 302, 303, 307 or 308.
	Code int `json:"code"`
}

// TraitName is "redirect".
func (Redirect) TraitName() string { return name }

// To is where whoever follows it asks next. With 303 that is asked by GET, and browsers ask
// so in place of a POST with 301 and 302 (RFC 9110 15.4).
func (r Redirect) To(scheme, host, path, method string) (string, string, string, string) {
	switch {
	case method == "HEAD":
	case r.Code == 303, method == "POST" && (r.Code == 301 || r.Code == 302):
		method = "GET"
	}
	return cmp.Or(r.Scheme, scheme), cmp.Or(r.Host, host), cmp.Or(r.Path, path), method
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "redirect", On: []resolve.On{resolve.OnRoute}, Answers: true,
		Defaults: []resolve.Default{{Field: "route.redirect.code", Value: strconv.Itoa(defaultCode), Why: "as HTTP servers do"}},
		Read:     read, Uses: nil,
	},
	Codec:   trait.JSON[Redirect],
	Meaning: meaning,
	Change: func(before, after []space.Field) (plan.Class, string) {
		return plan.Neutral, plan.Arrow("redirect", before, after)
	},
	Envoy:      envoy.OnRoute(lower),
	Kubernetes: kubernetes.Nothing("the caller's proxy answers"),
	GatewayAPI: gatewayapi.OnRule(func(r *gatewayapi.Rule, v Redirect, _ *gatewayapi.Ctx) {
		r.Filters = append(r.Filters, gatewayapi.Redirect(v.Scheme, v.Host, v.Path, v.Code))
	}),
}

// lower sets Route.redirect.
func lower(r *routev3.Route, v Redirect, _ *envoy.Ctx) {
	codes := map[int]routev3.RedirectAction_RedirectResponseCode{
		301: routev3.RedirectAction_MOVED_PERMANENTLY, 302: routev3.RedirectAction_FOUND, 303: routev3.RedirectAction_SEE_OTHER,
		307: routev3.RedirectAction_TEMPORARY_REDIRECT, 308: routev3.RedirectAction_PERMANENT_REDIRECT,
	}
	a := &routev3.RedirectAction{HostRedirect: v.Host, ResponseCode: codes[v.Code]}
	if v.Path != "" {
		a.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: v.Path}
	}
	if v.Scheme != "" {
		a.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: v.Scheme}
	}
	r.Action = &routev3.Route_Redirect{Redirect: a}
}

func read(n intent.Node, _ *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	r := Redirect{Path: n.Field("path").Str(), Host: n.Field("host").Str(), Scheme: n.Field("scheme").Str(), Code: defaultCode}
	if c := n.Field("code"); c.Exists() {
		r.Code = int(c.Int())
	}
	return r
}

func meaning(v trait.Value) []space.Act {
	r := v.(Redirect)
	out := []space.Field{{Feature: name, Name: "code", Value: strconv.Itoa(r.Code)}}
	for _, f := range []struct{ n, v string }{{"host", r.Host}, {"path", r.Path}, {"scheme", r.Scheme}} {
		if f.v != "" {
			out = append(out, space.Field{Feature: name, Name: f.n, Value: f.v})
		}
	}
	return []space.Act{{At: space.AtRoute, Answer: &space.Reply{Status: r.Code}, Fields: out}}
}
