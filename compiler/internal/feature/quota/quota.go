// Package quota is the feature `quota` of services, gateways' hosts and gateways' routes: requests above
// a rate that many proxies have together are refused, as a service that counts for all of them says.
package quota

import (
	"cmp"
	"slices"
	"strconv"
	"time"

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
	name = "quota"
	// ask is the method by which a proxy asks whether a request is too much.
	ask    = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
	refuse = "refuse"
)

// Quotas are those of one carrier, sorted by name. A request is counted for each of them.
type Quotas struct {
	Quotas []Quota `json:"quotas"`
}

// Quota is a rate that a limiter counts.
type Quota struct {
	Name string `json:"name"`
	// Receiver is the limiter, Domain what it is told that it counts for, Timeout how long a request
	// waits for its answer at most.
	model.Receiver
	Domain  string         `json:"domain"`
	Timeout trait.Duration `json:"timeout"`
	// Refuse says that requests are refused while the limiter does not answer.
	Refuse   bool           `json:"refuse,omitempty"`
	Requests int            `json:"requests"`
	Per      trait.Duration `json:"per"`
	// Whose is the carrier, which the limiter is told: two quotas of one name are two.
	Whose  string          `json:"whose"`
	By     trait.CountedBy `json:"by,omitzero"`
	Shadow bool            `json:"shadow,omitempty"`
	// Gateway says that a gateway asks.
	Gateway bool `json:"gateway,omitempty"`
	// Asked are the requests that are counted.
	model.Asked
}

// TraitName is "quota".
func (Quotas) TraitName() string { return name }

// Demands is trait.Demanding: who comes too often is refused.
func (qs Quotas) Demands(method, path string) string {
	for _, q := range qs.Quotas {
		if !q.Shadow && q.Takes(method, path) {
			return name + ": " + strconv.Quote(q.Name)
		}
	}
	return ""
}

// Claims are those by which some quota counts.
func (qs Quotas) Claims() []trait.CountedClaim {
	var out []trait.CountedClaim
	for _, q := range qs.Quotas {
		out = append(out, q.By.Claims...)
	}
	return out
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false, Forwards: true,
		Defaults: []resolve.Default{{Field: "limiter.timeout", Value: "100ms", Why: "every request waits for the answer"}, {Field: "limiter.domain", Value: "meshc", Why: "a limiter that serves others, too, tells whom it counts for"}},
		Read:     read,
		Uses:     func(v trait.Value) []model.Target { return model.Targets(v.(Quotas).Quotas) },
		Sends:    func(trait.Value, model.Target) model.Match { return model.Posted(ask) },
		Waits:    true,
	},
	Codec:      trait.JSON[Quotas],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.Join(envoy.OnRoute(onRoute), envoy.OnInbound(onHost)).Needs(envoy.SlotLimits),
	Kubernetes: kubernetes.Nothing("the proxies ask the limiter"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no rate limits"),
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	var out Quotas
	for _, e := range n.Fields() {
		to, ok := x.Limiter(e.Node.Field("limiter").Str(), e.Node.Field("limiter"))
		if !ok {
			continue
		}
		q := Quota{Name: e.Name, Receiver: to.Receiver, Domain: to.Domain, Timeout: to.Timeout, Refuse: e.Node.Field("onFailure").Str() == refuse, Requests: int(e.Node.Field("requests").Int()),
			Per: x.Duration(e.Node.Field("per"), time.Second), Whose: x.Carrier(), By: x.CountedBy(e.Node.Field("by")), Shadow: e.Node.Field("shadow").Bool(),
			Gateway: x.Gateway, Asked: x.Asked(e.Node)}
		if _, ok := units()[time.Duration(q.Per)]; !ok {
			x.Problem(diag.New(diag.CodeRange, e.Node.Field("per").Pos(), "a limiter counts by the second, the minute, the hour or the day, and not by %s", q.Per).WithFix(`write "1s", "1m", "1h" or "24h"`))
		}
		out.Quotas = append(out.Quotas, q)
	}
	if len(out.Quotas) == 0 {
		return nil
	}
	slices.SortFunc(out.Quotas, func(a, b Quota) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func meaning(v trait.Value) []space.Act {
	var out []space.Act
	for _, q := range v.(Quotas).Quotas {
		f := space.Field{Feature: name, Name: q.Name, Value: q.words()}
		if !q.Shadow {
			f.Number = float64(q.Requests) / time.Duration(q.Per).Seconds()
		}
		out = append(out, q.Acts(space.AtWorkload, q.Gateway, q.Name, f)...) // behind the grants: who has none is not counted
	}
	return out
}

// words say how many requests of whom, who counts, and what becomes of them while nobody does.
func (q Quota) words() string {
	out := strconv.Itoa(q.Requests) + " per " + q.Per.String()
	if by := q.By.Words(); by != "" {
		out += " by " + by
	}
	out += " counted by " + q.To
	switch {
	case q.Shadow:
		return out + ", refused to nobody"
	case q.Refuse:
		return out + ", all refused while it is away"
	}
	return out + ", all admitted while it is away"
}

// change: a quota that comes, is lowered or counts more requests refuses more; one that goes, grows, counts
// others or in another way, or only looks on protects less.
func change(before, after []space.Field) (plan.Class, string) {
	class := plan.Neutral
	note := func(c plan.Class) { class = plan.Worst(class, c) }
	for _, f := range slices.Concat(before, after) {
		b, a := plan.Number(before, f.Name), plan.Number(after, f.Name)
		switch asked := plan.Asked(before, after, f.Name); {
		case a > 0 && (b == 0 || a < b):
			note(plan.Narrowing)
		case b > 0 && (a == 0 || a > b || plan.Value(before, f.Name) != plan.Value(after, f.Name)):
			note(plan.Weakening)
		case a == 0: // held to by nobody, or what tells of which requests
		case asked == plan.Widening:
			note(plan.Weakening)
		default:
			note(asked)
		}
	}
	return class, plan.Arrow(name, before, after)
}
