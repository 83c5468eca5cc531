// Package admission is the feature `admission` of services, gateways' hosts and gateways' routes:
// where requests fail, a share of them is refused before they get there.
package admission

import (
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	admissionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/admission_control/v3"
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
	name = "admission"
	// usualRate and usualWindow are Envoy's defaults.
	usualRate   = 95
	usualWindow = 30 * time.Second
)

// Control is when requests are refused.
type Control struct {
	// SuccessRate is in percent, 1 to 100.
	SuccessRate int `json:"success_rate"`
	// Window is in whole seconds.
	Window trait.Duration `json:"window"`
}

// TraitName is "admission".
func (Control) TraitName() string { return name }

// MayAnswer is trait.Interposed: while requests fail, a share of all of them is refused.
func (Control) MayAnswer(string) (string, bool) { return name, false }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: name, On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false, Forwards: true,
		Defaults: []resolve.Default{
			{Field: "admission.successRate", Value: strconv.Itoa(usualRate), Why: "Envoy's default"},
			{Field: "admission.window", Value: usualWindow.String(), Why: "Envoy's default"},
		},
		Read: read, Uses: nil,
	},
	Codec: trait.JSON[Control],
	Meaning: func(v trait.Value) []space.Act {
		c := v.(Control)
		return space.Labels(space.AtWorkload, // behind the grants: who has none makes nothing fail
			space.Field{Feature: name, Name: "below", Value: strconv.Itoa(c.SuccessRate) + "% that succeed", Number: float64(c.SuccessRate)},
			space.Field{Feature: name, Name: "within", Value: c.Window.String()})
	},
	Change: change,
	Envoy: envoy.Join(
		envoy.OnRoute(func(r *routev3.Route, v Control, _ *envoy.Ctx) {
			envoy.AddFilter(r, envoy.SlotLimits, "meshc.admission", lower(v))
		}),
		envoy.OnInbound(func(h *routev3.VirtualHost, v Control, _ *envoy.Ctx) {
			envoy.AddHostFilter(h, envoy.SlotLimits, "meshc.admission", lower(v))
		}),
	).Needs(envoy.SlotLimits),
	Kubernetes: kubernetes.Nothing("the proxies count"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no admission control"),
}

// lower makes AdmissionControl. What it leaves out are Envoy's defaults, 80 % at most among them: something has to get there to be
// known to succeed again.
func lower(v Control) *admissionv3.AdmissionControl {
	return &admissionv3.AdmissionControl{
		EvaluationCriteria: &admissionv3.AdmissionControl_SuccessCriteria_{SuccessCriteria: &admissionv3.AdmissionControl_SuccessCriteria{}},
		SamplingWindow:     envoy.Duration(time.Duration(v.Window)),
		SrThreshold:        &corev3.RuntimePercent{DefaultValue: &typev3.Percent{Value: float64(v.SuccessRate)}, RuntimeKey: "admission_success_rate"},
	}
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	c := Control{SuccessRate: usualRate, Window: x.Duration(n.Field("window"), usualWindow)}
	if r := n.Field("successRate"); r.Exists() {
		c.SuccessRate = int(r.Int())
	}
	if time.Duration(c.Window)%time.Second != 0 {
		x.Problem(diag.New(diag.CodeRange, n.Field("window").Pos(), "window is %s, and proxies count whole seconds", c.Window).WithFix("write whole seconds"))
	}
	return c
}

// change: one that comes, or asks for more, refuses requests that got through; one that goes, or asks for less, protects less.
func change(before, after []space.Field) (plan.Class, string) {
	rate := func(fs []space.Field) float64 {
		for _, f := range fs {
			if f.Number > 0 {
				return f.Number
			}
		}
		return 0
	}
	class := plan.Neutral
	switch b, a := rate(before), rate(after); {
	case a > b:
		class = plan.Narrowing
	case a < b:
		class = plan.Weakening
	}
	return class, plan.Arrow("admission", before, after)
}
