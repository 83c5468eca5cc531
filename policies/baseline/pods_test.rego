package meshc.object.pods_test

import data.meshc.object.pods
import rego.v1

pod(spec) := {
	"operation": "CREATE",
	"kind": "Pod",
	"namespace": "shop",
	"name": "web-1",
	"object": {"metadata": {"name": "web-1"}, "spec": object.union({"serviceAccountName": "web"}, spec)},
	"mesh": {"accounts": ["shop/web"], "namespaces": ["shop"]},
}

ids(input_) := {finding.id | some finding in found} if {
	found := pods.findings with input as input_
}

with_container(list, container) := pod({list: [object.union({"name": "app"}, container)]})

test_allow_plain if ids(with_container("containers", {"securityContext": {"runAsUser": 1000}})) == set()

test_allow_strangers if {
	ids(object.union(pod({"hostNetwork": true}), {"namespace": "kube-system"})) == set()
}

test_allow_other_kinds if ids(object.union(pod({"hostNetwork": true}), {"kind": "PodTemplate"})) == set()

test_deny_host_network if ids(pod({"hostNetwork": true})) == {"pod-host-network"}

# Without a name, the server makes one.
test_deny_generated_name if {
	some finding in pods.findings with input as object.union(pod({"hostNetwork": true}), {"name": "", "object": {"metadata": {"generateName": "web-"}}})
	contains(finding.msg, "web-…")
}

test_deny_proxy_user if {
	every list in ["initContainers", "containers", "ephemeralContainers"] {
		every field in ["runAsUser", "runAsGroup"] {
			ids(with_container(list, {"securityContext": {field: 1337}})) == {"pod-proxy-user"}
		}
	}
}

test_allow_the_sidecar if {
	ids(with_container("initContainers", {"name": "meshc-proxy", "securityContext": {"runAsUser": 1337}})) == set()
	ids(with_container("initContainers", {"name": "meshc-redirect", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}})) == set()
}

test_deny_net_admin if {
	every power in ["NET_ADMIN", "net_admin", "CAP_NET_RAW", "SYS_ADMIN", "ALL"] {
		ids(with_container("containers", {"securityContext": {"capabilities": {"add": [power]}}})) == {"pod-net-admin"}
	}
}

test_deny_privileged if ids(with_container("initContainers", {"securityContext": {"privileged": true}})) == {"pod-net-admin"}
