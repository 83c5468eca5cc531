// Package csrf is the feature `csrf` of services, gateways' hosts and gateways' routes: pages of
// other origins let nobody's browser write there.
package csrf

import (
	"regexp"
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
)

const (
	name    = "csrf"
	origin  = "origin"
	referer = "referer"
	// answer is what whoever is refused gets, which RBAC does not let choose.
	answer = 403
)

// Writers are whose pages may write.
type Writers struct {
	// Origins are as in intent, sorted.
	Origins []string `json:"origins,omitempty"`
	// Host is that of the carrier, whose own pages may; "" for none that is known.
	Host string `json:"host,omitempty"`
}

// TraitName is "csrf".
func (Writers) TraitName() string { return name }

// MayAnswer is trait.Interposed: what writes and says of no page that it comes from there is refused.
func (Writers) MayAnswer(method string) (string, bool) {
	if slices.Contains(safe(), method) {
		return "", false
	}
	return name, true
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "csrf", On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false,
		Defaults: []resolve.Default{{Field: "csrf.origins", Value: "the host's own", Why: "what a site writes to itself is what the site is for"}},
		Read:     read, Uses: nil,
	},
	Codec:   trait.JSON[Writers],
	Meaning: meaning,
	Change: func(before, after []space.Field) (plan.Class, string) { // what it does is refuse, and is told as that
		return plan.Neutral, plan.Arrow("foreign writes", before, after)
	},
	Envoy: envoy.Join(
		envoy.OnRoute(func(r *routev3.Route, v Writers, _ *envoy.Ctx) {
			envoy.AddFilter(r, envoy.SlotUsers, "meshc.csrf", envoy.Denying(foreign(v)))
		}),
		envoy.OnInbound(func(h *routev3.VirtualHost, v Writers, _ *envoy.Ctx) {
			envoy.AddHostFilter(h, envoy.SlotUsers, "meshc.csrf", envoy.Denying(foreign(v)))
		}),
	).Needs(envoy.SlotUsers),
	Kubernetes: kubernetes.Nothing("the proxies refuse"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no protection against foreign writes"),
}

// safe are the methods that change nothing (RFC 9110 section 9.2.1).
func safe() []string { return []string{"GET", "HEAD", "OPTIONS", "TRACE"} }

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	list := n.Field("origins")
	v := Writers{Origins: x.Origins(list)}
	if !strings.HasPrefix(x.Host, "*") {
		v.Host = x.Host
	}
	for _, o := range list.List() {
		if o.Str() == space.EveryPage {
			x.Problem(diag.New(diag.CodeRange, o.Pos(), "any page of the web could write").WithFix("name the origins that may, or delete `csrf`"))
		}
	}
	methods := x.Match.Listed(space.MethodDim)
	switch {
	case list.Exists() && len(v.Origins) == 0:
		x.Problem(diag.New(diag.CodeNever, list.Pos(), "an empty list of origins says nothing").WithFix("name the origins that may write, or delete `origins`"))
	case len(v.Origins) == 0 && v.Host == "":
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "no page could write: only a gateway's host without a wildcard knows which pages are its own").
			WithFix(`name the origins that may, such as origins: ["https://shop.example"]`))
	case x.At != resolve.OnHost && len(methods) > 0 && !slices.ContainsFunc(methods, func(m string) bool { return !slices.Contains(safe(), m) }):
		x.Problem(diag.Warn(diag.CodeNever, n.Pos(), "nobody writes by a route that takes %s only", strings.Join(methods, ", ")).WithFix("delete `csrf`"))
	}
	return v
}

// meaning is a denial of each policy's requests.
func meaning(v trait.Value) []space.Act {
	policies := foreign(v.(Writers))
	var out []space.Act
	for _, by := range []string{origin, referer} {
		out = append(out, space.Act{At: space.AtDeny, When: policies[by], Answer: &space.Reply{Status: answer}})
	}
	return out
}

// foreign are the requests that write and come from somewhere else, by the header that says so. Envoy's
// filter of that name compares hosts alone: it takes a page of plain HTTP, into which anybody on the way can
// write, for one of the HTTPS site, and asks of a request what no test on one of its parts can say.
func foreign(v Writers) map[string][]space.Test {
	writes := space.Values(space.MethodDim, safe()...)
	writes.Not = true
	header := func(name string, not bool, ps ...space.Pattern) space.Test {
		return space.Test{Dim: space.HeaderDim(name), Any: ps, Not: not}
	}
	said := space.Pattern{Kind: space.Line, Text: ".+"}
	var pages, below []space.Pattern
	add := func(p space.Pattern) {
		pages = append(pages, p)
		if p.Kind == space.Exact {
			below = append(below, space.Pattern{Kind: space.Prefix, Text: p.Text + "/"})
		} else {
			below = append(below, space.Pattern{Kind: space.Line, Text: p.Text + "/.*"})
		}
	}
	if v.Host != "" {
		add(space.Pattern{Kind: space.Regex, Text: "https?://" + regexp.QuoteMeta(v.Host) + "(?::[0-9]+)?"})
	}
	for _, o := range v.Origins {
		add(space.Pages(o))
	}
	return map[string][]space.Test{
		origin:  {writes, header(origin, false, said), header(origin, true, pages...)},
		referer: {writes, header(origin, true, said), header(referer, true, below...)},
	}
}
