package meshc.mesh.retries_test

import data.meshc.mesh.retries
import rego.v1

found(mesh) := {[finding.id, finding.path] |
	some finding in retries.findings with input as {
		"mesh": mesh,
		"environment": "prod",
		"at": "2026-06-01T00:00:00Z",
		"exceptions": [],
		"owners": {},
	}
}

# service calls the services named in to; callers of it retry so many times.
service(name, attempts, to) := {
	"id": sprintf("shop/%s", [name]),
	"namespace": "shop",
	"name": name,
	"routes": [{"name": "default", "traits": {"retry": {"attempts": attempts, "on": ["gateway-error"]}}}],
	"calls": [{"to": sprintf("shop/%s", [callee]), "port": "http"} | some callee in to],
}

gateway(attempts, to) := {
	"id": "edge/edge",
	"namespace": "edge",
	"name": "edge",
	"hosts": [{"name": "shop.example", "routes": [{
		"name": "all",
		"to": [{"service": sprintf("shop/%s", [to]), "weight": 100}],
		"traits": {"retry": {"attempts": attempts, "on": ["gateway-error"]}},
	}]}],
}

test_allow_no_retries if found({"services": [{"id": "shop/web", "routes": [{"name": "default"}]}]}) == set()

test_allow_retries_at_one_place if {
	found({"services": [service("a", 0, ["b"]), service("b", 3, ["c"]), service("c", 0, [])]}) == set()
}

# What every route does by default repeats no request, however long the chain.
test_allow_a_long_chain_that_repeats_nothing if {
	chain := [object.union(service(name, 1, [sprintf("s%d", [i + 1])]), {"routes": [{
		"name": "default",
		"traits": {"retry": {"attempts": 9, "on": ["connect-failure", "refused-stream", "reset-before-request"]}},
	}]}) |
		some i in numbers.range(1, 9)
		name := sprintf("s%d", [i])
	]
	found({"services": chain}) == set()
}

# A call to something outside the mesh ends the chain.
test_allow_call_to_external if found({"services": [service("a", 3, ["nowhere"])]}) == set()

test_deny_three_layers_of_three if {
	found({"services": [service("a", 3, ["b"]), service("b", 3, ["c"]), service("c", 3, [])]}) == {["retry-storm", "service/shop/a"]}
}

# Only the place where the bound is passed is reported, not everyone in front of it.
test_deny_once_on_a_long_chain if {
	found({"services": [
		service("front", 0, ["a"]),
		service("a", 3, ["b"]),
		service("b", 3, ["c"]),
		service("c", 3, []),
	]}) == {["retry-storm", "service/shop/a"]}
}

test_deny_ring if {
	found({"services": [service("a", 2, ["b"]), service("b", 2, ["a"])]}) == {
		["retry-storm", "service/shop/a"],
		["retry-storm", "service/shop/b"],
	}
}

test_warn_two_layers_of_four if {
	found({"services": [service("a", 4, ["b"]), service("b", 4, [])]}) == {["retry-heavy", "service/shop/a"]}
}

test_allow_two_layers_of_three if found({"services": [service("a", 3, ["b"]), service("b", 3, [])]}) == set()

# The gateway's retries hold in place of the service's.
test_deny_gateway if {
	found({"services": [service("a", 0, ["b"]), service("b", 4, [])], "gateways": [gateway(9, "a")]}) == {["retry-storm-gateway", "gateway/edge/edge/host/shop.example/route/all"]}
}

test_allow_gateway if found({"services": [service("a", 3, [])], "gateways": [gateway(3, "a")]}) == set()

test_allow_gateway_that_retries_less if {
	found({"services": [service("a", 9, ["b"]), service("b", 1, [])], "gateways": [gateway(1, "a")]}) == {["retry-heavy", "service/shop/a"]}
}

# Without retries of its own the gateway passes on what the service's routes say.
test_allow_gateway_without_retries if {
	found({"services": [service("a", 3, [])], "gateways": [json.remove(gateway(0, "a"), ["hosts/0/routes/0/traits"])]}) == set()
}

test_allow_gateway_to_external if found({"services": [], "gateways": [gateway(3, "nowhere")]}) == set()

# A service that is reported itself is not reported again at the gateway.
test_deny_gateway_not_twice if {
	found({"services": [service("a", 9, ["b"]), service("b", 9, [])], "gateways": [gateway(0, "a")]}) == {["retry-storm", "service/shop/a"]}
}
