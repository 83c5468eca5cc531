package envoy

import (
	"slices"

	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	filterchainv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/filter_chain/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
)

// Slot is a place in the chain of HTTP filters. Its text is the filter's name there, which
// is also the key of per-route configuration.
type Slot string

// The slots. A feature's filter has a slot of its own if a route can say all of its
// configuration; any other stands in one of the positions, which take whole filters from
// a route. A position is named after what is decided there.
const (
	SlotAnswers    Slot = "envoy.filters.http.header_mutation"
	SlotCORS       Slot = "envoy.filters.http.cors"
	SlotFault      Slot = "envoy.filters.http.fault"
	SlotUsers      Slot = "meshc.users" // who the end user is, behind further faults
	SlotDeny       Slot = "meshc.deny"  // what is refused, whoever may
	SlotRBAC       Slot = "envoy.filters.http.rbac"
	SlotAuthorize  Slot = "meshc.authorize"  // what somebody else is asked about
	SlotLimits     Slot = "meshc.limits"     // what is too much: counted here first, then elsewhere
	SlotExtensions Slot = "meshc.extensions" // code of users
	SlotBodies     Slot = "meshc.bodies"     // what holds, packs or slows bodies
	SlotRouter     Slot = "envoy.filters.http.router"
)

// inPosition is the order of the filters that share a position by what their names begin with, those of SlotUsers: drills
// first, which must not hang on who is signed in, then who the user is, by a session first, then which page his browser shows, then
// scripts, modules and processors that see requests before access is decided; those of SlotLimits: what a proxy counts by itself, so that nothing is
// counted for all that goes no further.
func inPosition() []string {
	return []string{"meshc.fault", "meshc.claims", Sessions, "meshc.users", "meshc.credentials", "meshc.csrf", "meshc.lua", "meshc.wasm", Processor, "meshc.rate", "meshc.quota"}
}

// side is the direction of a chain: requests that leave a workload or enter the
// mesh at a gateway, and requests that arrive at a workload.
type side string

const (
	outbound side = "outbound"
	inbound  side = "inbound"
)

type slotDef struct {
	slot  Slot
	sides []side
	// asleep slots cost a request nothing until a route configures them
	// (HttpFilter.disabled).
	asleep  bool
	neutral func() proto.Message
}

// slots is the one ordered list of HTTP filters, of those that features have and those
// that they will have. All slots of a side are in every chain of that side, with a
// configuration that does nothing: if a filter came and went with the routes that need
// it, the first route with a fault would replace the listener and drain every connection.
func slots() []slotDef {
	both := []side{outbound, inbound}
	position := func() proto.Message { return &filterchainv3.FilterChainConfig{} }
	return []slotDef{
		// First, so that it sees answers last, those of other filters included. It says the
		// same for every route.
		{SlotAnswers, both, false, cleanAnswers},
		{SlotCORS, both, true, func() proto.Message { return &corsv3.Cors{} }},
		{SlotFault, []side{outbound}, true, func() proto.Message { return &faultv3.HTTPFault{} }},
		// What stands in SlotFault has one delay and one abort: a further fault is the next.
		{SlotUsers, both, true, position},
		{SlotDeny, both, true, func() proto.Message { return &rbacv3.RBAC{} }},
		// An ALLOW without policies denies all: a route configuration without grants fails closed.
		{SlotRBAC, []side{inbound}, false, func() proto.Message {
			return &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW}}
		}},
		{SlotAuthorize, both, true, position},
		{SlotLimits, both, true, position},
		{SlotExtensions, both, true, position},
		{SlotBodies, both, true, position},
		// suppress_envoy_headers: the router adds no x-envoy-* header of its own, so
		// that nothing internal leaks and both hops see the same request.
		{SlotRouter, both, false, func() proto.Message {
			return &routerv3.Router{SuppressEnvoyHeaders: true}
		}},
	}
}

// order is a reason for the order of two slots. A test holds slots against it.
type order struct {
	before, after Slot
	because       string
}

func orders() []order {
	return []order{
		{SlotCORS, SlotFault, "a browser that is told nothing of an answer cannot tell a fault from a refusal"},
		{SlotCORS, SlotUsers, "a preflight carries no credentials: whoever asked for some would refuse it"},
		{SlotCORS, SlotRBAC, "a preflight is an OPTIONS that no grant names, and its answer says nothing of what is behind"},
		{SlotFault, SlotUsers, "a drill must not hang on who is signed in"},
		{SlotUsers, SlotDeny, "what is refused may depend on who the user is"},
		{SlotDeny, SlotRBAC, "one denial refuses, whatever grants say"},
		{SlotUsers, SlotRBAC, "a grant may ask who the user is"},
		{SlotRBAC, SlotAuthorize, "whoever may not come at all is no question for others"},
		{SlotRBAC, SlotLimits, "a caller without a grant must not spend the tokens of those who have one"},
		{SlotAuthorize, SlotLimits, "nor must one that was refused by others"},
		{SlotLimits, SlotExtensions, "what is too much must not reach the most expensive"},
		{SlotExtensions, SlotBodies, "what an extension sends is held and packed like the rest"},
		{SlotAnswers, SlotCORS, "answers pass the filters backwards: what a filter behind this one answers is cleaned"},
		{SlotBodies, SlotRouter, "the router ends the chain: nothing behind it happens"},
	}
}

// chain returns the HTTP filters of a side.
func chain(s side) []*hcmv3.HttpFilter {
	var out []*hcmv3.HttpFilter
	for _, d := range slots() {
		if slices.Contains(d.sides, s) {
			out = append(out, &hcmv3.HttpFilter{
				Name:       string(d.slot),
				Disabled:   d.asleep,
				ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(d.neutral())},
			})
		}
	}
	return out
}

// hasSlot reports whether the chain of a side has that slot.
func hasSlot(s side, slot Slot) bool {
	return slices.ContainsFunc(slots(), func(d slotDef) bool { return d.slot == slot && slices.Contains(d.sides, s) })
}
