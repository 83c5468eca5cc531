package telemetry

import (
	"slices"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	statsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stats/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	transformv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/actions/transform_stat/v3"
	inputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/stats/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meshc.dev/meshc/compiler/internal/target/envoy"
)

const (
	counter = "envoy.access_loggers.stats"
	// metricsPrefix begins the names of all of them; agents have Envoy keep what begins so.
	metricsPrefix = "meshc"
	// Series that a proxy keeps, at most, of counters and of histograms: a guard, for all tags
	// have few values. What comes beyond is not counted.
	mostCounters, mostHistograms = 10_000, 2_000
	// otherValue is what a tag says of all values that are not told apart.
	otherValue = "other"
)

// lowerMetrics adds what counts: HttpConnectionManager.access_log. Its scope is one for all
// listeners of a proxy, so that what is counted outlives them.
func lowerMetrics(m *hcmv3.HttpConnectionManager, v Metrics, x *envoy.Ctx) {
	config := &statsv3.Config{StatsScope: &typev3.Scope{
		Prefix: metricsPrefix, SharingName: metricsPrefix, MaxCounters: envoy.UInt32(mostCounters), MaxHistograms: envoy.UInt32(mostHistograms),
	}}
	tags := v.lowered(x)
	histogram := func(name string, unit statsv3.Config_Histogram_Unit, value string) {
		config.Histograms = append(config.Histograms, &statsv3.Config_Histogram{Stat: &statsv3.Config_Stat{Name: name, Tags: tags}, Unit: unit, ValueFormat: value})
	}
	for _, word := range v.Include {
		switch word {
		case "requests":
			config.Counters = append(config.Counters, &statsv3.Config_Counter{Stat: &statsv3.Config_Stat{Name: "requests_total", Tags: tags}, ValueFixed: wrapperspb.UInt64(1)})
		case "duration":
			histogram("request_duration_milliseconds", statsv3.Config_Histogram_Milliseconds, "%DURATION%")
		case "requestBytes":
			histogram("request_bytes", statsv3.Config_Histogram_Bytes, "%BYTES_RECEIVED%")
		case "responseBytes":
			histogram("response_bytes", statsv3.Config_Histogram_Bytes, "%BYTES_SENT%")
		}
	}
	envoy.AddAccessLog(m, counter, nil, config)
}

// lowered are all tags, sorted by name. A gateway has none for the caller: what visitors' certificates
// say is not from a list of ours.
func (m Metrics) lowered(x *envoy.Ctx) []*statsv3.Config_Tag {
	formats := metricTags()
	delete(formats, "le")
	formats["service_name"], formats["service_namespace"], formats["owner"], formats["version"] = whose(x)
	if x.Gateway != nil {
		delete(formats, "caller")
	}
	for _, name := range m.Drop {
		delete(formats, name)
	}
	var out []*statsv3.Config_Tag
	for name, format := range formats {
		if format != "" {
			out = append(out, &statsv3.Config_Tag{Name: name, ValueFormat: format})
		}
	}
	for name, tag := range m.Tags {
		out = append(out, &statsv3.Config_Tag{Name: name, ValueFormat: tag.Value, Rules: onlyOf(tag.OneOf)})
	}
	slices.SortFunc(out, func(a, b *statsv3.Config_Tag) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out
}

// onlyOf lets a tag have these values, and one for all others; nil for no values lets it have any.
func onlyOf(values []string) *xdsmatcherv3.Matcher {
	if len(values) == 0 {
		return nil
	}
	is := func(value string) *xdsmatcherv3.Matcher_OnMatch {
		return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: &xdscorev3.TypedExtensionConfig{
			Name: "value", TypedConfig: envoy.Packed(&transformv3.TransformStat{UpdateTag: &transformv3.TransformStat_UpdateTag{NewTagValue: value}}),
		}}}
	}
	exact := map[string]*xdsmatcherv3.Matcher_OnMatch{}
	for _, value := range values {
		exact[value] = is(value)
	}
	return &xdsmatcherv3.Matcher{
		MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: &xdsmatcherv3.Matcher_MatcherTree{
			Input:    &xdscorev3.TypedExtensionConfig{Name: "value", TypedConfig: envoy.Packed(&inputsv3.StatTagValueInput{})},
			TreeType: &xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: exact}},
		}},
		OnNoMatch: is(otherValue),
	}
}
