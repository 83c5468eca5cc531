// Package sticky is the feature `route.sticky`: what comes from one caller goes to one and the same of
// a route's destinations.
package sticky

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
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

const name = "sticky"

// By is by what a caller is known again: a header or a cookie, the other is "".
type By struct {
	Header string `json:"header,omitempty"` // in lower case
	Cookie string `json:"cookie,omitempty"`
	// TTL of the cookie is in whole seconds, 0 for as long as a browser is open.
	TTL trait.Duration `json:"ttl,omitempty"`
}

// TraitName is "sticky".
func (By) TraitName() string { return name }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: []resolve.On{resolve.OnRoute}, Answers: false, Forwards: true, Chooses: true,
		Defaults: []resolve.Default{{Field: "route.sticky.cookie.ttl", Value: "until the browser is closed", Why: "shares change meanwhile, and with them who gets what"}},
		Read:     read, Uses: nil,
	},
	Codec: trait.JSON[By],
	Meaning: func(v trait.Value) []space.Act {
		b := v.(By)
		if b.Header != "" {
			return space.Labels(space.AtRoute, space.Field{Feature: name, Name: "header", Value: b.Header})
		}
		fields := []space.Field{{Feature: name, Name: "cookie", Value: b.Cookie, Does: space.Deed{Kind: space.MayAddAnswer, Of: "set-cookie"}}}
		if b.TTL != 0 {
			fields = append(fields, space.Field{Feature: name, Name: "for", Value: b.TTL.String(), Number: time.Duration(b.TTL).Seconds()})
		}
		return space.Labels(space.AtRoute, fields...)
	},
	Change: func(before, after []space.Field) (plan.Class, string) { // everybody's shares stay what they are
		return plan.Neutral, plan.Arrow(name, before, after)
	},
	Envoy:      envoy.Join(envoy.OnRoute(lower), envoy.OnTwin(remember)),
	Kubernetes: kubernetes.Nothing("the caller's proxy chooses"),
	GatewayAPI: gatewayapi.Refuse("what Gateway API keeps for a session is a backend's address"),
}

// lower sets WeightedCluster.use_hash_policy and the RouteAction.hash_policy that it asks. The cluster is that of the hash
// modulo the sum of the weights, in their order: so that a share that grows keeps whom it had, the sum is the same for
// all shares in percent.
func lower(r *routev3.Route, v By, _ *envoy.Ctx) {
	all := r.GetRoute().GetWeightedClusters()
	if all == nil {
		return // at this step of a canary there is nothing to choose
	}
	total := uint32(0)
	for _, c := range all.Clusters {
		total += c.GetWeight().GetValue()
	}
	if sum := uint32(10000); sum%total == 0 {
		for _, c := range all.Clusters {
			c.Weight = envoy.UInt32(c.GetWeight().GetValue() * (sum / total))
		}
	}
	all.RandomValueSpecifier = &routev3.WeightedCluster_UseHashPolicy{UseHashPolicy: wrapperspb.Bool(true)}
	r.GetRoute().HashPolicy = policies(v)
}

// remember sets the cookie where it is not there. Envoy itself would not: it sets a cookie when it hashes an address, and
// not for a choice among clusters. So a request without it is hashed by its name, and the cookie has that name in it:
// the same text, the same hash. Those that bring the cookie have a route of their own, on which none is set.
func remember(known, r *routev3.Route, v By, _ *envoy.Ctx) bool {
	if v.Cookie == "" || r.GetRoute().GetWeightedClusters() == nil {
		return false
	}
	known.Match.Headers = append(known.Match.Headers, &routev3.HeaderMatcher{Name: "cookie", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{
			Regex: `(?:.*;)?[ \t]*` + regexp.QuoteMeta(v.Cookie) + `=[^;].*`,
		}}},
	}})
	cookie := v.Cookie + "=%REQ(X-REQUEST-ID)%; Path=/; HttpOnly"
	if v.TTL != 0 {
		cookie += "; Max-Age=" + strconv.Itoa(int(time.Duration(v.TTL).Seconds()))
	}
	r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: "set-cookie", Value: cookie}})
	return true
}

func policies(v By) []*routev3.RouteAction_HashPolicy {
	if v.Header != "" {
		return []*routev3.RouteAction_HashPolicy{ofHeader(v.Header)}
	}
	cookie := &routev3.RouteAction_HashPolicy{Terminal: true, PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{Cookie: &routev3.RouteAction_HashPolicy_Cookie{Name: v.Cookie}}}
	return []*routev3.RouteAction_HashPolicy{cookie, ofHeader("x-request-id")}
}

func ofHeader(name string) *routev3.RouteAction_HashPolicy {
	return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: name}}}
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	cookie := n.Field("cookie")
	switch x.OneOf(n, "header", "cookie") {
	case "header":
		return By{Header: strings.ToLower(n.Field("header").Str())}
	case "cookie":
		b := By{Cookie: cookie.Field("name").Str(), TTL: x.Duration(cookie.Field("ttl"), 0)}
		if time.Duration(b.TTL)%time.Second != 0 {
			x.Problem(diag.New(diag.CodeRange, cookie.Field("ttl").Pos(), "ttl is %s, and browsers count whole seconds", b.TTL).WithFix("write whole seconds"))
		}
		return b
	}
	return nil
}
