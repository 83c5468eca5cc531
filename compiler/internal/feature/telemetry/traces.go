package telemetry

import (
	"strconv"
	"strings"

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
	tracesName = "traces"
	// exportSpans is the method of OTLP by which spans are sent.
	exportSpans = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
	// usualShare is one percent.
	usualShare = 100
)

// Traces are the spans that proxies send: what a request that is traced was to them.
type Traces struct {
	// Name is the collector's.
	Name string `json:"name"`
	model.Collector

	// Sample is how many of ten thousand requests that begin a trace are traced.
	Sample int `json:"sample"`
	// Propagate lets the trace go on that a caller has begun, if the caller says that it is traced.
	Propagate bool `json:"propagate,omitempty"`
	// Tags are the user's own by name, as Envoy's format strings.
	Tags map[string]string `json:"tags,omitempty"`
}

// TraitName is "traces".
func (Traces) TraitName() string { return tracesName }

// Tracing is the row of traces.
var Tracing = feature.Feature{
	Rule: resolve.Rule{
		Name: tracesName, Field: field, On: carriers(), Answers: false,
		Defaults: []resolve.Default{
			{Field: "telemetry.traces.sample", Value: "1", Why: "a trace of one request in a hundred shows how requests go; more costs, and somebody has to want it"},
			{Field: "telemetry.traces.propagate", Value: "true at services, false at gateways", Why: "a visitor would decide for all proxies behind whether a request is traced"},
		},
		Read:  readTraces,
		Uses:  func(v trait.Value) []model.Target { return []model.Target{v.(Traces).Target()} },
		Sends: sendsSpans,
	},
	Codec:      trait.JSON[Traces],
	Meaning:    tracesMeaning,
	Change:     tracesChange,
	Envoy:      envoy.Join(envoy.OnManager(lowerTraces), untold()),
	Kubernetes: kubernetes.Nothing("the proxies send the spans"),
	GatewayAPI: gatewayapi.Refuse("Gateway API says nothing of traces"),
}

func sendsSpans(v trait.Value, _ model.Target) model.Match {
	if t := v.(Traces); t.Kind == model.Zipkin {
		return model.Posted(t.Path)
	}
	return model.Posted(exportSpans)
}

// readTraces: a collector sends no spans of its own, or its spans would be about spans.
func readTraces(n intent.Node, x *resolve.Place) trait.Value {
	all := n.Field("traces").Fields()
	if x.Collects() || len(all) == 0 {
		return nil
	}
	if len(all) > 1 {
		x.Problem(diag.New(diag.CodeOneOf, all[1].Node.Pos(), "spans go to one collector, and here are %q and %q", all[0].Name, all[1].Name).
			WithRelated(all[0].Node.Pos(), "the other one").WithFix("keep one of them, and let it send the spans on to others"))
		return nil
	}
	name, said := all[0].Name, all[0].Node
	to, ok := x.Collector(name, said, tracesName, model.OTLP, model.Zipkin)
	if !ok {
		return nil
	}
	out := Traces{Name: name, Collector: to, Sample: usualShare, Propagate: !x.Gateway, Tags: fields(said.Field("tags"), spanTags(), "every span has a tag", x)}
	if share := said.Field("sample"); share.Exists() {
		hundredths, exact := share.Hundredths()
		if !exact {
			x.Problem(diag.New(diag.CodeRange, share.Pos(), "sample is finer than what proxies count").WithFix("write two decimals at most, such as 0.25"))
		}
		out.Sample = int(hundredths)
	}
	if p := said.Field("propagate"); p.Exists() {
		out.Propagate = p.Bool()
	}
	if out.Sample == 0 && !out.Propagate {
		x.Problem(diag.New(diag.CodeNever, said.Pos(), "no request is traced: none begins a trace here, and none that its caller began goes on").
			WithFix("say sample: 1, or delete the traces"))
	}
	return out
}

func tracesMeaning(v trait.Value) []space.Act {
	t := v.(Traces)
	return space.Labels(space.AtArrival, space.Field{Feature: tracesName, Name: "to " + t.Name, Value: t.words()})
}

// words say which requests are traced and what a span has.
func (t Traces) words() string {
	out := strconv.FormatFloat(float64(t.Sample)/100, 'f', -1, 64) + "% of what begins here"
	if t.Propagate {
		out += ", and what callers trace,"
	}
	out += " at " + t.To + " port " + t.Port
	if len(t.Tags) > 0 {
		out += " with " + strings.Join(sortedFields(t.Tags), ", ")
	}
	return out
}

func tracesChange(before, after []space.Field) (plan.Class, string) {
	return plan.Neutral, plan.Arrow(tracesName, before, after)
}
