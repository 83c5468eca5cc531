package process

import (
	"regexp"
	"slices"
	"strings"
	"time"

	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"meshc.dev/meshc/compiler/internal/target/envoy"
)

// longestAnswer is more than the bodies that a proxy keeps, in bytes.
const longestAnswer = 2 << 20

func onRoute(r *routev3.Route, v Processors, x *envoy.Ctx) {
	x.OnlyItSets(r, v, "a processor")
	for _, p := range v.Of {
		envoy.AddFilter(r, p.slot(), envoy.Processor, lower(p, x))
	}
}

func onHost(h *routev3.VirtualHost, v Processors, x *envoy.Ctx) {
	for _, p := range v.Of {
		envoy.AddHostFilter(h, p.slot(), envoy.Processor, lower(p, x))
	}
}

// slot is where it is given requests: before access it is the last of those that find out who the user is.
func (p Processor) slot() envoy.Slot {
	if p.Before {
		return envoy.SlotUsers
	}
	return envoy.SlotExtensions
}

// lower makes the filter. Nothing of an answer counts but bodies, an answer in place of the application's, and headers that are
// the processor's to set: it may neither choose another route nor what it is given, and not wait for longer.
func lower(p Processor, x *envoy.Ctx) *procv3.ExternalProcessor {
	has := func(part string) bool { return slices.Contains(p.Parts, part) }
	send := func(part string) procv3.ProcessingMode_HeaderSendMode {
		if has(part) {
			return procv3.ProcessingMode_SEND
		}
		return procv3.ProcessingMode_SKIP
	}
	body := func(part string) procv3.ProcessingMode_BodySendMode {
		if has(part) {
			return procv3.ProcessingMode_BUFFERED
		}
		return procv3.ProcessingMode_NONE
	}
	out := &procv3.ExternalProcessor{
		GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: x.Cluster(p.Target()), Authority: p.Authority(), MaxReceiveMessageLength: envoy.UInt32(longestAnswer)}}},
		ProcessingMode: &procv3.ProcessingMode{
			RequestHeaderMode: send(requestHeaders), RequestBodyMode: body(requestBody), RequestTrailerMode: procv3.ProcessingMode_SKIP,
			ResponseHeaderMode: send(responseHeaders), ResponseBodyMode: body(responseBody), ResponseTrailerMode: send(responseTrailers),
		},
		FailureModeAllow: !p.Refuse, StatusOnError: &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable}, StatPrefix: p.Name,
		MessageTimeout: envoy.Duration(time.Duration(p.Timeout)), RouteCacheAction: procv3.ExternalProcessor_RETAIN,
		MutationRules: &rulesv3.HeaderMutationRules{DisallowAll: envoy.Bool(true)}, ForwardRules: &procv3.HeaderForwardingRules{DisallowedHeaders: ofProxies()},
	}
	if len(p.Sets) > 0 {
		names := make([]string, len(p.Sets))
		for i, h := range p.Sets {
			names[i] = regexp.QuoteMeta(h)
		}
		out.MutationRules.AllowExpression = &matcherv3.RegexMatcher{Regex: "(?i:" + strings.Join(names, "|") + ")"}
	}
	if p.Told != nil {
		out.ForwardRules.AllowedHeaders = &matcherv3.ListStringMatcher{}
		for _, h := range p.Told {
			out.ForwardRules.AllowedHeaders.Patterns = append(out.ForwardRules.AllowedHeaders.Patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: h}})
		}
	}
	return out
}

// ofProxies are headers that nobody but proxies reads.
func ofProxies() *matcherv3.ListStringMatcher {
	out := &matcherv3.ListStringMatcher{}
	for _, prefix := range []string{"x-forwarded-client-cert", "x-envoy-", "x-meshc-", "meshc-"} {
		out.Patterns = append(out.Patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}})
	}
	return out
}
