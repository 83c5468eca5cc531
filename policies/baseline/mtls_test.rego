package meshc.mesh.mtls_test

import data.meshc.mesh.mtls
import rego.v1

ids(mesh, exceptions) := {finding.id |
	some finding in mtls.findings with input as {
		"mesh": mesh,
		"environment": "prod",
		"at": "2026-06-01T00:00:00Z",
		"exceptions": exceptions,
		"owners": {},
	}
}

port(mode) := {"name": "http", "number": 8080, "protocol": "http", "mtls": mode}

web(mode) := {"services": [{"id": "shop/web", "namespace": "shop", "name": "web", "owner": "shop", "ports": [port(mode)]}]}

exception(path, mode, until) := {
	"path": path,
	"kind": "mtls",
	"mode": mode,
	"owner": "team-web",
	"reason": "old clients",
	"until": until,
}

soon := "2026-07-01T00:00:00Z"

test_allow_strict if ids(web("strict"), []) == set()

test_allow_mesh_without_services if ids({}, []) == set()

test_allow_exception_at_each_level if {
	every path in ["mesh", "namespace/shop", "service/shop/web", "service/shop/web/port/http"] {
		ids(web("permissive"), [exception(path, "permissive", soon)]) == set()
	}
}

# The instant itself is the last one in force.
test_allow_last_instant if ids(web("disable"), [exception("mesh", "disable", "2026-06-01T00:00:00Z")]) == set()

# Another kind of exception, and a strict mode somewhere, are no exceptions from mTLS.
test_allow_other_exceptions if {
	other := object.union(exception("mesh", "x", ""), {"kind": "other"})
	ids(web("strict"), [other, exception("service/shop/web", "strict", "")]) == set()
}

test_deny_no_end if ids(web("permissive"), [exception("mesh", "permissive", "")]) == {"mtls-no-end"}

test_deny_without_exception if ids(web("permissive"), []) == {"mtls-not-strict"}

test_deny_expired_exception if {
	ids(web("disable"), [exception("mesh", "disable", "2026-05-31T23:59:59Z")]) == {"mtls-not-strict"}
}

test_deny_exception_elsewhere if {
	ids(web("permissive"), [exception("namespace/other", "permissive", soon)]) == {"mtls-not-strict"}
}

test_deny_exception_of_another_mode if {
	ids(web("disable"), [exception("mesh", "permissive", soon)]) == {"mtls-not-strict"}
}

test_warn_no_reason if {
	nameless := object.union(exception("mesh", "permissive", soon), {"owner": "", "reason": ""})
	ids(web("permissive"), [nameless]) == {"mtls-no-reason"}
}

test_warn_long if ids(web("permissive"), [exception("mesh", "permissive", "2026-09-01T00:00:00Z")]) == {"mtls-long"}
