// Package outlier is the feature `service.outlier`: instances that fail in a row
// are taken out of the rotation for a while.
package outlier

import (
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
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

// Outlier says when an instance counts as failing, as one caller's proxy sees it.
type Outlier struct {
	Consecutive5xx     int            `json:"consecutive_5xx"`
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
			{Field: "service.outlier.interval", Value: interval.String(), Why: "Envoy's default"},
			{Field: "service.outlier.baseEjection", Value: base.String(), Why: "Envoy's default"},
			{Field: "service.outlier.maxEjectionPercent", Value: strconv.Itoa(maxEjection), Why: "half may go before the rest is overrun"},
		},
		Read: read, Uses: nil,
	},
	Codec:      trait.JSON[Outlier],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.OnCluster(lower),
	Kubernetes: kubernetes.Nothing("the callers' proxies judge it"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no outlier detection"),
}

// lower sets Cluster.outlier_detection.
func lower(c *clusterv3.Cluster, v Outlier, _ *envoy.Ctx) {
	c.OutlierDetection = &clusterv3.OutlierDetection{
		Consecutive_5Xx:    envoy.UInt32(uint32(v.Consecutive5xx)),
		Interval:           envoy.Duration(time.Duration(v.Interval)),
		BaseEjectionTime:   envoy.Duration(time.Duration(v.BaseEjection)),
		MaxEjectionPercent: envoy.UInt32(uint32(v.MaxEjectionPercent)),
		// Envoy enforces consecutive gateway failures at 0 % and a success rate at
		// 100 % by default; the language has no word for the latter, so it is off.
		EnforcingSuccessRate: envoy.UInt32(0),
	}
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
	if p := n.Field("maxEjectionPercent"); p.Exists() {
		o.MaxEjectionPercent = int(p.Int())
	}
	return o
}

func meaning(v trait.Value) []space.Act {
	o := v.(Outlier)
	return space.Labels(space.AtWorkload, []space.Field{
		{Feature: name, Name: "base ejection", Value: o.BaseEjection.String()},
		{Feature: name, Name: "consecutive 5xx", Value: strconv.Itoa(o.Consecutive5xx)},
		{Feature: name, Name: "interval", Value: o.Interval.String()},
		{Feature: name, Name: "max ejection", Value: strconv.Itoa(o.MaxEjectionPercent) + "%"},
	}...)
}

// change: protection that appears is neutral; that goes or moves may be weaker.
func change(before, after []space.Field) (plan.Class, string) {
	if len(before) == 0 {
		return plan.Neutral, plan.Arrow("outlier detection", before, after)
	}
	return plan.Weakening, plan.Arrow("outlier detection", before, after)
}
