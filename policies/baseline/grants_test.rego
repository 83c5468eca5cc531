package meshc.mesh.grants_test

import data.meshc.mesh.grants
import rego.v1

findings(grant) := excepted(grant, [])

excepted(grant, exceptions) := found if {
	found := grants.findings with input as {
		"mesh": {"services": [{
			"id": "shop/web",
			"namespace": "shop",
			"name": "web",
			"owner": "shop",
			"ports": [{"name": "http", "number": 80, "protocol": "http", "mtls": "strict"}, {"name": "plain", "number": 81, "protocol": "http", "mtls": "permissive"}],
			"grants": [object.union({"name": "g"}, grant)],
		}]},
		"environment": "prod",
		"at": "2026-06-01T00:00:00Z",
		"exceptions": exceptions,
		"owners": {},
	}
}

ids(grant) := {finding.id | some finding in findings(grant)}

test_allow_named_accounts if ids({"accounts": ["shop/front"]}) == set()

test_allow_namespaces if ids({"namespaces": ["shop"]}) == set()

test_deny_anyone if ids({"anyone": true}) == {"grant-anyone"}

# Paths do not make callers known.
test_deny_anyone_on_paths if ids({"anyone": true, "paths": [{"kind": "exact", "value": "/health"}]}) == {"grant-anyone"}

moves := {"path": "service/shop/web/grant/g", "kind": "grant", "mode": "", "owner": "shop", "reason": "batch hosts move", "until": "2026-07-01T00:00:00Z"}

moving(change) := {finding.id | some finding in excepted({"anyone": true}, [object.union(moves, change)])}

test_allow_anyone_for_a_while if moving({}) == {"grant-anyone-until"}

test_warn_anyone_for_long if moving({"until": "2026-10-01T00:00:00Z"}) == {"grant-anyone-until", "grant-anyone-long"}

test_deny_anyone_without_an_answer if {
	every field in ["owner", "reason", "until"] {
		moving({field: ""}) == {"grant-anyone"}
	}
}

test_deny_anyone_after_the_end if "grant-anyone" in moving({"until": "2026-05-31T23:59:59Z"})

test_deny_anyone_elsewhere if "grant-anyone" in moving({"path": "service/shop/web/grant/other"})

test_deny_anyone_by_another_exception if moving({"kind": "mtls"}) == {"grant-anyone"}

probes := {"anyone": true, "paths": [{"kind": "exact", "value": "/healthz"}], "ports": ["plain"]}

opening := {"path": "service/shop/web/port/plain", "kind": "mtls", "mode": "permissive", "owner": "shop", "reason": "probes", "until": "2026-07-01T00:00:00Z"}

opened(grant, exception) := {finding.id | some finding in excepted(object.union(probes, grant), [object.union(opening, exception)])}

test_allow_anyone_by_plaintext if opened({}, {}) == {"grant-anyone-plaintext"}

test_allow_anyone_by_plaintext_above if {
	every path in ["service/shop/web", "namespace/shop", "mesh"] {
		opened({}, {"path": path}) == {"grant-anyone-plaintext"}
	}
}

test_deny_anyone_by_plaintext_elsewhere if {
	every path in ["service/shop/web/port/http", "service/shop/other", "namespace/other"] {
		opened({}, {"path": path}) == {"grant-anyone"}
	}
}

test_deny_anyone_by_plaintext_on_all_paths if opened({"paths": [{"kind": "below", "value": "/"}]}, {}) == {"grant-anyone"}

test_deny_anyone_by_plaintext_on_a_strict_port if opened({"ports": ["http", "plain"]}, {"path": "mesh"}) == {"grant-anyone"}

test_deny_anyone_by_plaintext_after_the_end if opened({}, {"until": "2026-05-31T23:59:59Z"}) == {"grant-anyone"}

test_deny_anyone_by_plaintext_without_an_answer if {
	every field in ["owner", "reason", "until"] {
		opened({}, {field: ""}) == {"grant-anyone"}
	}
}

test_deny_mesh if ids({"mesh": true}) == {"grant-mesh"}

test_deny_mesh_on_all_paths if {
	every kind in ["below", "prefix"] {
		ids({"mesh": true, "paths": [{"kind": "exact", "value": "/a"}, {"kind": kind, "value": "/"}]}) == {"grant-mesh"}
	}
}

test_warn_mesh_on_some_paths if ids({"mesh": true, "paths": [{"kind": "below", "value": "/a/"}]}) == {"grant-mesh-paths"}

# Patterns that every account's identity fits are the whole mesh.
everyone := ["*", "*/*", "*/*/*", "*/*/*/*", "*/*/sa/*", "ns/*", "ns/*/*", "ns/*/*/*", "ns/*/sa/*"]

test_deny_identities_of_the_whole_mesh if {
	every path in everyone {
		ids({"identities": ["vm/batch", path]}) == {"grant-mesh"}
		ids({"identities": [path], "ports": ["http"]}) == {"grant-mesh"}
		ids({"identities": [path], "paths": [{"kind": "below", "value": "/"}]}) == {"grant-mesh"}
	}
}

test_warn_identities_of_the_whole_mesh_on_some_paths if {
	every path in everyone {
		ids({"identities": [path], "paths": [{"kind": "below", "value": "/a/"}]}) == {"grant-mesh-paths"}
	}
}

test_allow_identities_that_leave_somebody_out if {
	every path in ["vm/batch", "vm/*", "ns/shop/*", "ns/shop/sa/*", "ns/*/sa/web", "*/shop/*", "*/*/vm/*", "ns/*/sa", "ns/*/sa/*/*"] {
		ids({"identities": [path]}) == set()
	}
}

sources(ranges) := ids({"plaintext": true, "sources": ranges})

test_allow_plaintext_from_networks if {
	sources(["10.0.0.0/8", "10.1.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fd00::/8"]) == set()
}

test_warn_plaintext_from_wide_ranges if {
	every ranges in [
		["0.0.0.0/6"],
		["10.0.0.0/8", "64.0.0.0/8", "65.0.0.0/8"],
		["2000::/3", "10.0.0.0/8"],
	] {
		sources(ranges) == {"grant-plaintext-wide"}
	}
}

test_allow_service_without_grants if {
	count(grants.findings) == 0 with input as {"mesh": {"services": [{"id": "shop/web"}]}}
}

test_path_of_the_finding if {
	{finding.path | some finding in findings({"anyone": true})} == {"service/shop/web/grant/g"}
}
