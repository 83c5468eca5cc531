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

test_deny_mesh if ids({"mesh": true}) == {"grant-mesh"}

test_deny_mesh_on_all_paths if {
	every kind in ["below", "prefix"] {
		ids({"mesh": true, "paths": [{"kind": "exact", "value": "/a"}, {"kind": kind, "value": "/"}]}) == {"grant-mesh"}
	}
}

test_warn_mesh_on_some_paths if ids({"mesh": true, "paths": [{"kind": "below", "value": "/a/"}]}) == {"grant-mesh-paths"}

test_allow_service_without_grants if {
	count(grants.findings) == 0 with input as {"mesh": {"services": [{"id": "shop/web"}]}}
}

test_path_of_the_finding if {
	{finding.path | some finding in findings({"anyone": true})} == {"service/shop/web/grant/g"}
}
