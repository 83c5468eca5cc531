// Package outlier is the feature `outlier` of services, their ports and versions, and of externals:
// workloads that fail, in a row or more often than others, are taken out of the rotation for a while.
package outlier

import (
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
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

const name = "outlier"

// The defaults are Envoy's, except for the share: half may go before the rest is
// overrun.
const (
	consecutive = 5
	interval    = 10 * time.Second
	base        = 30 * time.Second
	maxEjection = 50
)

// What Envoy takes for enough requests and workloads to judge by, where nothing is written.
const (
	failureVolume = 50
	successVolume = 100
	hosts         = 5
)

// Outlier says when an instance counts as failing, as one caller's proxy sees it.
type Outlier struct {
	Consecutive5xx int `json:"consecutive_5xx"`
	// GatewayErrors and LocalErrors are numbers in a row, too: answers of 502, 503 and 504, and
	// connections that fail, which then are no 5xx. 0: not judged apart.
	GatewayErrors int `json:"gateway_errors,omitempty"`
	LocalErrors   int `json:"local_errors,omitempty"`
	// FailurePercent is a share of errors, 1 to 100; SuccessRate a distance from the mean of all
	// in thousandths of the standard deviation. 0: not judged.
	FailurePercent int `json:"failure_percent,omitempty"`
	SuccessRate    int `json:"success_rate,omitempty"`
	// RequestVolume and MinimumHosts are what these two need to judge; 0 is Envoy's default.
	RequestVolume      int            `json:"request_volume,omitempty"`
	MinimumHosts       int            `json:"minimum_hosts,omitempty"`
	Interval           trait.Duration `json:"interval"`
	BaseEjection       trait.Duration `json:"base_ejection"`
	MaxEjectionPercent int            `json:"max_ejection_percent"`
}

// TraitName is "outlier".
func (Outlier) TraitName() string { return name }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "outlier", On: []resolve.On{resolve.OnService, resolve.OnVersion, resolve.OnPort, resolve.OnExternal, resolve.OnDefault}, Answers: false, Bytes: true,
		Defaults: []resolve.Default{
			{Field: "service.outlier.consecutive5xx", Value: strconv.Itoa(consecutive), Why: "Envoy's default"},
			{Field: "service.outlier.requestVolume", Value: strconv.Itoa(failureVolume) + " for failurePercent, " + strconv.Itoa(successVolume) + " for successRate", Why: "Envoy's default"},
			{Field: "service.outlier.minimumHosts", Value: strconv.Itoa(hosts), Why: "Envoy's default"},
			{Field: "service.outlier.interval", Value: interval.String(), Why: "Envoy's default"},
			{Field: "service.outlier.baseEjection", Value: base.String(), Why: "Envoy's default"},
			{Field: "service.outlier.maxEjectionPercent", Value: strconv.Itoa(maxEjection), Why: "half may go before the rest is overrun"},
		},
		Read: read, Uses: nil,
	},
	Codec:      trait.JSON[Outlier],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.Join(envoy.OnCluster(lower), envoy.Proxyless(envoy.OnCluster(ofCalls))),
	Kubernetes: kubernetes.Nothing("the callers' proxies judge it"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no outlier detection"),
}

// lower sets Cluster.outlier_detection. What is to eject is said of each kind: without a word
// Envoy judges rates of success, and leaves the consequence of gateway errors and of shares out.
func lower(c *clusterv3.Cluster, v Outlier, _ *envoy.Ctx) {
	d := &clusterv3.OutlierDetection{
		Consecutive_5Xx:      envoy.UInt32(uint32(v.Consecutive5xx)),
		Interval:             envoy.Duration(time.Duration(v.Interval)),
		BaseEjectionTime:     envoy.Duration(time.Duration(v.BaseEjection)),
		MaxEjectionPercent:   envoy.UInt32(uint32(v.MaxEjectionPercent)),
		EnforcingSuccessRate: envoy.UInt32(0),
	}
	if v.GatewayErrors > 0 {
		d.ConsecutiveGatewayFailure, d.EnforcingConsecutiveGatewayFailure = envoy.UInt32(uint32(v.GatewayErrors)), envoy.UInt32(always)
	}
	if v.LocalErrors > 0 { // Envoy then judges rates of success of connections, too
		d.SplitExternalLocalOriginErrors, d.ConsecutiveLocalOriginFailure = true, envoy.UInt32(uint32(v.LocalErrors))
		d.EnforcingLocalOriginSuccessRate = envoy.UInt32(0)
	}
	if v.FailurePercent > 0 {
		d.FailurePercentageThreshold, d.EnforcingFailurePercentage = envoy.UInt32(uint32(v.FailurePercent)), envoy.UInt32(always)
		d.FailurePercentageRequestVolume, d.FailurePercentageMinimumHosts = written(v.RequestVolume), written(v.MinimumHosts)
	}
	if v.SuccessRate > 0 {
		d.SuccessRateStdevFactor, d.EnforcingSuccessRate = envoy.UInt32(uint32(v.SuccessRate)), envoy.UInt32(always)
		d.SuccessRateRequestVolume, d.SuccessRateMinimumHosts = written(v.RequestVolume), written(v.MinimumHosts)
	}
	c.OutlierDetection = d
}

// ofCalls is what gRPC programs without a proxy judge workloads by: shares of calls that failed (gRFC A50).
func ofCalls(c *clusterv3.Cluster, v Outlier, x *envoy.Ctx) {
	if v.GatewayErrors+v.LocalErrors > 0 || v.FailurePercent+v.SuccessRate == 0 {
		x.Lost(v, "write failurePercent or successRate, and neither gatewayErrors nor localErrors", "count failures in a row: it judges workloads by failurePercent and successRate")
		return
	}
	x.Loss(v, "failures in a row are not counted, shares of failures are")
	lower(c, v, x)
}

// always, in percent, is how often what is detected has its consequence.
const always = 100

func written(n int) *wrapperspb.UInt32Value {
	if n == 0 {
		return nil
	}
	return envoy.UInt32(uint32(n))
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	o := Outlier{Consecutive5xx: consecutive, Interval: x.Duration(n.Field("interval"), interval),
		BaseEjection: x.Duration(n.Field("baseEjection"), base), MaxEjectionPercent: maxEjection}
	if c := n.Field("consecutive5xx"); c.Exists() {
		o.Consecutive5xx = int(c.Int())
	}
	get := func(f string) int { return int(n.Field(f).Int()) }
	o.GatewayErrors, o.LocalErrors, o.FailurePercent, o.SuccessRate = get("gatewayErrors"), get("localErrors"), get("failurePercent"), get("successRate")
	o.RequestVolume, o.MinimumHosts = get("requestVolume"), get("minimumHosts")
	for _, f := range []string{"requestVolume", "minimumHosts"} {
		if n.Field(f).Exists() && o.FailurePercent == 0 && o.SuccessRate == 0 {
			x.Problem(diag.New(diag.CodeRange, n.Field(f).Pos(), "%s is about failurePercent and successRate, and neither is written", f).
				WithFix("write one of them, or take %s out", f))
		}
	}
	if p := n.Field("maxEjectionPercent"); p.Exists() {
		o.MaxEjectionPercent = int(p.Int())
	}
	return o
}

func meaning(v trait.Value) []space.Act {
	o := v.(Outlier)
	fields := []space.Field{
		{Feature: name, Name: "base ejection", Value: o.BaseEjection.String()},
		{Feature: name, Name: "consecutive 5xx", Value: strconv.Itoa(o.Consecutive5xx)},
	}
	say := func(what string, n int, unit string) {
		if n != 0 {
			fields = append(fields, space.Field{Feature: name, Name: what, Value: strconv.Itoa(n) + unit})
		}
	}
	say("failures", o.FailurePercent, "%")
	say("gateway errors", o.GatewayErrors, "")
	fields = append(fields, space.Field{Feature: name, Name: "interval", Value: o.Interval.String()})
	say("local errors", o.LocalErrors, "")
	fields = append(fields, space.Field{Feature: name, Name: "max ejection", Value: strconv.Itoa(o.MaxEjectionPercent) + "%"})
	say("minimum hosts", o.MinimumHosts, "")
	say("request volume", o.RequestVolume, "")
	say("success rate below the mean by", o.SuccessRate, "/1000 deviations")
	return space.Labels(space.AtWorkload, fields...)
}

// change: protection that appears is neutral; that goes or moves may be weaker.
func change(before, after []space.Field) (plan.Class, string) {
	if len(before) == 0 {
		return plan.Neutral, plan.Arrow("outlier detection", before, after)
	}
	return plan.Weakening, plan.Arrow("outlier detection", before, after)
}
