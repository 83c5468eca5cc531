package telemetry

import (
	"maps"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	detectorsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/resource_detectors/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/internal/hop"
)

const (
	otelTracer   = "envoy.tracers.opentelemetry"
	zipkinTracer = "envoy.tracers.zipkin"
	attributesOf = "envoy.tracers.opentelemetry.resource_detectors.static_config"
	// operation names a span: a few names for all requests, none of which has a token in it.
	operation = "%REQ(:METHOD)% %ROUTE_NAME%"
	// mostSpans is how many a proxy keeps for a collector that is away.
	mostSpans = 1024
)

// spanTags are the tags that every span has beside Envoy's own, as Envoy's format strings. The
// path has no query, where tokens stand; Envoy's own tag would have it (MaxPathTagLength).
func spanTags() map[string]string {
	return map[string]string{
		"url.path": "%PATH(NQ)%",
		"caller":   "%DOWNSTREAM_PEER_URI_SAN%",
		"route":    "%ROUTE_NAME%",
		"owner":    "",
		"version":  "",

		"service.name": "", "service.namespace": "",
	}
}

// lowerTraces sets HttpConnectionManager.tracing. Which requests are traced nobody decides but the
// share here and, where they are believed, callers: client_sampling is for a header of Envoy's own.
func lowerTraces(m *hcmv3.HttpConnectionManager, t Traces, x *envoy.Ctx) {
	tags, who, group := spanTags(), "", ""
	who, group, tags["owner"], tags["version"] = whose(x)
	if t.Kind == model.Zipkin { // to which a proxy calls itself by its node's cluster
		tags["service.name"], tags["service.namespace"] = who, group
	}
	maps.Copy(tags, t.Tags)
	m.Tracing = &hcmv3.HttpConnectionManager_Tracing{
		ClientSampling: &typev3.Percent{}, RandomSampling: &typev3.Percent{Value: float64(t.Sample) / 100},
		MaxPathTagLength: envoy.UInt32(0), Operation: operation, Provider: provider(t, who, group, x),
	}
	for _, name := range sortedFields(tags) {
		if tags[name] != "" {
			m.Tracing.CustomTags = append(m.Tracing.CustomTags, &tracingv3.CustomTag{Tag: name, Type: &tracingv3.CustomTag_Value{Value: tags[name]}})
		}
	}
	if !t.Propagate {
		var edits []hop.Edit
		for _, h := range hop.Traces() {
			edits = append(edits, hop.Whole(h))
		}
		envoy.RemoveEarly(m, edits...)
	}
}

func provider(t Traces, who, group string, x *envoy.Ctx) *tracev3.Tracing_Http {
	named := func(name string, config proto.Message) *tracev3.Tracing_Http {
		return &tracev3.Tracing_Http{Name: name, ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: envoy.Packed(config)}}
	}
	if t.Kind == model.Zipkin {
		return named(zipkinTracer, &tracev3.ZipkinConfig{
			CollectorCluster: x.Cluster(t.Target()), CollectorEndpoint: t.Path, CollectorHostname: t.Authority(),
			CollectorEndpointVersion: tracev3.ZipkinConfig_HTTP_JSON, TraceId_128Bit: true,
			// Each proxy has a span of its own. What else is of the trace may speak W3C.
			SharedSpanContext: envoy.Bool(false), TraceContextOption: tracev3.ZipkinConfig_USE_B3_WITH_W3C_PROPAGATION,
		})
	}
	return named(otelTracer, &tracev3.OpenTelemetryConfig{
		GrpcService: otlpService(t.Receiver, x), ServiceName: who, MaxCacheSize: envoy.UInt32(mostSpans),
		ResourceDetectors: []*corev3.TypedExtensionConfig{{Name: attributesOf, TypedConfig: envoy.Packed(&detectorsv3.StaticConfigResourceDetectorConfig{
			Attributes: map[string]string{"service.namespace": group},
		})}},
	})
}
