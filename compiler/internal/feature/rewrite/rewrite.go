// Package rewrite is the feature `route.rewrite`: the caller's proxy sends the request on
// with another path or host, which all that is behind it sees.
package rewrite

import (
	"cmp"
	"slices"
	"strings"

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
	"meshc.dev/meshc/internal/diag"
)

const (
	name = "rewrite"
	root = "/"
)

// Rewrite is the new place; what is empty stays as the request had it.
type Rewrite struct {
	Path *space.Move `json:"path,omitempty"`
	Host string      `json:"host,omitempty"`
}

// TraitName is "rewrite".
func (Rewrite) TraitName() string { return name }

// Moves is the new path.
func (r Rewrite) Moves() *space.Move { return r.Path }

// Image is what leaves the caller's proxy.
func (r Rewrite) Image() space.Image { return space.Image{Path: r.Path, Host: r.Host} }

// Then rewrites as r and then as next: the gateway's route before the service's.
func (r Rewrite) Then(next trait.Value) trait.Value {
	n := next.(Rewrite)
	switch {
	case n.Path == nil:
		n.Path = r.Path
	case r.Path != nil:
		both := r.Path.Then(*n.Path)
		n.Path = &both
	}
	if n.Host == "" {
		n.Host = r.Host
	}
	return n
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "rewrite", On: []resolve.On{resolve.OnRoute}, Answers: false, Forwards: true, Defaults: nil,
		Read: read, Uses: nil,
	},
	Codec: trait.JSON[Rewrite],
	// What it does to what is behind it, its image says.
	Meaning: func(v trait.Value) []space.Act { return space.Labels(space.AtWorkload, fields(v.(Rewrite))...) },
	Change: func(before, after []space.Field) (plan.Class, string) {
		return plan.Neutral, plan.Arrow("rewriting", before, after)
	},
	Envoy:      envoy.OnRoute(lower),
	Kubernetes: kubernetes.Nothing("the caller's proxy rewrites"),
	GatewayAPI: gatewayapi.OnRule(object),
}

func fields(r Rewrite) []space.Field {
	var out []space.Field
	put := func(what, value string) {
		out = append(out, space.Field{Feature: name, Name: what, Value: value})
	}
	if m := r.Path; m != nil {
		switch m.How {
		case space.Below:
			put("prefix", m.From+" to "+m.To)
		case space.Filled:
			put("path", m.From+" to "+m.To)
		case space.Substituted:
			put("regex", m.From+" to "+m.To)
		case space.Whole:
			put("path", m.To)
		}
	}
	if r.Host != "" {
		put("host", r.Host)
	}
	return out
}

// lower sets RouteAction.prefix_rewrite, regex_rewrite and host_rewrite_literal.
func lower(r *routev3.Route, v Rewrite, x *envoy.Ctx) {
	a := envoy.Action(r)
	if a == nil {
		return // a route of the service behind a gateway answers, and nobody gets the request
	}
	if v.Host != "" {
		a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: v.Host}
	}
	if v.Path != nil {
		a.PrefixRewrite, a.RegexRewrite = envoy.Moving(r, *v.Path, x)
	}
}

// object makes HTTPURLRewriteFilter, which replaces a path or the prefix that the rule matches.
func object(r *gatewayapi.Rule, v Rewrite, x *gatewayapi.Ctx) {
	if len(r.BackendRefs) == 0 {
		return // as with Envoy
	}
	f := &gatewayapi.URLRewrite{Hostname: v.Host}
	r.Filters = append(r.Filters, gatewayapi.Filter{Type: "URLRewrite", URLRewrite: f})
	if v.Path != nil {
		f.Path = r.Moving(*v.Path, x)
	}
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	r := Rewrite{Host: n.Field("host").Str()}
	by := slices.DeleteFunc([]string{"path", "prefix", "regex"}, func(f string) bool { return !n.Field(f).Exists() })
	switch {
	case len(by) > 1:
		x.Problem(diag.New(diag.CodeOneOf, n.Field(by[1]).Pos(), "%s has both a %s and a %s", n.Path(), by[0], by[1]).WithFix("keep one of them"))
	case slices.Contains(by, "path"):
		r.Path = whole(n.Field("path"), x)
	case slices.Contains(by, "prefix"):
		r.Path = x.Below(n.Field("prefix"))
	case slices.Contains(by, "regex"):
		r.Path = x.Substitution(n.Field("regex"))
	case r.Host == "":
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "the rewriting changes nothing").WithFix("set path, prefix, regex or host"))
	}
	return r
}

// whole reads `path`, in which segments of the match's template may stand, and at its end the
// rest that the template names.
func whole(n intent.Node, x *resolve.Place) *space.Move {
	to, ok := x.Path(n)
	if !ok {
		return nil
	}
	rest := "{" + x.Rest + "}"
	if x.Rest != "" && x.Match.Path.Kind != model.PathTemplate {
		return below(n, to, rest, x)
	}
	var known []string
	if x.Match.Path.Kind == model.PathTemplate {
		known = slices.DeleteFunc(strings.Split(x.Match.Path.Value, root), func(s string) bool { return !space.IsVariable(s) })
	}
	used := map[string]bool{}
	closed, open := strings.CutSuffix(to, root+rest)
	if open {
		used[rest] = true
	}
	for s := range strings.SplitSeq(closed, root) {
		switch {
		case !strings.ContainsAny(s, "{}"):
		case !space.IsVariable(s):
			x.Problem(diag.New(diag.CodePath, n.Pos(), "segment %q of the path is neither a literal nor one {name}", s).WithFix(`let the name be a segment of its own, such as "/orders/{id}"`))
			return nil
		case s == rest:
			x.Problem(misplaced(n, rest))
			return nil
		case !slices.Contains(known, s):
			x.Problem(unknown(n, s, known))
			return nil
		default:
			used[s] = true
		}
	}
	if len(used) > envoy.Groups {
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "the path takes %d segments of the request's, and at most %d can be taken", len(used), envoy.Groups).WithFix("leave some out"))
	}
	if open {
		to = closed + "/*"
	}
	if k := x.Match.Path.Kind; to == x.Match.Path.Value && (k == model.PathExact || k == model.PathTemplate) {
		x.Problem(same(n, to))
	}
	m := space.MoveFilled(x.Match.Path.Value, to)
	return &m
}

// below reads a path in which all that follows the literals of a template may stand, at its end.
func below(n intent.Node, to, rest string, x *resolve.Place) *space.Move {
	at, ok := strings.CutSuffix(to, root+rest)
	switch {
	case strings.ContainsAny(at, "{}"):
		x.Problem(misplaced(n, rest))
		return nil
	case !ok:
		m := space.MoveFilled("", to)
		return &m
	}
	from := cmp.Or(strings.TrimSuffix(x.Match.Path.Value, root), root)
	if at = cmp.Or(at, root); at == from {
		x.Problem(same(n, to))
	}
	m := space.MoveBelow(from, at)
	return &m
}

func misplaced(n intent.Node, rest string) diag.Diagnostic {
	return diag.New(diag.CodePath, n.Pos(), "the path names what its route's match does not, or not at its end").
		WithFix("name %s once, as the last segment, such as \"/new/%s\"", rest, rest)
}

func unknown(n intent.Node, segment string, known []string) diag.Diagnostic {
	d := diag.New(diag.CodeUnknown, n.Pos(), "the route's match names no segment %s", segment)
	if len(known) == 0 {
		return d.WithFix("match a template that does, such as path: template: \"/orders/%s\"", segment)
	}
	return d.WithFix("use one of %s", strings.Join(known, ", "))
}

func same(n intent.Node, path string) diag.Diagnostic {
	return diag.New(diag.CodeOneOf, n.Pos(), "%q is put in place of itself", path).WithFix("delete it, or write another path")
}
