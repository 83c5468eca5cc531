package wasm

import (
	_ "embed"
	"fmt"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	wasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meshc.dev/meshc/compiler/internal/target/envoy"
)

// guard are the scripts before and behind a module.
//
//go:embed guard.lua
var guard string

const kind = "meshc.wasm"

func onRoute(r *routev3.Route, v Modules, x *envoy.Ctx) {
	x.OnlyItSets(r, v, "a module")
	for _, m := range v.Of {
		for _, f := range m.filters(v) {
			envoy.AddFilter(r, m.slot(), kind, f)
		}
	}
}

func onHost(h *routev3.VirtualHost, v Modules, _ *envoy.Ctx) {
	for _, m := range v.Of {
		for _, f := range m.filters(v) {
			envoy.AddHostFilter(h, m.slot(), kind, f)
		}
	}
}

// slot is where it runs: before access it is among the last of those that find out who the user is.
func (m Module) slot() envoy.Slot {
	if m.Before {
		return envoy.SlotUsers
	}
	return envoy.SlotExtensions
}

// filters are a module's own and those around it.
func (m Module) filters(ms Modules) []proto.Message {
	return []proto.Message{m.guarded(true, ms.Users), m.lower(ms.At), m.guarded(false, ms.Users)}
}

// guarded is the script in front of the module, or behind it. A route is chosen again behind it, by what came: a module's
// headers had Envoy forget it.
func (m Module) guarded(front bool, users []string) *luav3.Lua {
	code := fmt.Sprintf("%s\nguard(%s, %t, %s, %s)\n", envoy.BareLua(guard), envoy.LuaText(kind+"."+m.Name), front, envoy.LuaList(m.Sets), envoy.LuaList(users))
	return &luav3.Lua{
		DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: code}},
		StatPrefix:        m.Name, ClearRouteCache: envoy.Bool(false),
	}
}

// soon is how long a module that has failed is away at least. Envoy 1.40 divides by half of its milliseconds, as an integer,
// and ends where that is nothing.
const soon = 2 * time.Millisecond

// machine is the name of that one of V8's in which a module of a carrier runs.
func (m Module) machine(at string) string { return at + "/" + m.Name }

// lower makes the filter. One of V8's machines runs nothing but this module of this carrier, so that no other one ends with it.
func (m Module) lower(at string) *filterv3.Wasm {
	out := &wasmv3.PluginConfig{
		Name: m.Name, FailurePolicy: wasmv3.FailurePolicy_FAIL_OPEN,
		Vm: &wasmv3.PluginConfig_VmConfig{VmConfig: &wasmv3.VmConfig{
			VmId: m.machine(at), Runtime: "envoy.wasm.runtime.v8",
			Code:                        &corev3.AsyncDataSource{Specifier: &corev3.AsyncDataSource_Local{Local: &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: m.Code}}}},
			CapabilityRestrictionConfig: &wasmv3.CapabilityRestrictionConfig{AllowedCapabilities: allowed()},
		}},
	}
	if m.Refuse {
		out.FailurePolicy = wasmv3.FailurePolicy_FAIL_RELOAD
		out.ReloadConfig = &wasmv3.ReloadConfig{Backoff: &corev3.BackoffStrategy{BaseInterval: envoy.Duration(soon)}}
	}
	if text, err := compact(m.Config); m.Config != nil && err == nil { // it was read
		out.Configuration = envoy.Packed(&wrapperspb.StringValue{Value: string(text)})
	}
	return &filterv3.Wasm{Config: out}
}

// allowed is what a module is asked and what it may ask: of headers, of its configuration, of the time, and to answer. It
// calls nobody, sees no properties (the certificates of connections are among them), and counts nothing: names of metrics
// could be a visitor's.
func allowed() map[string]*wasmv3.SanitizationConfig {
	out := map[string]*wasmv3.SanitizationConfig{}
	for _, name := range slices.Concat(
		[]string{"proxy_on_vm_start", "proxy_on_configure", "proxy_on_context_create", onRequest, onResponse, "proxy_on_done", "proxy_on_delete"},
		[]string{"proxy_log", "proxy_get_log_level", "proxy_get_current_time_nanoseconds", "proxy_get_buffer_bytes", "proxy_get_buffer_status"},
		[]string{"proxy_get_header_map_pairs", "proxy_get_header_map_value", "proxy_get_header_map_size"},
		[]string{"proxy_set_header_map_pairs", "proxy_add_header_map_value", "proxy_replace_header_map_value", "proxy_remove_header_map_value"},
		[]string{"proxy_send_local_response"},
		[]string{"fd_write", "fd_read", "fd_seek", "fd_close", "fd_fdstat_get", "environ_get", "environ_sizes_get", "args_get", "args_sizes_get", "proc_exit", "clock_time_get", "random_get"},
	) {
		out[name] = &wasmv3.SanitizationConfig{}
	}
	return out
}
