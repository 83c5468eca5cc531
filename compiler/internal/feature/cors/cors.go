// Package cors is the feature `cors` of services, gateways' hosts and gateways' routes:
// which pages of other origins browsers let call. A preflight from one of them is answered
// by the proxy itself, before users and grants, and every other answer to one of them says
// that it may be read.
package cors

import (
	"slices"
	"strconv"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

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
	name   = "cors"
	origin = "origin"
	// asked is the header by which a preflight says what it is about.
	asked     = "access-control-request-method"
	preflight = "OPTIONS"
	all       = "*"
	// answer is the status of an answered preflight, which Envoy does not let choose.
	answer = 200
)

// Sharing is who may call from elsewhere and what browsers allow them. Lists are sorted.
type Sharing struct {
	// Origins are as in intent; "*" is every one.
	Origins []string `json:"origins"`
	Methods []string `json:"methods,omitempty"`
	Headers []string `json:"headers,omitempty"`
	Expose  []string `json:"expose,omitempty"`
	// MaxAge is in whole seconds; nil lets browsers choose.
	MaxAge      *int `json:"max_age,omitempty"`
	Credentials bool `json:"credentials,omitempty"`
}

// TraitName is "cors".
func (Sharing) TraitName() string { return name }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "cors", On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false, Forwards: true,
		Defaults: []resolve.Default{
			{Field: "cors.methods", Value: "GET, HEAD, POST", Why: "browsers always allow these"},
			{Field: "cors.credentials", Value: "false", Why: "a page of another origin acts for nobody unless that is said"},
		},
		Read: read, Uses: nil,
	},
	Codec:   trait.JSON[Sharing],
	Meaning: meaning,
	Change:  change,
	// CorsPolicy per route; the filter itself is always in the chain.
	Envoy: envoy.Join(
		envoy.OnRoute(func(r *routev3.Route, v Sharing, _ *envoy.Ctx) { envoy.RouteFilter(r, envoy.SlotCORS, lower(v)) }),
		envoy.OnInbound(func(h *routev3.VirtualHost, v Sharing, _ *envoy.Ctx) { envoy.HostFilter(h, envoy.SlotCORS, lower(v)) }),
	).Needs(envoy.SlotCORS),
	Kubernetes: kubernetes.Nothing("the proxies answer browsers"),
	GatewayAPI: gatewayapi.OnRule(object),
}

// mostListed is the bound of HTTPCORSFilter's lists.
const mostListed = 64

// object makes HTTPCORSFilter, whose definition takes no address as an IPv6 origin and the
// methods of RFC 9110 and PATCH only.
func object(r *gatewayapi.Rule, v Sharing, x *gatewayapi.Ctx) {
	if len(v.Origins) > mostListed || len(v.Headers) > mostListed || len(v.Expose) > mostListed {
		x.Problem("a list of cors has more than %d entries, which is the most that an HTTPRoute takes", mostListed)
	}
	for _, o := range v.Origins {
		if strings.Contains(o, "[") {
			x.Problem("an HTTPRoute takes no IPv6 address in an origin, such as %q", o)
		}
	}
	for _, m := range v.Methods {
		if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}, m) {
			x.Problem("cors of an HTTPRoute takes no method %s", m)
		}
	}
	f := &gatewayapi.CORS{AllowOrigins: v.Origins, AllowCredentials: v.Credentials, AllowMethods: v.Methods, AllowHeaders: v.Headers, ExposeHeaders: v.Expose}
	if v.MaxAge != nil {
		f.MaxAge = *v.MaxAge
	}
	r.Filters = append(r.Filters, gatewayapi.Filter{Type: "CORS", CORS: f})
}

// lower makes CorsPolicy. Without filter_enabled it holds for all requests.
func lower(v Sharing) *corsv3.CorsPolicy {
	p := &corsv3.CorsPolicy{
		AllowMethods: strings.Join(v.Methods, ","), AllowHeaders: strings.Join(v.Headers, ","), ExposeHeaders: strings.Join(v.Expose, ","),
		AllowCredentials: envoy.Bool(v.Credentials),
	}
	if v.MaxAge != nil {
		p.MaxAge = strconv.Itoa(*v.MaxAge)
	}
	for _, o := range v.Origins {
		m := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: o}}
		if pat := space.Pages(o); pat.Kind != space.Exact {
			m.MatchPattern = &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: pat.Text}}
		}
		p.AllowOriginStringMatch = append(p.AllowOriginStringMatch, m)
	}
	return p
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	v := Sharing{Origins: x.Origins(n.Field("origins")), Methods: x.Methods(n.Field("methods")), Headers: n.Field("headers").Strings(), Expose: n.Field("expose").Strings(),
		Credentials: n.Field("credentials").Bool()}
	if len(v.Origins) == 0 {
		x.Problem(diag.New(diag.CodeNever, n.Field("origins").Pos(), "an empty list of origins lets no page call").WithFix("name the origins, or delete `cors`"))
	}
	if slices.Contains(v.Origins, space.EveryPage) && v.Credentials {
		x.Problem(diag.New(diag.CodeRange, n.Field("credentials").Pos(), `any page of the web could act with its visitors' credentials: origins has "*"`).
			WithFix("name the origins that may, or leave `credentials` out"))
	}
	for _, f := range []string{"headers", "expose"} {
		for _, h := range n.Field(f).List() {
			if h.Str() == all && v.Credentials {
				x.Problem(diag.New(diag.CodeRange, h.Pos(), `to a browser that sends credentials "*" is a name like any other`).WithFix("name the header fields"))
			}
		}
	}
	if a := n.Field("maxAge"); a.Exists() {
		d := time.Duration(x.Duration(a, 0))
		if d%time.Second != 0 {
			x.Problem(diag.New(diag.CodeRange, a.Pos(), "maxAge is %s, and browsers count whole seconds", a.Str()).WithFix("write whole seconds"))
		}
		seconds := int(d / time.Second)
		v.MaxAge = &seconds
	}
	if !x.Match.Admits(space.MethodDim, preflight) {
		x.Problem(diag.Warn(diag.CodeNever, n.Pos(), "no preflight comes to a route that takes %s only", strings.Join(x.Match.Listed(space.MethodDim), ", ")).
			WithFix("add %s to its methods, or write cors at the host", preflight))
	}
	return v
}

// meaning follows Envoy's filter: a preflight has an origin that fits and says what it asks
// for; Envoy keeps one line of each of the headers.
func meaning(v trait.Value) []space.Act {
	s := v.(Sharing)
	is := func(d space.Dim, not bool, ps ...space.Pattern) space.Test {
		return space.Test{Dim: d, Any: ps, Not: not}
	}
	empty := space.Pattern{Kind: space.Exact, Text: ""}
	from := is(space.HeaderDim(origin), false)
	for _, o := range s.Origins {
		from.Any = append(from.Any, space.Pages(o))
	}
	// Envoy's filter leaves requests alone whose route has no destination.
	return []space.Act{{At: space.AtArrival, Passing: true, Fields: fields(s)}, {
		At: space.AtArrival, Passing: true,
		When: []space.Test{
			is(space.MethodDim, false, space.Pattern{Kind: space.Exact, Text: preflight}),
			from, is(space.HeaderDim(origin), true, empty),
			is(space.HeaderDim(asked), false), is(space.HeaderDim(asked), true, empty),
		},
		Answer: &space.Reply{Status: answer},
	}}
}

func fields(s Sharing) []space.Field {
	var out []space.Field
	put := func(what, answer string, values ...string) {
		for _, v := range values {
			f := space.Field{Feature: name, Name: what + " " + v}
			if answer != "" { // of every answer to a page that may call, behind whatever edits say
				f.Does = space.Deed{Kind: space.MayAddAnswer, Of: answer}
			}
			out = append(out, f)
		}
	}
	put("origin", "access-control-allow-origin", s.Origins...)
	put("method", "", s.Methods...)
	put("header", "", s.Headers...)
	put("expose", "access-control-expose-headers", s.Expose...)
	if s.Credentials {
		put("with", "access-control-allow-credentials", "credentials")
	}
	if s.MaxAge != nil {
		out = append(out, space.Field{Feature: name, Name: age, Value: (time.Duration(*s.MaxAge) * time.Second).String(), Number: float64(*s.MaxAge)})
	}
	return out
}

const age = "remembered for"

// change: whatever browsers allow that they did not allow before widens.
func change(before, after []space.Field) (plan.Class, string) {
	less := func(a, b []space.Field) bool {
		return slices.ContainsFunc(a, func(f space.Field) bool { return f.Name != age && !slices.Contains(b, f) })
	}
	class := plan.Neutral
	switch {
	case less(after, before):
		class = plan.Widening
	case less(before, after):
		class = plan.Narrowing
	}
	return class, plan.Arrow("cross-origin calls", before, after)
}
