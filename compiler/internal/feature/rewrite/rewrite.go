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
	name     = "rewrite"
	hostName = "rewrite-host"
	root     = "/"
)

// Rewrite is the new path.
type Rewrite struct {
	Path *space.Move `json:"path"`
}

// TraitName is "rewrite".
func (Rewrite) TraitName() string { return name }

// Moves is the new path.
func (r Rewrite) Moves() *space.Move { return r.Path }

// Image is what leaves the caller's proxy.
func (r Rewrite) Image() space.Image { return space.Image{Path: r.Path} }

// Then rewrites as r and then as next: the gateway's route before the service's.
func (r Rewrite) Then(next trait.Value) trait.Value {
	both := r.Path.Then(*next.(Rewrite).Path)
	return Rewrite{&both}
}

// Host is the new host.
type Host struct {
	Host string `json:"host"`
}

// TraitName is "rewrite-host".
func (Host) TraitName() string { return hostName }

// Image is what leaves the caller's proxy.
func (h Host) Image() space.Image { return space.Image{Host: h.Host} }

// Then is the host that is written last on the way.
func (Host) Then(next trait.Value) trait.Value { return next }

// Apart lets each destination of a route be asked by another host.
func (Host) Apart() {}

// ToHost is the row of the host that a rewriting or a destination asks for.
var ToHost = feature.Feature{
	Rule: resolve.Rule{
		Name: hostName, Field: "host", Within: name, On: []resolve.On{resolve.OnRoute, resolve.OnDestination}, Answers: false, Forwards: true, Defaults: nil,
		Read: func(n intent.Node, _ *resolve.Place) trait.Value {
			if !n.Exists() {
				return nil
			}
			return Host{n.Str()}
		}, Uses: nil,
	},
	Codec: trait.JSON[Host],
	Meaning: func(v trait.Value) []space.Act {
		return space.Labels(space.AtWorkload, space.Field{Feature: name, Name: "host", Value: v.(Host).Host, Does: space.Deed{Kind: space.SetsHost}})
	},
	Change: Feature.Change,
	// RouteAction.host_rewrite_literal, and that of weighted clusters.
	Envoy: envoy.Join(envoy.OnRoute(func(r *routev3.Route, v Host, _ *envoy.Ctx) {
		if a := envoy.Action(r); a != nil {
			a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: v.Host}
		}
	}), envoy.OnShare(func(c *routev3.WeightedCluster_ClusterWeight, v Host, _ *envoy.Ctx) {
		c.HostRewriteSpecifier = &routev3.WeightedCluster_ClusterWeight_HostRewriteLiteral{HostRewriteLiteral: v.Host}
	})),
	Kubernetes: kubernetes.Nothing("the caller's proxy rewrites"),
	GatewayAPI: gatewayapi.OnRule(func(r *gatewayapi.Rule, v Host, _ *gatewayapi.Ctx) {
		if f := rewriting(r); f != nil {
			f.Hostname = v.Host
		}
	}),
}

// Feature is the row of the path that a rewriting makes.
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
	return out
}

// lower sets RouteAction.prefix_rewrite and regex_rewrite.
func lower(r *routev3.Route, v Rewrite, x *envoy.Ctx) {
	a := envoy.Action(r)
	if a == nil {
		return // a route of the service behind a gateway answers, and nobody gets the request
	}
	a.PrefixRewrite, a.RegexRewrite = envoy.Moving(r, *v.Path, x)
}

// object makes HTTPURLRewriteFilter, which replaces a path or the prefix that the rule matches.
func object(r *gatewayapi.Rule, v Rewrite, x *gatewayapi.Ctx) {
	if f := rewriting(r); f != nil {
		f.Path = r.Moving(*v.Path, x)
	}
}

// rewriting is the one filter of a rule that rewrites, nil where nobody gets the request, as with Envoy.
func rewriting(r *gatewayapi.Rule) *gatewayapi.URLRewrite {
	if len(r.BackendRefs) == 0 {
		return nil
	}
	for _, f := range r.Filters {
		if f.URLRewrite != nil {
			return f.URLRewrite
		}
	}
	f := &gatewayapi.URLRewrite{}
	r.Filters = append(r.Filters, gatewayapi.Filter{Type: "URLRewrite", URLRewrite: f})
	return f
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	r := Rewrite{}
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
	case !n.Has("host"):
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "the rewriting changes nothing").WithFix("set path, prefix, regex or host"))
	}
	if r.Path == nil {
		return nil
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
