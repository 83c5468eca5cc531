package envoy

import (
	"slices"

	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
)

// Slot is a place in the chain of HTTP filters. Its text is the filter's
// canonical name, which is also the key of per-route configuration.
type Slot string

// The slots. A feature with a filter of its own adds one here and in slots.
const (
	SlotAnswers        Slot = "envoy.filters.http.header_mutation"
	SlotFault          Slot = "envoy.filters.http.fault"
	SlotRBAC           Slot = "envoy.filters.http.rbac"
	SlotLocalRateLimit Slot = "envoy.filters.http.local_ratelimit"
	SlotRouter         Slot = "envoy.filters.http.router"
)

// side is the direction of a chain: requests that leave a workload or enter the
// mesh at a gateway, and requests that arrive at a workload.
type side string

const (
	outbound side = "outbound"
	inbound  side = "inbound"
)

type slotDef struct {
	slot    Slot
	sides   []side
	neutral func() proto.Message
}

// slots is the one ordered list of HTTP filters. All slots of a side are in every
// chain of that side, with a configuration that does nothing: if a filter came
// and went with the routes that need it, the first route with a fault would
// replace the listener and drain every connection.
func slots() []slotDef {
	return []slotDef{
		// First, so that it sees answers last, those of other filters included. It says the
		// same for every route.
		{SlotAnswers, []side{outbound, inbound}, cleanAnswers},
		{SlotFault, []side{outbound}, func() proto.Message { return &faultv3.HTTPFault{} }},
		// An ALLOW without policies denies all: a route configuration without grants fails closed.
		{SlotRBAC, []side{inbound}, func() proto.Message {
			return &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW}}
		}},
		// No token bucket: no limit until a route brings one.
		{SlotLocalRateLimit, []side{inbound}, func() proto.Message {
			return &ratelimitv3.LocalRateLimit{StatPrefix: "local_rate_limit"}
		}},
		// suppress_envoy_headers: the router adds no x-envoy-* header of its own, so
		// that nothing internal leaks and both hops see the same request.
		{SlotRouter, []side{outbound, inbound}, func() proto.Message {
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
		{SlotRBAC, SlotLocalRateLimit, "a caller without a grant must not spend the tokens of those who have one"},
		{SlotAnswers, SlotFault, "answers pass the filters backwards: what a filter behind this one answers is cleaned"},
		{SlotAnswers, SlotRBAC, "answers pass the filters backwards: what a filter behind this one answers is cleaned"},
		{SlotFault, SlotRouter, "the router ends the chain: a delay or abort behind it never happens"},
		{SlotRBAC, SlotRouter, "the router ends the chain: a denial behind it comes too late"},
		{SlotLocalRateLimit, SlotRouter, "the router ends the chain: a limit behind it limits nothing"},
	}
}

// chain returns the HTTP filters of a side.
func chain(s side) []*hcmv3.HttpFilter {
	var out []*hcmv3.HttpFilter
	for _, d := range slots() {
		if slices.Contains(d.sides, s) {
			out = append(out, &hcmv3.HttpFilter{
				Name:       string(d.slot),
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
