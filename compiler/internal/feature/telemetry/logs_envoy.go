package telemetry

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	otelv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	otlp "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/target/envoy"
)

const (
	logger = "envoy.access_loggers.open_telemetry"
	// What a proxy holds back of lines: each of its threads sends them after so long, or when
	// it has so many bytes.
	flush  = time.Second
	buffer = 16 << 10
	// patience is how long a batch waits for its answer. A collector that hangs costs what is
	// written in that time, and then lines, but never a request.
	patience = 2 * time.Second
	// patienceHeader sets it. This logger does not look at GrpcService.timeout, and batches
	// without an answer would be kept for ever; the router that sends them looks at the header,
	// and takes it off.
	patienceHeader = "x-envoy-upstream-rq-timeout-ms"
	// chance is the key by which an operator of a proxy can change the share at run time.
	chance = "meshc.telemetry.sample"
)

// standing are the fields that every line has, as Envoy's format strings. The path has no
// query, where tokens stand.
func standing() map[string]string {
	return map[string]string{
		"http.request.method":       "%REQ(:METHOD)%",
		"http.response.status_code": "%RESPONSE_CODE%",
		"server.address":            "%REQ(:AUTHORITY)%",
		"url.path":                  "%PATH(NQ)%",
		"client.address":            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
		"caller":                    "%DOWNSTREAM_PEER_URI_SAN%",
		"protocol":                  "%PROTOCOL%",
		"request_id":                "%REQ(X-REQUEST-ID)%",
		"duration_ms":               "%DURATION%",
		"bytes_received":            "%BYTES_RECEIVED%",
		"bytes_sent":                "%BYTES_SENT%",
		"details":                   "%RESPONSE_CODE_DETAILS%",
		"flags":                     "%RESPONSE_FLAGS%",
		"grpc_status":               "%GRPC_STATUS%",
		"route":                     "%ROUTE_NAME%",
		"rule":                      "%DYNAMIC_METADATA(envoy.filters.http.rbac:enforced_effective_policy_id)%",
		"upstream":                  "%UPSTREAM_CLUSTER%",
		"owner":                     "",
		"version":                   "",
	}
}

// lower adds a logger for each collector: HttpConnectionManager.access_log.
func lower(m *hcmv3.HttpConnectionManager, v Logs, x *envoy.Ctx) {
	for _, l := range v.Logs {
		attributes, who, group := standing(), "", ""
		who, group, attributes["owner"], attributes["version"] = whose(x)
		maps.Copy(attributes, l.Fields)
		of := map[string]string{"service.name": who, "service.namespace": group}
		if l.File == "" {
			envoy.AddAccessLog(m, logger, filter(l), config(l, attributes, of, x))
			continue
		}
		maps.Copy(attributes, of)
		attributes["time"] = "%START_TIME%"
		name, written := inFile(l.File, attributes)
		envoy.AddAccessLog(m, name, filter(l), written)
	}
}

// inFile writes lines into a file of the proxy's machine, or to its output: by the descriptor that
// it has, for an output that is a socket cannot be opened by its name.
func inFile(path string, attributes map[string]string) (logger string, config proto.Message) {
	fields := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for name, text := range attributes {
		if text != "" {
			fields.Fields[name] = structpb.NewStringValue(text)
		}
	}
	format := &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: fields}, OmitEmptyValues: true}
	switch path {
	case "/dev/stdout":
		return "envoy.access_loggers.stdout", &streamv3.StdoutAccessLog{AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: format}}
	case "/dev/stderr":
		return "envoy.access_loggers.stderr", &streamv3.StderrAccessLog{AccessLogFormat: &streamv3.StderrAccessLog_LogFormat{LogFormat: format}}
	}
	return "envoy.access_loggers.file", &filev3.FileAccessLog{Path: path, AccessLogFormat: &filev3.FileAccessLog_LogFormat{LogFormat: format}}
}

func config(l Log, attributes, of map[string]string, x *envoy.Ctx) *otelv3.OpenTelemetryAccessLogConfig {
	return &otelv3.OpenTelemetryAccessLogConfig{
		LogName:             "meshc/" + l.Collector,
		GrpcService:         otlpService(l.Receiver, x),
		BufferFlushInterval: envoy.Duration(flush), BufferSizeBytes: envoy.UInt32(buffer),
		DisableBuiltinLabels: true,
		ResourceAttributes:   values(of),
		Body:                 text("%REQ(:METHOD)% %RESPONSE_CODE%"),
		Attributes:           values(attributes),
		StatPrefix:           l.Collector,
	}
}

// whose are a proxy's service, or gateway, and its namespace, and owner and version as formats.
func whose(x *envoy.Ctx) (who, group, owner, version string) {
	if x.Gateway != nil {
		return x.Gateway.Name, x.Gateway.Namespace, literal(x.Gateway.Owner), ""
	}
	return x.Service.Name, x.Service.Namespace, literal(x.Service.Owner), literal(x.Version.Name)
}

// otlpService is how a collector is called. The authority is by default the cluster's name, which
// is no host.
func otlpService(to model.Receiver, x *envoy.Ctx) *corev3.GrpcService {
	return &corev3.GrpcService{
		InitialMetadata: []*corev3.HeaderValue{{Key: patienceHeader, Value: strconv.FormatInt(patience.Milliseconds(), 10)}},
		TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
			ClusterName: x.Cluster(to.Target()), Authority: to.Authority(),
		}},
	}
}

func values(of map[string]string) *otlp.KeyValueList {
	out := &otlp.KeyValueList{}
	for _, name := range sortedFields(of) {
		if of[name] != "" {
			out.Values = append(out.Values, &otlp.KeyValue{Key: name, Value: text(of[name])})
		}
	}
	return out
}

func text(s string) *otlp.AnyValue {
	return &otlp.AnyValue{Value: &otlp.AnyValue_StringValue{StringValue: s}}
}

// literal is a text in which nothing is a command.
func literal(s string) string {
	var out []byte
	for _, b := range []byte(s) {
		if b == '%' {
			out = append(out, '%')
		}
		out = append(out, b)
	}
	return string(out)
}

// filter lets those requests through of which one condition holds.
func filter(l Log) *accesslogv3.AccessLogFilter {
	var any []*accesslogv3.AccessLogFilter
	ranges := slices.Clone(l.Statuses)
	if l.Errors {
		ranges = append(ranges, Range{500, 599})
	}
	if l.Denied {
		ranges = append(ranges, Range{denial, denial})
	}
	for _, r := range ranges {
		any = append(any, statuses(r))
	}
	if codes := grpcCodes(l); len(codes) > 0 {
		any = append(any, grpcStatus(codes))
	}
	if l.SlowerThan > 0 {
		ms := min(time.Duration(l.SlowerThan).Milliseconds(), math.MaxUint32)
		any = append(any, &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_DurationFilter{
			DurationFilter: &accesslogv3.DurationFilter{Comparison: compare(accesslogv3.ComparisonFilter_GE, uint32(ms), "meshc.telemetry.slow")},
		}})
	}
	if l.Sample > 0 {
		any = append(any, &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_RuntimeFilter{
			// Independent of the request's id, by which traces are chosen and which its sender may write.
			RuntimeFilter: &accesslogv3.RuntimeFilter{RuntimeKey: chance, PercentSampled: &typev3.FractionalPercent{
				Numerator: uint32(l.Sample), Denominator: typev3.FractionalPercent_HUNDRED,
			}, UseIndependentRandomness: true},
		}})
	}
	if len(any) == 1 {
		return any[0]
	}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_OrFilter{OrFilter: &accesslogv3.OrFilter{Filters: any}}}
}

// grpcCodes are what gRPC has for the statuses of errors and denials.
func grpcCodes(l Log) []accesslogv3.GrpcStatusFilter_Status {
	var out []accesslogv3.GrpcStatusFilter_Status
	if l.Denied {
		out = append(out, accesslogv3.GrpcStatusFilter_PERMISSION_DENIED)
	}
	if l.Errors {
		out = append(out, accesslogv3.GrpcStatusFilter_UNKNOWN, accesslogv3.GrpcStatusFilter_DEADLINE_EXCEEDED,
			accesslogv3.GrpcStatusFilter_INTERNAL, accesslogv3.GrpcStatusFilter_UNAVAILABLE, accesslogv3.GrpcStatusFilter_DATA_LOSS)
	}
	return out
}

// grpcStatus lets requests of gRPC through that end so. Whoever calls himself one is answered
// with status 200 by proxies, denials included, on every port. Of other requests Envoy takes
// all that succeed for UNKNOWN.
func grpcStatus(codes []accesslogv3.GrpcStatusFilter_Status) *accesslogv3.AccessLogFilter {
	calls := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{HeaderFilter: &accesslogv3.HeaderFilter{
		Header: &routev3.HeaderMatcher{Name: "content-type", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "application/grpc"},
		}}},
	}}}
	ended := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_GrpcStatusFilter{GrpcStatusFilter: &accesslogv3.GrpcStatusFilter{Statuses: codes}}}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{
		Filters: []*accesslogv3.AccessLogFilter{calls, ended},
	}}}
}

func statuses(r Range) *accesslogv3.AccessLogFilter {
	one := func(op accesslogv3.ComparisonFilter_Op, status int) *accesslogv3.AccessLogFilter {
		return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
			StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: compare(op, uint32(status), "meshc.telemetry.status")},
		}}
	}
	if r.From == r.To {
		return one(accesslogv3.ComparisonFilter_EQ, r.From)
	}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{
		Filters: []*accesslogv3.AccessLogFilter{one(accesslogv3.ComparisonFilter_GE, r.From), one(accesslogv3.ComparisonFilter_LE, r.To)},
	}}}
}

// compare: Envoy demands a key by which the value could be another at run time; nobody sets it.
func compare(op accesslogv3.ComparisonFilter_Op, value uint32, key string) *accesslogv3.ComparisonFilter {
	return &accesslogv3.ComparisonFilter{Op: op, Value: &corev3.RuntimeUInt32{DefaultValue: value, RuntimeKey: key}}
}
