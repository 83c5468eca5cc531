package meshc.object.foreign_test

import data.meshc.object.foreign
import rego.v1

asked(group, kind, spec) := {
	"operation": "CREATE",
	"group": group,
	"kind": kind,
	"namespace": "shop",
	"name": "x",
	"object": {"metadata": {"name": "x"}, "spec": spec},
	"old": {},
	"mesh": {"namespaces": ["shop"], "objects": {"shop": ["gateway.networking.k8s.io/HTTPRoute/x"]}},
}

claimed(q) := object.union(q, {"object": {"metadata": {"labels": {"app.kubernetes.io/managed-by": "meshc"}}}})

ids(input_) := {finding.id | some finding in found} if {
	found := foreign.findings with input as input_
}

test_deny_objects_by_hand if {
	every pair in [
		["networking.istio.io", "EnvoyFilter"], ["networking.istio.io", "VirtualService"], ["networking.istio.io", "DestinationRule"], ["security.istio.io", "AuthorizationPolicy"],
		["gateway.networking.k8s.io", "Gateway"], ["gateway.networking.k8s.io", "GRPCRoute"], ["gateway.envoyproxy.io", "EnvoyPatchPolicy"], ["kuma.io", "MeshProxyPatch"],
		["policy.linkerd.io", "Server"], ["cilium.io", "CiliumEnvoyConfig"],
	] {
		ids(asked(pair[0], pair[1], {})) == {"foreign-object"}
	}
}

test_allow_objects_of_a_release if {
	ids(asked("gateway.networking.k8s.io", "HTTPRoute", {})) == set()
	ids(claimed(asked("networking.istio.io", "EnvoyFilter", {}))) == set()
}

test_allow_elsewhere if ids(object.union(asked("networking.istio.io", "EnvoyFilter", {}), {"namespace": "other"})) == set()

test_allow_others if {
	ids(asked("cilium.io", "CiliumNetworkPolicy", {})) == set()
	ids(asked("apps", "Deployment", {})) == set()
}

test_allow_what_is_not_new if {
	q := asked("networking.istio.io", "EnvoyFilter", {"a": "b"})
	ids(object.union(q, {"operation": "UPDATE", "old": object.union(q.object, {"status": {}, "metadata": {"finalizers": ["f"]}})})) == set()
	ids(object.union(q, {"operation": "DELETE"})) == set()
}

test_deny_what_changes if {
	q := asked("networking.istio.io", "EnvoyFilter", {"a": "b"})
	ids(object.union(q, {"operation": "UPDATE", "old": {"spec": {"a": "c"}}})) == {"foreign-object"}
}

test_deny_mtls_downgrade if {
	every pair in [
		["PeerAuthentication", {"mtls": {"mode": "PERMISSIVE"}}], ["PeerAuthentication", {"portLevelMtls": {"8080": {"mode": "DISABLE"}}}],
		["DestinationRule", {"trafficPolicy": {"tls": {"mode": "DISABLE"}}}], ["DestinationRule", {"subsets": [{"trafficPolicy": {"portLevelSettings": [{"tls": {"mode": "DISABLE"}}]}}]}],
		["MeshTLS", {"rules": [{"default": {"mode": "Permissive"}}]}],
	] {
		ids(claimed(asked("security.istio.io", pair[0], pair[1]))) == {"foreign-mtls"}
	}
}

test_allow_strict_and_other_modes if {
	ids(claimed(asked("security.istio.io", "PeerAuthentication", {"mtls": {"mode": "STRICT"}}))) == set()
	ids(claimed(asked("networking.istio.io", "DestinationRule", {"failover": {"mode": "DISABLED"}}))) == set()
}
