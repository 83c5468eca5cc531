package authorize

import (
	"regexp"
	"slices"
	"strings"
	"time"

	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/internal/hop"
)

const (
	// What the filters of the position are called: the one that keeps from callers' proxies what authorizers say of
	// retries, the one that removes headers, those that note which requests are asked about, and those that ask.
	marking, removal, noting, kind = "meshc.marked", "meshc.unset", "meshc.asked", "meshc.authorize"
	// Answers of an authorizer have no need of more, in bytes.
	longestAnswer, longestDenial = 64 << 10, 32 << 10
)

func onRoute(r *routev3.Route, v Questions, x *envoy.Ctx) {
	for _, h := range x.Edited(v.TraitName()) {
		if slices.Contains(v.Removed, h) {
			x.Problem("write another header", "the route edits header %s, which authorizers set", h)
		}
	}
	for _, h := range envoy.ChosenBy(r, v.Image()) {
		x.Problem("test another header", "the route is chosen by header %s, which an authorizer sets that is asked behind it: the visitor has written it", h)
	}
	v.untested(x)
	for _, f := range v.filters(x) {
		envoy.AddFilter(r, envoy.SlotAuthorize, f.kind, f.config)
	}
}

func onHost(h *routev3.VirtualHost, v Questions, x *envoy.Ctx) {
	if len(v.Of) > 0 {
		envoy.AddHostFilter(h, envoy.SlotAuthorize, marking, envoy.Marking())
	}
	for _, f := range v.filters(x) {
		envoy.AddHostFilter(h, envoy.SlotAuthorize, f.kind, f.config)
	}
}

// untested refuses denies of the gateway that test a header which an authorizer sets: it is asked behind them,
// and what they see the visitor has written.
func (qs Questions) untested(x *envoy.Ctx) {
	for _, d := range x.Gateway.AllDenies() {
		for _, h := range slices.Concat(d.Headers, d.Not.Headers) {
			if slices.ContainsFunc(qs.Image().Headers, func(e space.Edit) bool { return e.Name == h.Name && e.Open }) {
				x.Problem("test another header", "deny %q tests header %s, which an authorizer sets that is asked behind it", d.Name, h.Name)
			}
		}
	}
}

// filter is one of the position.
type filter struct {
	kind   string
	config proto.Message
}

// filters are those of one carrier, in their order.
func (qs Questions) filters(x *envoy.Ctx) []filter {
	var out []filter
	if len(qs.Removed) > 0 {
		edits := make([]hop.Edit, len(qs.Removed))
		for i, h := range qs.Removed {
			edits[i] = hop.Whole(h)
		}
		out = append(out, filter{removal, envoy.Removal(edits...)})
	}
	for _, q := range qs.Of {
		f := lower(q, x)
		if !q.All() {
			noted := name + "." + q.Authorizer
			out = append(out, filter{noting, envoy.Noting(noted, q.Asked)})
			f.FilterEnabledMetadata = envoy.Noted(noted)
		}
		out = append(out, filter{kind, f})
	}
	return out
}

// lower makes the filter that asks. Nothing of an answer gets further than its verdict and the headers that
// are the authorizer's to set.
func lower(q Question, x *envoy.Ctx) *authzv3.ExtAuthz {
	out := &authzv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3,
		Services: &authzv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			Timeout: envoy.Duration(time.Duration(q.Timeout)),
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: x.Cluster(q.Target()), Authority: q.Authority(), MaxReceiveMessageLength: envoy.UInt32(longestAnswer),
			}},
		}},
		FailureModeAllow: q.FailOpen, StatusOnError: &typev3.HttpStatus{Code: typev3.StatusCode_Forbidden}, StatPrefix: strings.ReplaceAll(q.Authorizer, "/", "_"),
		ValidateMutations: true, EnforceResponseHeaderLimits: true, MaxDeniedResponseBodyBytes: longestDenial,
		DecoderHeaderMutationRules:     &rulesv3.HeaderMutationRules{DisallowAll: envoy.Bool(true)},
		EnableDynamicMetadataIngestion: envoy.Bool(false),
	}
	if len(q.Sets) > 0 {
		names := make([]string, len(q.Sets))
		for i, h := range q.Sets {
			names[i] = regexp.QuoteMeta(h)
		}
		out.DecoderHeaderMutationRules.AllowExpression = &matcherv3.RegexMatcher{Regex: "(?i:" + strings.Join(names, "|") + ")"}
	}
	if q.Told != nil {
		out.AllowedHeaders = &matcherv3.ListStringMatcher{}
		for _, h := range q.Told {
			out.AllowedHeaders.Patterns = append(out.AllowedHeaders.Patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: h}})
		}
	}
	if q.Body > 0 {
		// Bytes, for a body need not be text.
		out.WithRequestBody = &authzv3.BufferSettings{MaxRequestBytes: uint32(q.Body), PackAsBytes: true}
	}
	return out
}
