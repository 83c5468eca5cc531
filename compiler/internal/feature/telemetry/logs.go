// Package telemetry holds the features of `telemetry`, what the proxies of a service, or of a
// gateway, tell of the requests that arrive: a line about each that is worth one (`logs`), and the
// part that it has in a trace (`traces`).
package telemetry

import (
	"slices"
	"strconv"
	"strings"
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
	field = "telemetry"
	name  = "logs"
	// export is the method of OTLP by which lines are sent.
	export = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
	// denial is the status of what no grant lets through.
	denial = 403
	whole  = 100
)

// Logs are the lines that proxies send, sorted by collector.
type Logs struct {
	Logs []Log `json:"logs"`
}

// Log is the lines for one collector. A request gets one if one of the conditions holds.
type Log struct {
	// Collector is the name of the one at the receiver.
	Collector string `json:"collector"`
	model.Receiver
	// File is where a proxy writes the lines that it sends to nobody, as JSON.
	File string `json:"file,omitempty"`

	Errors bool `json:"errors,omitempty"` // 5xx, or what gRPC has for them
	Denied bool `json:"denied,omitempty"` // 403, or what gRPC has for it
	// SlowerThan is 0 for no condition.
	SlowerThan trait.Duration `json:"slower_than,omitempty"`
	// Statuses are ranges of statuses, in the order of the intent.
	Statuses []Range `json:"statuses,omitempty"`
	// Sample is so many percent of all requests.
	Sample int `json:"sample,omitempty"`

	// Fields are the user's own by name, as Envoy's format strings.
	Fields map[string]string `json:"fields,omitempty"`
}

// Range is statuses, both ends included.
type Range struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// TraitName is "logs".
func (Logs) TraitName() string { return name }

func uses(v trait.Value) []model.Target {
	return model.Targets(slices.DeleteFunc(slices.Clone(v.(Logs).Logs), func(l Log) bool { return l.File != "" }))
}

func sends(trait.Value, model.Target) model.Match { return model.Posted(export) }

// carriers are where `telemetry` may stand.
func carriers() []resolve.On {
	return []resolve.On{resolve.OnService, resolve.OnGateway, resolve.OnNamespace, resolve.OnMesh}
}

// Feature is the row of logs.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: field, On: carriers(), Answers: false,
		Defaults: []resolve.Default{{Field: "telemetry.logs.when.errors", Value: "true without `when`, else false", Why: "what fails is worth a line; more than that costs, and somebody has to want it"}},
		Read:     read, Uses: uses,
		Sends: sends,
	},
	Codec:      trait.JSON[Logs],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.Join(envoy.OnManager(lower), untold()),
	Kubernetes: kubernetes.Nothing("the proxies send the lines"),
	GatewayAPI: gatewayapi.Refuse("Gateway API says nothing of logs"),
}

// read: a collector sends no lines of its own, or its lines would be about lines.
func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() || x.Collects() {
		return nil
	}
	var out Logs
	for _, e := range n.Field("logs").Fields() {
		to, ok := x.Collector(e.Name, e.Node, "logs", model.OTLP, model.File)
		if !ok {
			continue
		}
		l := Log{Collector: e.Name, Receiver: to.Receiver, Fields: fields(e.Node.Field("fields"), standing(), "every line has a field", x)}
		if to.Kind == model.File {
			l.File = to.Path
		}
		readWhen(&l, e.Node, x)
		out.Logs = append(out.Logs, l)
	}
	if len(out.Logs) == 0 {
		return nil
	}
	return out
}

func readWhen(l *Log, n intent.Node, x *resolve.Place) {
	when := n.Field("when")
	if !when.Exists() {
		l.Errors = true
		return
	}
	l.Errors, l.Denied, l.Sample = when.Field("errors").Bool(), when.Field("denied").Bool(), int(when.Field("sample").Int())
	if slow := when.Field("slowerThan"); slow.Exists() {
		l.SlowerThan = x.Counted(slow, time.Second)
	}
	for _, s := range when.Field("statuses").List() {
		l.Statuses = append(l.Statuses, rangeOf(s.Str()))
	}
	if !l.Errors && !l.Denied && l.Sample == 0 && l.SlowerThan == 0 && len(l.Statuses) == 0 {
		x.Problem(diag.New(diag.CodeNever, when.Pos(), "no request gets a line for %q: none of the conditions can hold", l.Collector).
			WithFix("say when: errors: true, or delete the log"))
	}
}

// rangeOf reads "404" or "4xx", which the schema has checked.
func rangeOf(s string) Range {
	from, err := strconv.Atoi(strings.ReplaceAll(s, "xx", "00"))
	if err != nil {
		return Range{}
	}
	if strings.HasSuffix(s, "xx") {
		return Range{from, from + whole - 1}
	}
	return Range{from, from}
}

// tellsDenials reports whether every denial gets a line. A status of 403 is not enough: to
// callers of gRPC a proxy says 200.
func (l Log) tellsDenials() bool { return l.Denied || l.Sample == whole }

// meaning: a request's way is the same. The number of a field is 1 if denials are told.
func meaning(v trait.Value) []space.Act {
	var out []space.Field
	for _, l := range v.(Logs).Logs {
		f := space.Field{Feature: name, Name: "to " + l.Collector, Value: l.words()}
		if l.tellsDenials() {
			f.Number = 1
		}
		out = append(out, f)
	}
	return space.Labels(space.AtArrival, out...)
}

// words say when there is a line and what is in it.
func (l Log) words() string {
	var when []string
	if l.Errors {
		when = append(when, "errors")
	}
	if l.Denied {
		when = append(when, "denied")
	}
	if l.SlowerThan > 0 {
		when = append(when, "slower than "+l.SlowerThan.String())
	}
	for _, r := range l.Statuses {
		text := strconv.Itoa(r.From)
		if r.From != r.To {
			text += "–" + strconv.Itoa(r.To)
		}
		when = append(when, text)
	}
	if l.Sample > 0 {
		when = append(when, strconv.Itoa(l.Sample)+"% of all")
	}
	out := strings.Join(when, ", ")
	if l.File != "" {
		out += " in " + l.File
	} else {
		out += " at " + l.To + " port " + l.Port
	}
	if len(l.Fields) > 0 {
		out += " with " + strings.Join(sortedFields(l.Fields), ", ")
	}
	return out
}

// change: whoever is refused was seen to try; without these lines nobody sees it.
func change(before, after []space.Field) (plan.Class, string) {
	class := plan.Neutral
	for _, f := range before {
		if f.Number > plan.Number(after, f.Name) {
			class = plan.Weakening
		}
	}
	return class, plan.Arrow("logs", before, after)
}
