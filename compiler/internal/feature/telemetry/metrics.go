package telemetry

import (
	"fmt"
	"maps"
	"slices"
	"strings"

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

const metricsName = "metrics"

// Metrics are what proxies count of requests.
type Metrics struct {
	// Include are the metrics by their words, sorted.
	Include []string `json:"include"`
	// Tags are the user's own by name.
	Tags map[string]Tag `json:"tags,omitempty"`
	// Drop are the tags of every metric that these have not, sorted.
	Drop []string `json:"drop,omitempty"`
}

// Tag is what a tag says of a request.
type Tag struct {
	// Value is a format string of Envoy's.
	Value string `json:"value"`
	// OneOf are the values that are told apart, sorted; all others are one. None: it has few by itself.
	OneOf []string `json:"one_of,omitempty"`
}

// TraitName is "metrics".
func (Metrics) TraitName() string { return metricsName }

// Counting is the row of metrics.
var Counting = feature.Feature{
	Rule: resolve.Rule{
		Name: metricsName, Field: field, On: carriers(), Answers: false,
		Defaults: []resolve.Default{{
			Field: "telemetry.metrics.include", Value: `"requests", "duration"`, Why: "rate, errors and duration come of them; sizes cost twice as much again",
		}},
		Read: readMetrics,
	},
	Codec:      trait.JSON[Metrics],
	Meaning:    metricsMeaning,
	Change:     metricsChange,
	Envoy:      envoy.Join(envoy.OnManager(lowerMetrics), untold()),
	Kubernetes: kubernetes.Nothing("the proxies count"),
	GatewayAPI: gatewayapi.Refuse("Gateway API says nothing of metrics"),
}

// metricTags are the tags that every metric has, as Envoy's format strings. None of them has values
// that a request chooses freely: whoever writes them could make series without end.
func metricTags() map[string]string {
	return map[string]string{
		"caller":      "%DOWNSTREAM_PEER_URI_SAN%",
		"grpc_status": "%GRPC_STATUS%",
		"owner":       "",
		"route":       "%ROUTE_NAME%",
		"rule":        "%DYNAMIC_METADATA(envoy.filters.http.rbac:enforced_effective_policy_id)%",
		"status":      "%RESPONSE_CODE%",
		"version":     "",

		"service_name": "", "service_namespace": "",
		"le": "", // the bound of a histogram's bucket
	}
}

// few are the commands that have few values, whatever a request says.
func few() []string {
	return []string{
		"DOWNSTREAM_TLS_CIPHER", "DOWNSTREAM_TLS_VERSION", "GRPC_STATUS", "HOSTNAME", "PROTOCOL", "RESPONSE_CODE", "RESPONSE_FLAGS", "ROUTE_NAME",
		"UPSTREAM_CLUSTER", "UPSTREAM_REQUEST_ATTEMPT_COUNT",
	}
}

func readMetrics(n intent.Node, x *resolve.Place) trait.Value {
	said := n.Field("metrics")
	if !said.Exists() {
		return nil
	}
	out := Metrics{Include: words(said.Field("include"), x), Drop: words(said.Field("drop"), x)}
	if len(out.Include) == 0 {
		out.Include = []string{"duration", "requests"}
	}
	for _, e := range said.Field("tags").Fields() {
		value := e.Node.Field("value")
		if !isFormat(e.Name, e.Node.Pos(), value, metricTags(), "every metric has a tag", x) {
			continue
		}
		tag := Tag{Value: value.Str(), OneOf: words(e.Node.Field("oneOf"), x)}
		if many := manyValues(tag.Value); many != "" && !e.Node.Field("oneOf").Exists() {
			x.Problem(diag.New(diag.CodeTag, value.Pos(), "tag %q: %%%s%% has as many values as requests give it, and each is a series at every proxy", e.Name, many).
				WithFix(`say which are told apart, as in oneOf: ["gold", "silver"]; all others are "other"`))
			continue
		}
		if out.Tags == nil {
			out.Tags = map[string]Tag{}
		}
		out.Tags[e.Name] = tag
	}
	return out
}

// words are a list's texts, each once, sorted.
func words(n intent.Node, x *resolve.Place) []string {
	var out []string
	for _, e := range n.List() {
		if slices.Contains(out, e.Str()) {
			x.Problem(diag.New(diag.CodeDuplicate, e.Pos(), "%q stands here twice", e.Str()).WithFix("delete one of them"))
			continue
		}
		out = append(out, e.Str())
	}
	if n.Exists() && len(n.List()) == 0 {
		x.Problem(diag.New(diag.CodeRange, n.Pos(), "an empty list restricts nothing").WithFix("name something, or delete the list"))
	}
	slices.Sort(out)
	return out
}

// manyValues is a command in a format whose values are not few; "" if there is none.
func manyValues(format string) string {
	for rest := format; ; {
		at := strings.IndexByte(rest, '%')
		if at < 0 {
			return ""
		}
		rest = rest[at:]
		if after, ok := strings.CutPrefix(rest, "%%"); ok {
			rest = after
			continue
		}
		m := command.FindStringSubmatch(rest)
		if m == nil { // told by whoever reads the format
			return ""
		}
		if !slices.Contains(few(), m[1]) {
			return strings.Trim(m[0], "%")
		}
		rest = rest[len(m[0]):]
	}
}

func metricsMeaning(v trait.Value) []space.Act {
	return space.Labels(space.AtArrival, space.Field{Feature: metricsName, Name: "counted", Value: v.(Metrics).words()})
}

// words say what is counted, and by what it is told apart.
func (m Metrics) words() string {
	out := strings.Join(m.Include, " and ")
	for _, name := range slices.Sorted(maps.Keys(m.Tags)) {
		tag := m.Tags[name]
		out += ", by " + name + " " + tag.Value
		if len(tag.OneOf) > 0 {
			out += fmt.Sprintf(" (%s, other)", strings.Join(tag.OneOf, ", "))
		}
	}
	if len(m.Drop) > 0 {
		out += ", not by " + strings.Join(m.Drop, ", ")
	}
	return out
}

func metricsChange(before, after []space.Field) (plan.Class, string) {
	return plan.Neutral, plan.Arrow(metricsName, before, after)
}

// buckets is how many series Envoy makes of a histogram: its buckets, their sum and their number.
const buckets = 22

// Series is about how many series a proxy counts of requests with so many callers, routes and
// statuses; 0 if it counts none. A tag of the user's own without a list counts as one value.
func Series(traits trait.Set, callers, routes, statuses int) int {
	v, ok := traits.Lookup(metricsName)
	if !ok {
		return 0
	}
	m := v.(Metrics)
	combinations := 1
	for tag, values := range map[string]int{"caller": callers, "route": routes, "status": statuses} {
		if !slices.Contains(m.Drop, tag) {
			combinations *= values
		}
	}
	for _, tag := range m.Tags {
		combinations *= len(tag.OneOf) + 1
	}
	each := 0
	for _, word := range m.Include {
		if word == "requests" {
			each++
		} else {
			each += buckets
		}
	}
	return each * combinations
}

// untold is what is told of a gRPC program without a proxy: it has instruments of its own.
func untold() envoy.Lowering {
	return envoy.Proxyless(envoy.Approximate("nothing is told of it but by its own instruments", envoy.Lowering{}))
}
