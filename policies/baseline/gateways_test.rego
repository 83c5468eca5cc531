package meshc.mesh.gateways_test

import data.meshc.mesh.gateways
import rego.v1

paths(host, owners) := {finding.path |
	some finding in gateways.findings with input as {
		"mesh": {"gateways": [{
			"id": "edge/edge",
			"namespace": "edge",
			"name": "edge",
			"owner": "edge",
			"hosts": [{"name": host, "routes": []}],
		}]},
		"environment": "prod",
		"at": "2026-06-01T00:00:00Z",
		"exceptions": [],
		"owners": owners,
	}
}

test_allow_exact_host if paths("shop.example", {}) == set()

test_allow_wildcard_with_owner_of_host if paths("*.example", {"gateway/edge/edge/host/*.example": "team-edge"}) == set()

test_allow_wildcard_with_owner_in_the_mesh if {
	mesh := {"gateways": [{"id": "edge/edge", "hosts": [{"name": "*", "owner": "team-edge", "routes": []}]}]}
	count(gateways.findings) == 0 with input as {"mesh": mesh, "owners": {}}
}

test_allow_wildcard_with_owner_of_gateway if paths("*", {"gateway/edge/edge": "team-edge"}) == set()

# The owner in the mesh is the package's path unless one was written: it does not count.
test_deny_wildcard_without_owner if {
	paths("*", {}) == {"gateway/edge/edge/host/*"}
	paths("*.example", {}) == {"gateway/edge/edge/host/*.example"}
}

test_deny_empty_owner if paths("*", {"gateway/edge/edge": ""}) == {"gateway/edge/edge/host/*"}

test_deny_owner_of_something_else if paths("*", {"service/edge/web": "team-web"}) == {"gateway/edge/edge/host/*"}
