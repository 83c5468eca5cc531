// Package ratelimit is the feature `rateLimit` of services, gateways' hosts and gateways' routes: each
// proxy admits so many requests in a time, of all or of each of those by whom it counts, and answers
// 429 above.
package ratelimit

import (
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"google.golang.org/protobuf/proto"

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
	name = "rate-limit"
	// shortest is Envoy's bound for TokenBucket.fill_interval.
	shortest = 50 * time.Millisecond
	// tooMany is the status of what is refused where intent names none (RFC 6585 section 4).
	tooMany = 429
	// known are as many of those by whom a limit counts as each proxy remembers. Envoy's own is 20.
	known = 1000
)

// Limits are those of one carrier, sorted by name.
type Limits []Limit

// Limit is a token bucket, or one for each of those by whom it counts.
type Limit struct {
	Name     string         `json:"name"`
	Requests int            `json:"requests"`
	Per      trait.Duration `json:"per"`
	// Burst is the size of the bucket, at least Requests.
	Burst int `json:"burst"`
	// By is what requests have in common that count together; nothing for all.
	By trait.CountedBy `json:"by,omitzero"`
	// Status is 429 if it is 0.
	Status int `json:"status,omitempty"`
	// Shadow limits are counted and hold nobody.
	Shadow bool `json:"shadow,omitempty"`
	// Gateway says that a gateway counts.
	Gateway bool `json:"gateway,omitempty"`
	// Asked are the requests that it counts.
	model.Asked
}

// TraitName is "rate-limit".
func (Limits) TraitName() string { return name }

// Demands is trait.Demanding: who comes too often is refused.
func (ls Limits) Demands(method, path string) string {
	for _, l := range ls {
		if !l.Shadow && l.Takes(method, path) {
			return "rateLimit: " + strconv.Quote(l.Name)
		}
	}
	return ""
}

// Claims are those by which some limit counts.
func (ls Limits) Claims() []trait.CountedClaim {
	var out []trait.CountedClaim
	for _, l := range ls {
		out = append(out, l.By.Claims...)
	}
	return out
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "rateLimit", On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false, Forwards: true,
		Defaults: []resolve.Default{
			{Field: "service.rateLimit.burst", Value: "requests", Why: "no more at once than in the whole time"},
			{Field: "service.rateLimit.by", Value: "all together", Why: "it protects the service, whoever asks"},
			{Field: "service.rateLimit.status", Value: strconv.Itoa(tooMany), Why: "it says what is wrong (RFC 6585)"},
		},
		Read: read, Uses: nil,
	},
	Codec:   trait.JSON[Limits],
	Meaning: meaning,
	Change:  change,
	Envoy: envoy.Join(
		envoy.OnRoute(func(r *routev3.Route, v Limits, _ *envoy.Ctx) {
			v.filters(func(kind string, config proto.Message) { envoy.AddFilter(r, envoy.SlotLimits, kind, config) })
		}),
		envoy.OnInbound(func(h *routev3.VirtualHost, v Limits, _ *envoy.Ctx) {
			v.filters(func(kind string, config proto.Message) { envoy.AddHostFilter(h, envoy.SlotLimits, kind, config) })
		}),
	).Needs(envoy.SlotLimits),
	Kubernetes: kubernetes.Nothing("the proxies count"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no rate limits"),
}

// filters adds those of one carrier, in their order.
func (ls Limits) filters(add func(kind string, config proto.Message)) {
	const kind = "meshc.rate"
	for _, l := range ls.inOrder() {
		if !l.All() {
			add(kind, envoy.Noting(l.noted(), l.Asked))
		}
		add(kind, lower(l))
	}
}

// noted is the name under which its requests are noted.
func (l Limit) noted() string { return name + "." + l.Name }

// inOrder has the limits that count by something in front of those for all together, and of these the ones for
// some requests in front of those for all: who asks too often takes nothing of what is everybody's.
func (ls Limits) inOrder() Limits {
	out := slices.Clone(ls)
	slices.SortStableFunc(out, func(a, b Limit) int { return a.shared() - b.shared() })
	return out
}

// shared grows with how many share a bucket.
func (l Limit) shared() int {
	switch {
	case !l.By.IsZero():
		return 0
	case !l.All():
		return 1
	}
	return 2
}

// lower makes the filter's configuration: enabled for all requests, and enforced unless it is a
// shadow (both default to 0 %, so that a bucket alone limits nothing). The counters of one are
// "NAME.http_local_rate_limit.…".
func lower(l Limit) *ratelimitv3.LocalRateLimit {
	share := func(percent float64, key string) *corev3.RuntimeFractionalPercent {
		return &corev3.RuntimeFractionalPercent{DefaultValue: envoy.Percent(percent), RuntimeKey: key}
	}
	enforced := 100.0
	if l.Shadow {
		enforced = 0
	}
	bucket := &typev3.TokenBucket{
		MaxTokens:     uint32(l.Burst),
		TokensPerFill: envoy.UInt32(uint32(l.Requests)),
		FillInterval:  envoy.Duration(time.Duration(l.Per)),
	}
	out := &ratelimitv3.LocalRateLimit{
		StatPrefix:     "rate_limit." + l.Name,
		FilterEnabled:  share(100, "local_rate_limit_enabled"),
		FilterEnforced: share(enforced, "local_rate_limit_enforced"),
	}
	if l.Status != 0 {
		out.Status = &typev3.HttpStatus{Code: typev3.StatusCode(l.Status)}
	}
	actions, entries := envoy.Counted(l.By)
	if !l.All() {
		action, entry := envoy.NotedCount("limit", l.noted())
		actions, entries = append(actions, action), append(entries, entry)
	}
	if len(actions) == 0 {
		out.TokenBucket = bucket
		return out
	}
	out.RateLimits = []*routev3.RateLimit{{Actions: actions}}
	out.Descriptors = []*commonv3.LocalRateLimitDescriptor{{Entries: entries, TokenBucket: bucket}}
	out.MaxDynamicDescriptors = envoy.UInt32(known)
	return out
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	var out Limits
	for _, e := range n.Fields() {
		out = append(out, limit(e.Name, e.Node, x))
	}
	if len(out) == 0 {
		return nil
	}
	slices.SortFunc(out, func(a, b Limit) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func limit(of string, n intent.Node, x *resolve.Place) Limit {
	l := Limit{Name: of, Requests: int(n.Field("requests").Int()), Per: x.Duration(n.Field("per"), time.Second), Status: int(n.Field("status").Int()), Shadow: n.Field("shadow").Bool()}
	if time.Duration(l.Per) < shortest {
		x.Problem(diag.New(diag.CodeRange, n.Field("per").Pos(), "the limit's time %s is below %s", l.Per, shortest).WithFix("write fewer requests for a longer time"))
	}
	l.Burst = l.Requests
	if b := n.Field("burst"); b.Exists() {
		if l.Burst = int(b.Int()); l.Burst < l.Requests {
			x.Problem(diag.New(diag.CodeRange, b.Pos(), "burst %d is below the %d requests of the limit", l.Burst, l.Requests).WithFix("write at least %d", l.Requests))
		}
	}
	if _, known := typev3.StatusCode_name[int32(l.Status)]; !known { //nolint:gosec // the schema bounds it
		x.Problem(diag.New(diag.CodeRange, n.Field("status").Pos(), "no proxy answers with %d: it is no status that HTTP has", l.Status).WithFix("write one that callers know, such as 429 or 503"))
	}
	if l.Status == tooMany {
		l.Status = 0
	}
	l.By, l.Asked, l.Gateway = x.CountedBy(n.Field("by")), x.Asked(n), x.Gateway
	return l
}

func meaning(v trait.Value) []space.Act {
	var out []space.Act
	for _, l := range v.(Limits) {
		text := strconv.Itoa(l.Requests) + " per " + l.Per.String()
		if by := l.By.Words(); by != "" {
			text += " by " + by
		}
		if l.Burst != l.Requests {
			text += ", burst " + strconv.Itoa(l.Burst)
		}
		if l.Status != 0 {
			text += ", answered with " + strconv.Itoa(l.Status)
		}
		if l.Shadow {
			text += countedOnly
		}
		// Behind the grants: who has none spends no tokens.
		out = append(out, l.Acts(space.AtWorkload, l.Gateway, l.Name, space.Field{Feature: name, Name: l.Name, Value: text})...)
	}
	return out
}

// countedOnly is what is said of a shadow.
const countedOnly = ", counted only"

// change: a limit that appears, or is for more requests, refuses some that got through; one that goes, moves or is
// for others protects less. One that is only counted is none.
func change(before, after []space.Field) (plan.Class, string) {
	class := plan.Neutral
	held := func(fs []space.Field, limit string) string {
		if v := plan.Value(fs, limit); !strings.HasSuffix(v, countedOnly) {
			return v
		}
		return ""
	}
	for _, limit := range slices.Concat(before, after) {
		switch b, a := held(before, limit.Name), held(after, limit.Name); {
		case strings.Contains(limit.Name, " "): // tells of which requests
		case b == "" && a != "":
			class = plan.Worst(class, plan.Narrowing)
		case b != a, a != "" && plan.Asked(before, after, limit.Name) == plan.Widening:
			return plan.Weakening, plan.Arrow("rate limit", before, after)
		case a != "":
			class = plan.Worst(class, plan.Asked(before, after, limit.Name))
		}
	}
	return class, plan.Arrow("rate limit", before, after)
}
