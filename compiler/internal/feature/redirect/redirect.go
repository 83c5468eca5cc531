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
	"meshc.dev/meshc/internal/diag"
)

const (
	name        = "redirect"
	defaultCode = 301
)

// Redirect is the new place; what is empty stays as the request had it.
type Redirect struct {
	Path   *space.Move `json:"path,omitempty"`
	Host   string      `json:"host,omitempty"`
	Scheme string      `json:"scheme,omitempty"`
	// Port is 0 where none is written.
	Port int `json:"port,omitempty"`
	// DropQuery leaves the query out.
	DropQuery bool `json:"dropQuery,omitempty"`
	// Code is 301, 302, 303, 307 or 308.
	Code int `json:"code"`
}

// TraitName is "redirect".
func (Redirect) TraitName() string { return name }

// Answers says that nothing is sent on.
func (Redirect) Answers() {}

// To is where whoever follows it asks next. With 303 that is asked by GET, and browsers ask
// so in place of a POST with 301 and 302 (RFC 9110 15.4).
func (r Redirect) To(a trait.Asked) trait.Asked {
	switch {
	case a.Method == "HEAD":
	case r.Code == 303, a.Method == "POST" && (r.Code == 301 || r.Code == 302):
		a.Method = "GET"
	}
	if r.Port != 0 || r.Host != "" || r.Scheme != "" && r.Scheme != a.Scheme {
		a.Port = r.Port
	}
	if r.Path != nil {
		a.Path = r.Path.Of(a.Path)
	}
	if r.DropQuery {
		a.Query = ""
	}
	a.Scheme, a.Host = cmp.Or(r.Scheme, a.Scheme), cmp.Or(r.Host, a.Host)
	return a
}

// Moves is the new path.
func (r Redirect) Moves() *space.Move { return r.Path }

// Behind replaces the prefix of the path as the service's route gets it, in one step with the
// gateway's rewriting.
func (r Redirect) Behind(m space.Image) trait.Value {
	if m.Path != nil && r.Path != nil {
		both := m.Path.Then(*r.Path)
		r.Path = &both
	}
	return r
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "redirect", On: []resolve.On{resolve.OnRoute}, Answers: true,
		Defaults: []resolve.Default{
			{Field: "route.redirect.code", Value: strconv.Itoa(defaultCode), Why: "as HTTP servers do"},
			{Field: "route.redirect.keepQuery", Value: "true", Why: "what is asked for stays the same"},
		},
		Read: read, Uses: nil,
	},
	Codec:   trait.JSON[Redirect],
	Meaning: meaning,
	Change: func(before, after []space.Field) (plan.Class, string) {
		return plan.Neutral, plan.Arrow("redirect", before, after)
	},
	Envoy:      envoy.OnRoute(lower),
	Kubernetes: kubernetes.Nothing("the caller's proxy answers"),
	GatewayAPI: gatewayapi.OnRule(object),
}

// object makes HTTPRequestRedirectFilter, which keeps the query.
func object(r *gatewayapi.Rule, v Redirect, x *gatewayapi.Ctx) {
	f := &gatewayapi.RequestRedirect{Scheme: v.Scheme, Hostname: v.Host, Port: uint32(v.Port), StatusCode: v.Code}
	if v.Path != nil {
		f.Path = r.Moving(*v.Path, x)
	}
	if v.DropQuery {
		x.Problem("an HTTPRoute's redirect has no field that leaves the query out")
	}
	r.Filters = append(r.Filters, gatewayapi.Filter{Type: "RequestRedirect", RequestRedirect: f})
}

// lower sets Route.redirect.
func lower(r *routev3.Route, v Redirect, x *envoy.Ctx) {
	codes := map[int]routev3.RedirectAction_RedirectResponseCode{
		301: routev3.RedirectAction_MOVED_PERMANENTLY, 302: routev3.RedirectAction_FOUND, 303: routev3.RedirectAction_SEE_OTHER,
		307: routev3.RedirectAction_TEMPORARY_REDIRECT, 308: routev3.RedirectAction_PERMANENT_REDIRECT,
	}
	a := &routev3.RedirectAction{HostRedirect: v.Host, PortRedirect: uint32(v.Port), StripQuery: v.DropQuery, ResponseCode: codes[v.Code]}
	switch m := v.Path; {
	case m == nil:
	case m.How == space.Whole:
		a.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: m.To}
	default:
		if prefix, regex := envoy.Moving(r, *m, x); regex != nil {
			a.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: regex}
		} else {
			a.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: prefix}
		}
	}
	if v.Scheme != "" {
		a.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: v.Scheme}
	}
	r.Action = &routev3.Route_Redirect{Redirect: a}
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	r := Redirect{Host: n.Field("host").Str(), Scheme: n.Field("scheme").Str(), Code: defaultCode}
	path, prefix := n.Field("path"), n.Field("prefix")
	switch {
	case path.Exists() && prefix.Exists():
		x.Problem(diag.New(diag.CodeOneOf, prefix.Pos(), "%s has both a path and a prefix", n.Path()).WithFix("keep one of them"))
		return nil // where it leads is not known, so that nothing else is told of it
	case path.Exists():
		to, ok := x.Path(path)
		if !ok {
			return nil
		}
		r.Path = &space.Move{How: space.Whole, To: to}
	case prefix.Exists():
		if r.Path = x.Below(prefix); r.Path == nil {
			return nil
		}
	}
	if p := n.Field("port"); p.Exists() {
		r.Port = int(p.Int())
	}
	if keep := n.Field("keepQuery"); keep.Exists() {
		r.DropQuery = !keep.Bool()
	}
	if c := n.Field("code"); c.Exists() {
		r.Code = int(c.Int())
	}
	return r
}

func meaning(v trait.Value) []space.Act {
	r := v.(Redirect)
	out := []space.Field{{Feature: name, Name: "code", Value: strconv.Itoa(r.Code)}}
	put := func(what, value string) {
		if value != "" {
			out = append(out, space.Field{Feature: name, Name: what, Value: value})
		}
	}
	put("host", r.Host)
	put("scheme", r.Scheme)
	switch m := r.Path; {
	case m == nil:
	case m.How == space.Whole:
		put("path", m.To)
	case m.How == space.Below:
		put("prefix", m.From+" to "+m.To)
	default:
		put("path", m.From+" to "+m.To)
	}
	if r.Port != 0 {
		put("port", strconv.Itoa(r.Port))
	}
	if r.DropQuery {
		put("query", "left out")
	}
	return []space.Act{{At: space.AtRoute, Answer: &space.Reply{Status: r.Code, Path: r.Path}, Fields: out}}
}
