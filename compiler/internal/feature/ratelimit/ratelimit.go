// Package ratelimit is the feature `service.rateLimit`: each proxy instance of
// the called service admits so many requests in a time and answers 429 above.
package ratelimit

import (
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

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
	name = "rate-limit"
	// shortest is Envoy's bound for TokenBucket.fill_interval.
	shortest = 50 * time.Millisecond
)

// Limit is a token bucket.
type Limit struct {
	Requests int            `json:"requests"`
	Per      trait.Duration `json:"per"`
	// Burst is the size of the bucket, at least Requests.
	Burst int `json:"burst"`
}

// TraitName is "rate-limit".
func (Limit) TraitName() string { return name }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "rateLimit", On: []resolve.On{resolve.OnService}, Answers: false,
		Defaults: []resolve.Default{{Field: "service.rateLimit.burst", Value: "requests", Why: "no more at once than in the whole time"}},
		Read:     read, Uses: nil,
	},
	Codec:   trait.JSON[Limit],
	Meaning: meaning,
	Change:  change,
	Envoy: envoy.OnInbound(func(h *routev3.VirtualHost, v Limit, _ *envoy.Ctx) {
		envoy.HostFilter(h, envoy.SlotLocalRateLimit, lower(v))
	}).Needs(envoy.SlotLocalRateLimit),
	Kubernetes: kubernetes.Nothing("the callee's proxies count"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no rate limits"),
}

// lower makes the filter's configuration: enabled and enforced for all requests
// (both default to 0 %, so that a bucket alone limits nothing).
func lower(v Limit) *ratelimitv3.LocalRateLimit {
	always := func(key string) *corev3.RuntimeFractionalPercent {
		return &corev3.RuntimeFractionalPercent{DefaultValue: envoy.Percent(100), RuntimeKey: key}
	}
	return &ratelimitv3.LocalRateLimit{
		StatPrefix: "local_rate_limit",
		TokenBucket: &typev3.TokenBucket{
			MaxTokens:     uint32(v.Burst),
			TokensPerFill: envoy.UInt32(uint32(v.Requests)),
			FillInterval:  envoy.Duration(time.Duration(v.Per)),
		},
		FilterEnabled:  always("local_rate_limit_enabled"),
		FilterEnforced: always("local_rate_limit_enforced"),
	}
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	l := Limit{Requests: int(n.Field("requests").Int()), Per: x.Duration(n.Field("per"), time.Second)}
	if time.Duration(l.Per) < shortest {
		x.Problem(diag.New(diag.CodeRange, n.Field("per").Pos(), "the limit's time %s is below %s", l.Per, shortest).WithFix("write fewer requests for a longer time"))
	}
	l.Burst = l.Requests
	if b := n.Field("burst"); b.Exists() {
		if l.Burst = int(b.Int()); l.Burst < l.Requests {
			x.Problem(diag.New(diag.CodeRange, b.Pos(), "burst %d is below the %d requests of the limit", l.Burst, l.Requests).WithFix("write at least %d", l.Requests))
		}
	}
	return l
}

func meaning(v trait.Value) []space.Act {
	l := v.(Limit)
	return space.Labels(space.AtWorkload, // behind the grants: who has none spends no tokens
		space.Field{Feature: name, Name: "burst", Value: strconv.Itoa(l.Burst)},
		space.Field{Feature: name, Name: "limit", Value: strconv.Itoa(l.Requests) + " per " + l.Per.String()})
}

// change: a limit that appears refuses requests that got through; one that goes or moves protects less.
func change(before, after []space.Field) (plan.Class, string) {
	if len(before) == 0 {
		return plan.Narrowing, plan.Arrow("rate limit", before, after)
	}
	return plan.Weakening, plan.Arrow("rate limit", before, after)
}
