package lua

import (
	_ "embed"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"

	"meshc.dev/meshc/compiler/internal/target/envoy"
)

// guard is the script around all others.
//
//go:embed guard.lua
var guard string

const kind = "meshc.lua"

func onRoute(r *routev3.Route, v Scripts, x *envoy.Ctx) {
	x.OnlyItSets(r, v, "a script")
	for _, s := range v.Of {
		envoy.AddFilter(r, s.slot(), kind, lower(s, v.Users))
	}
}

func onHost(h *routev3.VirtualHost, v Scripts, _ *envoy.Ctx) {
	for _, s := range v.Of {
		envoy.AddHostFilter(h, s.slot(), kind, lower(s, v.Users))
	}
}

// slot is where it runs: before access it is the last of those that find out who the user is.
func (s Script) slot() envoy.Slot {
	if s.Before {
		return envoy.SlotUsers
	}
	return envoy.SlotExtensions
}

// lower makes the filter. A route stays the one that was chosen: what the filters behind it read is the same for all.
func lower(s Script, users []string) *luav3.Lua {
	return &luav3.Lua{
		DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: guarded(s, users)}},
		StatPrefix:        s.Name, ClearRouteCache: envoy.Bool(false),
	}
}

// guarded is a script within the guard, to which it is a value like others: nothing of its text can be read as the guard's.
func guarded(s Script, users []string) string {
	return fmt.Sprintf("%s\nguard(%s, %s, %s, %s)\n", envoy.BareLua(guard), envoy.LuaText(s.Code), envoy.LuaText(s.Name), envoy.LuaList(s.Sets), envoy.LuaList(users))
}
