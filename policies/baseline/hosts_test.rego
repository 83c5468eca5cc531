package meshc.object.hosts_test

import data.meshc.object.hosts
import rego.v1

asked(group, kind, namespace, spec) := {
	"operation": "CREATE",
	"group": group,
	"kind": kind,
	"namespace": namespace,
	"name": "x",
	"object": {"metadata": {"name": "x"}, "spec": spec},
	"old": {},
	"mesh": {"namespaces": ["edge", "shop"], "hosts": {"shop.example": ["edge"], "*.wild.example": ["edge"], "*": ["edge"]}},
}

ids(input_) := {finding.id | some finding in found} if {
	found := hosts.findings with input as input_
}

ingress(host) := asked("networking.k8s.io", "Ingress", "shop", {"rules": [{"host": host}]})

test_deny_taking_a_host if {
	every host in ["shop.example", "SHOP.example", "*.example", "a.wild.example", "*.wild.example", "*.a.wild.example"] {
		ids(ingress(host)) == {"host-taken"}
	}
}

test_deny_taking_a_host_by_every_kind if {
	every q in [
		asked("networking.k8s.io", "Ingress", "shop", {"tls": [{"hosts": ["shop.example"]}]}),
		asked("gateway.networking.k8s.io", "HTTPRoute", "shop", {"hostnames": ["shop.example"]}),
		asked("gateway.networking.k8s.io", "Gateway", "shop", {"listeners": [{"hostname": "shop.example"}]}),
		asked("networking.istio.io", "Gateway", "shop", {"servers": [{"hosts": ["./shop.example"]}]}),
		asked("networking.istio.io", "VirtualService", "shop", {"hosts": ["shop.example"]}),
		asked("projectcontour.io", "HTTPProxy", "shop", {"virtualhost": {"fqdn": "shop.example"}}),
	] {
		ids(q) == {"host-taken"}
		ids(object.union(q, {"namespace": "edge"})) == set()
		ids(object.union(q, {"namespace": "anywhere"})) == {"host-taken"}
	}
}

test_allow_other_hosts if {
	every host in ["other.example", "shop.example.com", "example", "wild.example"] {
		ids(ingress(host)) == set()
	}
}

test_deny_all_names if {
	every q in [
		ingress("*"),
		asked("networking.k8s.io", "Ingress", "shop", {"rules": [{}]}),
		asked("networking.k8s.io", "Ingress", "shop", {"defaultBackend": {"service": {"name": "a"}}}),
		asked("gateway.networking.k8s.io", "Gateway", "edge", {"listeners": [{"port": 80}]}),
		asked("networking.istio.io", "Gateway", "edge", {"servers": [{"hosts": ["*"]}]}),
		asked("networking.istio.io", "Gateway", "edge", {"servers": [{"hosts": ["./*"]}]}),
	] {
		"host-wildcard" in ids(q)
		ids(object.union(q, {"namespace": "anywhere"})) == set()
	}
}

test_allow_routes_of_a_listener if ids(asked("gateway.networking.k8s.io", "HTTPRoute", "edge", {"rules": []})) == set()

test_allow_what_is_not_new if {
	q := ingress("shop.example")
	ids(object.union(q, {"operation": "UPDATE", "old": q.object})) == set()
	ids(object.union(q, {"operation": "DELETE"})) == set()
}
