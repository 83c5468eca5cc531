package envoy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filterchainv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/filter_chain/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Duration is Envoy's form of a length of time.
func Duration(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

// UInt64 is n as Envoy's optional fields have it.
func UInt64(n uint64) *wrapperspb.UInt64Value { return wrapperspb.UInt64(n) }

// UInt32 is Envoy's form of an optional number.
func UInt32(n uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(n) }

// Bool is Envoy's form of an optional truth value.
func Bool(b bool) *wrapperspb.BoolValue { return wrapperspb.Bool(b) }

// Percent is a share of a hundred, exact to a ten-thousandth of a percent, which
// is the finest that Envoy knows.
func Percent(p float64) *typev3.FractionalPercent {
	if p == float64(uint32(p)) {
		return &typev3.FractionalPercent{Numerator: uint32(p), Denominator: typev3.FractionalPercent_HUNDRED}
	}
	return &typev3.FractionalPercent{Numerator: uint32(p*10000 + 0.5), Denominator: typev3.FractionalPercent_MILLION}
}

// HeaderOptions are Envoy's forms of header edits, sorted by name: set replaces
// every line of that name, add appends some, after what set says of it. Values are literal: Envoy reads "%"
// as the start of a command, so it is doubled.
func HeaderOptions(set map[string]string, add map[string][]string) []*corev3.HeaderValueOption {
	out := make([]*corev3.HeaderValueOption, 0, len(set)+len(add))
	put := func(name, value string, action corev3.HeaderValueOption_HeaderAppendAction) {
		out = append(out, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: name, Value: escapePercent(value)},
			AppendAction: action,
			// Without it Envoy drops an edit whose value is empty.
			KeepEmptyValue: value == "",
		})
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		put(name, set[name], corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
	}
	for _, name := range slices.Sorted(maps.Keys(add)) {
		for _, value := range add[name] {
			put(name, value, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
		}
	}
	slices.SortStableFunc(out, func(a, b *corev3.HeaderValueOption) int { return cmp.Compare(a.Header.Key, b.Header.Key) })
	return out
}

func escapePercent(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] == '%' {
			out = append(out, '%')
		}
		out = append(out, s[i])
	}
	return string(out)
}

// Action is the route's forwarding action, nil if the route answers by itself
// (a redirect): timeouts, retries and mirrors then have nothing to say.
func Action(r *routev3.Route) *routev3.RouteAction { return r.GetRoute() }

// RouteFilter puts per-route configuration for a filter slot on a route.
func RouteFilter(r *routev3.Route, s Slot, config proto.Message) {
	if r.TypedPerFilterConfig == nil {
		r.TypedPerFilterConfig = map[string]*anypb.Any{}
	}
	r.TypedPerFilterConfig[string(s)] = pack(config)
}

// AddFilter puts a whole filter into a position of a route, behind those of its kind that are there. Its name there is kind
// and its number, which no slot has: a filter that looks for what its route says of it finds nothing.
func AddFilter(r *routev3.Route, position Slot, kind string, config proto.Message) {
	RouteFilter(r, position, added(r.TypedPerFilterConfig, position, kind, config))
}

// Processor is the kind of the filters that give requests to a processor.
const Processor = "meshc.process"

// FilterName is the name of the n-th filter of a position, from 1, which is of the kind.
func FilterName(kind string, n int) string { return kind + "." + strconv.Itoa(n) }

// AddHostFilter is AddFilter for a virtual host.
func AddHostFilter(h *routev3.VirtualHost, position Slot, kind string, config proto.Message) {
	HostFilter(h, position, added(h.TypedPerFilterConfig, position, kind, config))
}

func added(said map[string]*anypb.Any, position Slot, kind string, config proto.Message) *filterchainv3.FilterChainConfigPerRoute {
	var in filterchainv3.FilterChainConfigPerRoute
	if there, ok := said[string(position)]; ok {
		if err := there.UnmarshalTo(&in); err != nil {
			panic("envoy: " + string(position) + " is no position: " + err.Error())
		}
	}
	if in.FilterChain == nil {
		in.FilterChain = &filterchainv3.FilterChain{}
	}
	fs := append(in.FilterChain.Filters, &corev3.TypedExtensionConfig{Name: kind, TypedConfig: pack(config)})
	of := func(f *corev3.TypedExtensionConfig) string { return strings.TrimRight(f.Name, ".0123456789") }
	slices.SortStableFunc(fs, func(a, b *corev3.TypedExtensionConfig) int {
		return cmp.Compare(slices.Index(inPosition(), of(a)), slices.Index(inPosition(), of(b)))
	})
	for i, f := range fs {
		f.Name = FilterName(of(f), i+1)
	}
	in.FilterChain.Filters = fs
	return &in
}

// HostFilter puts per-route configuration for a filter slot on a virtual host.
func HostFilter(h *routev3.VirtualHost, s Slot, config proto.Message) {
	if h.TypedPerFilterConfig == nil {
		h.TypedPerFilterConfig = map[string]*anypb.Any{}
	}
	h.TypedPerFilterConfig[string(s)] = pack(config)
}

// AddAccessLog gives a manager a logger, by its canonical name, for the requests that the
// filter lets through.
func AddAccessLog(m *hcmv3.HttpConnectionManager, name string, filter *accesslogv3.AccessLogFilter, config proto.Message) {
	m.AccessLog = append(m.AccessLog, &accesslogv3.AccessLog{Name: name, Filter: filter, ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(config)}})
}

// Packed is the configuration of an extension within a filter's.
func Packed(m proto.Message) *anypb.Any { return pack(m) }

// pack puts a message into an Any. Marshalling a message that this package built
// cannot fail unless a string is not UTF-8, which CUE refuses long before.
func pack(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil { // what is alike is the same bytes
		panic(fmt.Sprintf("envoy: packing %T: %v", m, err))
	}
	return a
}
