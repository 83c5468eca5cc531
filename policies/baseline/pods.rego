# METADATA
# title: Pods go through their proxy
# description: >-
#   A pod that some traffic of its own leads past the proxy has neither the identity nor
#   the grants that the mesh was approved with.
package meshc.object.pods

import data.meshc.lib.cluster
import rego.v1

# METADATA
# title: No pod of the mesh on the network of its node
# custom:
#   id: pod-host-network
#   severity: deny
findings contains cluster.finding(
	rego.metadata.rule(),
	"spec.hostNetwork",
	sprintf("pod %q runs as %q, an account of the mesh, on the network of its node, where nothing goes through a proxy", [cluster.name, account]),
	"remove hostNetwork, or give the pod an account that the mesh does not know",
) if {
	in_mesh
	input.object.spec.hostNetwork == true
}

# METADATA
# title: Only the sidecar runs as the sidecar
# custom:
#   id: pod-proxy-user
#   severity: deny
findings contains cluster.finding(
	rego.metadata.rule(),
	sprintf("spec.%s[%d].securityContext", [list, i]),
	sprintf("container %q of pod %q runs as the user or group %d, whose traffic is not redirected", [container.name, cluster.name, proxy]),
	sprintf("choose another id than %d", [proxy]),
) if {
	in_mesh
	some list in container_lists
	some i, container in input.object.spec[list]
	container.name != "meshc-proxy"
	some field in ["runAsUser", "runAsGroup"]
	container.securityContext[field] == proxy
}

# METADATA
# title: Only the sidecar changes how a pod's traffic goes
# custom:
#   id: pod-net-admin
#   severity: deny
findings contains cluster.finding(
	rego.metadata.rule(),
	sprintf("spec.%s[%d].securityContext", [list, i]),
	sprintf("container %q of pod %q may undo the redirection: it is privileged or has %s", [container.name, cluster.name, concat(", ", powers)]),
	"drop NET_ADMIN, NET_RAW and SYS_ADMIN, and do not run it privileged",
) if {
	in_mesh
	some list in container_lists
	some i, container in input.object.spec[list]
	container.name != "meshc-redirect"
	powers := powers_of(container)
	count(powers) > 0
}

proxy := 1337

container_lists := ["initContainers", "containers", "ephemeralContainers"]

account := sprintf("%s/%s", [input.namespace, object.get(input.object.spec, "serviceAccountName", "default")])

# in_mesh: the pod runs as an account that the approved mesh knows.
in_mesh if {
	input.kind == "Pod"
	account in input.mesh.accounts
}

powers_of(container) := {power |
	some power in container.securityContext.capabilities.add
	upper(trim_prefix(upper(power), "CAP_")) in {"NET_ADMIN", "NET_RAW", "SYS_ADMIN", "BPF", "ALL"}
} | {"privileged" | container.securityContext.privileged == true}
