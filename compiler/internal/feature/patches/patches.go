// Package patches is the feature `patch` of services, their ports and gateways: fields of Envoy's own
// messages for which intent has no word. What they do is not known here: a patch is typed, has somebody who
// answers for it and an end, sets nothing by which requests are led, let in or told of, and is told by its digest.
package patches

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"

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
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

const (
	name  = "raw-patch"
	field = "patch"

	atManager  = "manager"
	atCluster  = "cluster"
	atListener = "listener"
)

// Patches are those of one carrier, sorted by name. Owner, reason and end are no part of them: a longer
// end alone pushes nothing.
type Patches []Patch

// Patch is one.
type Patch struct {
	Name string `json:"name"`
	// At is the message: "listener", "manager", "host" or "cluster".
	At string `json:"at"`
	// Merge is a part of it, in protojson.
	Merge json.RawMessage `json:"merge"`
}

// TraitName is "raw-patch".
func (Patches) TraitName() string { return name }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: field, On: []resolve.On{resolve.OnService, resolve.OnPort, resolve.OnGateway}, Answers: false, Bytes: true, Defaults: nil, Read: read, Uses: nil,
	},
	Codec:      trait.JSON[Patches],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.OnFinished(apply),
	Kubernetes: kubernetes.Nothing("the proxies are configured by it"),
	GatewayAPI: gatewayapi.Refuse("Gateway API has no configuration of Envoy"),
}

// place is a message that may be patched.
type place struct {
	empty proto.Message
	// closed are its fields, those within others behind a dot, that decide where requests go, who is let in, what is told
	// and what callers may say, with who decides it.
	closed map[string]string
}

func places() map[string]place {
	const (
		routes  = "routes decide where requests go"
		filters = "who is let in is decided by filters in an order of meshc's"
		edits   = "`requestHeaders` and `responseHeaders` edit headers, and know which ones are the mesh's"
		tells   = "what proxies tell of requests is `telemetry`"
		trusts  = "what is believed of a request, and how it is read, is meshc's to decide"
		speaks  = "what is spoken, and by what identity, is meshc's to decide"
		reaches = "where the workloads are is meshc's to decide"
		answers = "how proxies answer by themselves is meshc's to decide"
	)
	closed := func(reasons map[string][]string) map[string]string {
		out := map[string]string{}
		for why, fields := range reasons {
			for _, f := range fields {
				out[f] = why
			}
		}
		return out
	}
	return map[string]place{
		atManager: {&hcmv3.HttpConnectionManager{}, closed(map[string][]string{
			routes:  {"rds", "route_config", "scoped_routes"},
			filters: {"http_filters", "upgrade_configs"},
			tells:   {"access_log", "access_log_options", "access_log_flush_interval", "flush_access_log_on_new_request", "tracing", "stat_prefix"},
			answers: {"local_reply_config"},
			trusts: {"codec_type", "use_remote_address", "xff_num_trusted_hops", "original_ip_detection_extensions", "early_header_mutation_extensions", "internal_address_config",
				"forward_client_cert_details", "set_current_client_cert_details", "forward_client_cert_matcher", "forward_client_cert_details_matcher", "skip_xff_append", "normalize_path", "merge_slashes",
				"path_with_escaped_slashes_action", "path_normalization_options", "strip_any_host_port", "strip_matching_host_port", "strip_trailing_host_dot", "header_validation_config",
				"typed_header_validation_config", "proxy_100_continue", "represent_ipv4_remote_address_as_ipv4_mapped_ipv6", "scheme_header_transformation", "preserve_external_request_id", "generate_request_id", "request_id_extension",
				"http_protocol_options", "http3_protocol_options", "common_http_protocol_options.headers_with_underscores_action", "http2_protocol_options.allow_connect", "http2_protocol_options.allow_metadata"},
		})},
		"host": {&routev3.VirtualHost{}, closed(map[string][]string{
			routes:  {"name", "domains", "routes", "matcher", "virtual_clusters", "request_mirror_policies"},
			filters: {"require_tls", "typed_per_filter_config", "rate_limits", "cors", "metadata", "retry_policy_typed_config"},
			edits:   {"request_headers_to_add", "request_headers_to_remove", "response_headers_to_add", "response_headers_to_remove"},
		})},
		atListener: {&listenerv3.Listener{}, allBut(&listenerv3.Listener{}, "who connects where, and what becomes of a connection, is meshc's to decide", socket())},
		atCluster: {&clusterv3.Cluster{}, closed(map[string][]string{
			speaks: {"transport_socket", "transport_socket_matches", "typed_extension_protocol_options", "upstream_config", "filters", "http_protocol_options",
				"http2_protocol_options", "common_http_protocol_options", "upstream_http_protocol_options", "protocol_selection"},
			reaches: {"dns_resolvers", "dns_resolution_config", "name", "type", "cluster_type", "eds_cluster_config", "load_assignment", "upstream_bind_config", "typed_dns_resolver_config", "ignore_health_on_host_removal"},
			tells:   {"lrs_server", "lrs_report_endpoint_metrics", "metadata"},
			"`balance` says how workloads are chosen": {"lb_policy", "load_balancing_policy", "lb_subset_config", "common_lb_config", "least_request_lb_config",
				"round_robin_lb_config", "original_dst_lb_config", "ring_hash_lb_config", "maglev_lb_config"},
			"`connection` and `circuitBreaker` bound connections":         {"connect_timeout", "circuit_breakers"},
			"`outlier`, `health` and `panic` say what workloads are well": {"outlier_detection", "health_checks"},
		})},
	}
}

// socket are the fields of a listener that are about its sockets and nothing that is read from them. Options of sockets by number
// are none: they could have it take what is for others.
func socket() []string {
	return []string{"per_connection_buffer_limit_bytes", "per_connection_buffer_high_watermark_timeout", "drain_type", "tcp_fast_open_queue_length", "tcp_backlog_size",
		"max_connections_to_accept_per_socket_event", "enable_mptcp", "tcp_keepalive"}
}

// allBut closes all fields of a message but some, those that later versions of it have included.
func allBut(m proto.Message, why string, open []string) map[string]string {
	out := map[string]string{}
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if name := string(fields.Get(i).Name()); !slices.Contains(open, name) {
			out[name] = why
		}
	}
	return out
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	var out Patches
	set := map[string]map[string]string{} // which patch sets which fields of a message
	for _, e := range n.Fields() {
		if x.Expired(e.Node) {
			continue
		}
		at := e.Node.Field("at").Str()
		m := readOne(e, at, x)
		if m == nil {
			continue
		}
		leaves := leavesOf(e.Node.Field("merge"), m, "")
		if d, ok := socketTakes(e.Name, leaves); !ok {
			x.Problem(d)
			continue
		}
		if set[at] == nil {
			set[at] = map[string]string{}
		}
		if d, ok := standsAlone(e.Name, at, leaves, set[at]); !ok {
			x.Problem(d)
			continue
		}
		text, err := canon.Proto(m.Interface())
		if err != nil {
			x.Problem(diag.New(diag.CodePatch, e.Node.Field("merge").Pos(), "patch %q: %v", e.Name, err))
			continue
		}
		for _, l := range leaves {
			set[at][l.path] = e.Name
		}
		x.Except(field, e.Node)
		out = append(out, Patch{Name: e.Name, At: at, Merge: text})
	}
	if len(out) == 0 {
		return nil
	}
	slices.SortFunc(out, func(a, b Patch) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// readOne is the message that a patch is of, with what it sets alone; nil if it is none, which is told.
func readOne(e intent.Entry, at string, x *resolve.Place) protoreflect.Message {
	merge, pos := e.Node.Field("merge"), e.Node.Field("at").Pos()
	problem := func(at diag.Pos, fix, format string, args ...any) protoreflect.Message {
		x.Problem(diag.New(diag.CodePatch, at, "patch "+strconv.Quote(e.Name)+format, args...).WithFix("%s", fix))
		return nil
	}
	switch {
	case at == atListener && x.At != resolve.OnGateway:
		return problem(pos, "patch its manager, or the gateway before it", " is for the %s of a service, whose proxy may have one for several services", at)
	case at != atManager && at != atListener && x.At == resolve.OnGateway:
		return problem(pos, "patch its listeners or their managers, or the service behind it", " is for the %s of a gateway, whose hosts have no such thing of their own", at)
	case at != atCluster && at != atListener && x.To.Protocol == model.TCP:
		return problem(pos, `delete it, or patch the callers' cluster: at: "cluster"`, " is for the %s of port %q, whose bytes go through none", at, x.To.Name)
	}
	raw, err := merge.JSON()
	if err != nil {
		return problem(merge.Pos(), "write values that are known", ": %v", err)
	}
	of := places()[at]
	m := of.empty.ProtoReflect().New()
	message := string(m.Descriptor().FullName())
	if err := protojson.Unmarshal(raw, m.Interface()); err != nil {
		return problem(merge.Pos(), "write its fields by their names in Envoy's API, with values of their types", " is no part of %s: %s", message, reason(err))
	}
	if set := of.names(merge, m.Descriptor(), ""); set != "" {
		return problem(merge.Pos(), "leave it out, and say it in intent", " sets %s of %s: %s", set, message, of.closed[set])
	}
	if len(merge.Fields()) == 0 {
		return problem(merge.Pos(), "name a field of "+message+", or delete the patch", " sets nothing")
	}
	return m
}

// standsAlone refuses fields that nothing is said of, and those of which another patch says something, too. set is
// which patch sets which fields of the message.
func standsAlone(name, at string, leaves []leaf, set map[string]string) (diag.Diagnostic, bool) {
	for _, l := range leaves {
		if l.unset {
			return diag.New(diag.CodePatch, l.pos, "patch %q sets %s to what it is where nobody sets it, which no message of Envoy's says", name, l.path).
				WithFix("leave it out; meshc's own value of a field is replaced by another one alone"), false
		}
		for _, path := range slices.Sorted(maps.Keys(set)) {
			if path == l.path || strings.HasPrefix(path, l.path+".") || strings.HasPrefix(l.path, path+".") {
				return diag.New(diag.CodePatch, l.pos, "patches %q and %q both set %s of the %s", set[path], name, l.path, at).WithFix("keep one of them"), false
			}
		}
	}
	return diag.Diagnostic{}, true
}

// reason is an error of protojson without the words that change from run to run.
func reason(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	text = strings.TrimPrefix(text, "proto: ")
	if _, after, ok := strings.Cut(text, "): "); ok && strings.HasPrefix(text, "(line ") {
		text = after
	}
	return text
}

// names is a field that a patch names and that is closed, "" for none: of a value that is none to Envoy nothing would be left to
// see in a message. d is the message's type, prefix where it stands.
func (of place) names(n intent.Node, d protoreflect.MessageDescriptor, prefix string) string {
	for _, e := range n.Fields() {
		f := d.Fields().ByTextName(e.Name)
		if f == nil {
			f = d.Fields().ByJSONName(e.Name)
		}
		if f == nil {
			continue // it would not have been read
		}
		path := prefix + string(f.Name())
		if of.closed[path] != "" {
			return path
		}
		if !isValue(f) {
			if within := of.names(e.Node, f.Message(), path+"."); within != "" {
				return within
			}
		}
	}
	return ""
}

// leaf is a field of a message that a patch sets as a whole.
type leaf struct {
	path string
	pos  diag.Pos
	// unset says that the message does not tell its value from none.
	unset bool
	// number is the value of a wrapped number, 0 of all else.
	number uint32
}

// numberOf is the value of a wrapped number of a message.
func numberOf(m protoreflect.Message, f protoreflect.FieldDescriptor) uint32 {
	if f.Message() == nil || f.IsList() || f.IsMap() || !m.Has(f) {
		return 0
	}
	if n, ok := m.Get(f).Message().Interface().(*wrapperspb.UInt32Value); ok {
		return n.GetValue()
	}
	return 0
}

// bounded is a number that is an option of a socket.
type bounded struct{ least, most uint32 }

// options are the numbers of messages that Linux takes as options of a socket, by the ends of their paths: with others a proxy
// does not listen, or connects to nobody. Where 0 is among them it turns the option off.
func options() map[string]bounded {
	const mostSeconds, mostProbes, mostWaiting = 32767, 127, 65535 // tcp(7): MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL and MAX_TCP_KEEPCNT
	return map[string]bounded{
		"tcp_keepalive.keepalive_time":     {0, mostSeconds},
		"tcp_keepalive.keepalive_interval": {0, mostSeconds},
		"tcp_keepalive.keepalive_probes":   {0, mostProbes},
		"tcp_fast_open_queue_length":       {0, mostWaiting},
		"tcp_backlog_size":                 {1, math.MaxInt32},
	}
}

// socketTakes refuses numbers that no socket takes.
func socketTakes(name string, leaves []leaf) (diag.Diagnostic, bool) {
	for _, l := range leaves {
		for end, of := range options() {
			if (l.path == end || strings.HasSuffix(l.path, "."+end)) && !l.unset && (l.number < of.least || l.number > of.most) {
				return diag.New(diag.CodePatch, l.pos, "patch %q sets %s to %d, which Linux takes for no socket: from %d to %d", name, l.path, l.number, of.least, of.most).WithFix("write a number between these"), false
			}
		}
	}
	return diag.Diagnostic{}, true
}

// leavesOf are the fields that a patch sets, by their paths, in the order in which it names them. m is what was read of it.
func leavesOf(n intent.Node, m protoreflect.Message, prefix string) (out []leaf) {
	for _, e := range n.Fields() {
		f := m.Descriptor().Fields().ByTextName(e.Name)
		if f == nil {
			f = m.Descriptor().Fields().ByJSONName(e.Name)
		}
		if f == nil {
			continue // it would not have been read
		}
		path := prefix + string(f.Name())
		if isValue(f) || !m.Has(f) || len(e.Node.Fields()) == 0 {
			out = append(out, leaf{path, e.Node.Pos(), !m.Has(f), numberOf(m, f)})
			continue
		}
		out = append(out, leavesOf(e.Node, m.Get(f).Message(), path+".")...)
	}
	return out
}

// isValue reports whether a field is replaced as a whole: durations and wrapped numbers are, and so are lists.
func isValue(f protoreflect.FieldDescriptor) bool {
	return f.Message() == nil || f.IsList() || f.IsMap() || f.Message().ParentFile().Package() == "google.protobuf"
}

// apply puts what is meant for a message in the place of what is there.
func apply(m proto.Message, v Patches, x *envoy.Ctx) {
	for _, p := range v {
		of := places()[p.At]
		if of.empty.ProtoReflect().Descriptor() != m.ProtoReflect().Descriptor() {
			continue
		}
		part := of.empty.ProtoReflect().New()
		if err := protojson.Unmarshal(p.Merge, part.Interface()); err != nil {
			x.Problem("write its fields by their names in Envoy's API", "patch %q: %v", p.Name, err)
			continue
		}
		replace(m.ProtoReflect(), part)
		if ruled, ok := m.(interface{ Validate() error }); ok { // the rules that Envoy's API states itself
			if err := ruled.Validate(); err != nil {
				x.Problem("write a value that Envoy takes", "patch %q: %v", p.Name, err)
			}
		}
	}
}

func replace(m, part protoreflect.Message) {
	part.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if isValue(f) || !m.Has(f) {
			m.Set(f, v)
		} else {
			replace(m.Mutable(f).Message(), v.Message())
		}
		return true
	})
}

func meaning(v trait.Value) []space.Act {
	var fields []space.Field
	for _, p := range v.(Patches) {
		text, err := canon.Reformat(p.Merge) // it may have been read from a document since
		if err != nil {
			text = p.Merge
		}
		fields = append(fields, space.Field{Feature: name, Name: p.Name, Value: p.At + " " + canon.Fingerprint(text)})
	}
	return space.Labels(space.AtWorkload, fields...)
}

// change: what a patch does is not known, and neither is what becomes of it without.
func change(before, after []space.Field) (plan.Class, string) {
	return plan.NotCompared, plan.Arrow("raw Envoy configuration", before, after)
}
