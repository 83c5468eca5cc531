package quota

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	limitconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/internal/target/envoy"
)

const (
	kind = "meshc.quota"
	// perHundred of all requests are asked about.
	perHundred = 100
)

// units are the times by which a limiter counts.
func units() map[time.Duration]typev3.RateLimitUnit {
	const day = 24 * time.Hour
	return map[time.Duration]typev3.RateLimitUnit{
		time.Second: typev3.RateLimitUnit_SECOND, time.Minute: typev3.RateLimitUnit_MINUTE, time.Hour: typev3.RateLimitUnit_HOUR, day: typev3.RateLimitUnit_DAY,
	}
}

func onRoute(r *routev3.Route, v Quotas, x *envoy.Ctx) {
	v.filters(x, func(kind string, config proto.Message) { envoy.AddFilter(r, envoy.SlotLimits, kind, config) })
}

func onHost(h *routev3.VirtualHost, v Quotas, x *envoy.Ctx) {
	v.filters(x, func(kind string, config proto.Message) { envoy.AddHostFilter(h, envoy.SlotLimits, kind, config) })
}

// filters adds those of one carrier, in their order.
func (qs Quotas) filters(x *envoy.Ctx, add func(kind string, config proto.Message)) {
	for _, q := range qs.Quotas {
		if !q.All() {
			add(kind, envoy.Noting(q.whole(), q.Asked))
		}
		add(kind, lower(q, x))
	}
}

// whole is the quota's name for limiters.
func (q Quota) whole() string { return q.Whose + "/quota/" + q.Name }

// lower makes a filter for one quota: which limiter it asks, and what becomes of a request about which
// that does not answer, is said of a filter as a whole. What is only looked at never fails.
func lower(q Quota, x *envoy.Ctx) *ratelimitv3.RateLimit {
	enforced := envoy.Percent(perHundred)
	if q.Shadow {
		enforced = envoy.Percent(0)
	}
	return &ratelimitv3.RateLimit{
		Domain: q.Domain, Timeout: envoy.Duration(time.Duration(q.Timeout)), FailureModeDeny: q.Refuse && !q.Shadow,
		StatusOnError: &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable}, StatPrefix: q.Name,
		RateLimitedAsResourceExhausted: true, DisableXEnvoyRatelimitedHeader: true,
		FilterEnforced: &corev3.RuntimeFractionalPercent{DefaultValue: enforced, RuntimeKey: "meshc.quota.enforced"},
		RateLimitService: &limitconfigv3.RateLimitServiceConfig{
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: x.Cluster(q.Target()), Authority: q.Authority(),
			}}},
		},
		RateLimits: []*routev3.RateLimit{{Actions: actions(q), Limit: &routev3.RateLimit_Override{OverrideSpecifier: &routev3.RateLimit_Override_RateLimit{
			RateLimit: &routev3.RateLimit_Override_RateLimitOverride{RequestsPerUnit: uint32(q.Requests), Unit: units()[time.Duration(q.Per)]},
		}}}},
	}
}

// actions are what a limiter is told of a request: whose quota it is, and what it is counted by. Of requests that
// the quota leaves out it hears nothing.
func actions(q Quota) []*routev3.RateLimit_Action {
	const key = "quota"
	of := &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_GenericKey_{
		GenericKey: &routev3.RateLimit_Action_GenericKey{DescriptorKey: key, DescriptorValue: q.whole()},
	}}
	if !q.All() {
		of, _ = envoy.NotedCount(key, q.whole())
	}
	by, _ := envoy.Counted(q.By)
	return append([]*routev3.RateLimit_Action{of}, by...)
}
