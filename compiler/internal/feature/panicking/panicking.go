// Package panicking is the feature `panic` of services, their ports and versions, and of externals:
// when a caller's proxy gives up telling workloads that are well from those that are not.
package panicking

import (
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
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
)

const name = "panic"

// usual is Envoy's own share, in percent.
const usual = 50

// Threshold is the share, in percent, 0 to 100: with fewer that are well, all are taken.
type Threshold struct {
	Percent int `json:"percent"`
}

// TraitName is "panic".
func (Threshold) TraitName() string { return name }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "panic", On: []resolve.On{resolve.OnService, resolve.OnVersion, resolve.OnPort, resolve.OnExternal, resolve.OnDefault}, Answers: false, Bytes: true, Places: true,
		Defaults: []resolve.Default{{Field: "service.panic", Value: strconv.Itoa(usual), Why: "Envoy's default"}},
		Read:     read, Uses: nil,
	},
	Codec:      trait.JSON[Threshold],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.OnCluster(lower),
	Kubernetes: kubernetes.Nothing("the callers' proxies choose"),
	GatewayAPI: gatewayapi.Refuse("Gateway API says nothing of a Service's endpoints that fail"),
}

// lower sets Cluster.common_lb_config.healthy_panic_threshold.
func lower(c *clusterv3.Cluster, v Threshold, _ *envoy.Ctx) {
	if c.CommonLbConfig == nil {
		c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{}
	}
	c.CommonLbConfig.HealthyPanicThreshold = &typev3.Percent{Value: float64(v.Percent)}
}

func read(n intent.Node, _ *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	return Threshold{int(n.Int())}
}

func meaning(v trait.Value) []space.Act {
	p := v.(Threshold).Percent
	value := "with less than " + strconv.Itoa(p) + "% that are well"
	if p == 0 {
		value = "never"
	}
	return space.Labels(space.AtWorkload, space.Field{Feature: name, Name: "all workloads are taken", Value: value, Number: float64(p)})
}

// change: as long as enough are well nothing is different; then requests go to workloads that are
// not, or get 503.
func change(before, after []space.Field) (plan.Class, string) {
	share := func(fs []space.Field) float64 {
		if len(fs) == 0 {
			return usual
		}
		return fs[0].Number
	}
	class := plan.Neutral
	if share(after) < share(before) {
		class = plan.Narrowing
	}
	return class, plan.Arrow("panic", before, after)
}
