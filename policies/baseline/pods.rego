# METADATA
# title: Pods go through their proxy
# description: >-
#   A pod that some traffic of its own leads past the proxy has neither the identity nor
#   the grants that the mesh was approved with; one that reaches into its node reaches
#   into all pods there.
package meshc.object.pods

import data.meshc.lib.cluster
import data.meshc.lib.workload
import rego.v1

# METADATA
# title: No pod of the mesh on the network of its node
# description: Nothing there goes through a proxy.
# custom:
#   id: pod-host-network
#   severity: deny
#   twin: meshc-pods
#   fix: remove hostNetwork, or give the pod an account that the mesh does not know
findings contains cluster.finding(
	rego.metadata.rule(),
	sprintf("%s.hostNetwork", [workload.prefix]),
	sprintf("%s runs as %q, an account of the mesh, on the network of its node, where nothing goes through a proxy", [cluster.subject, workload.account]),
) if {
	workload.in_mesh
	workload.spec.hostNetwork == true
}

# METADATA
# title: No pod of the mesh among the processes of its node
# description: Processes of the node see and change those of all its pods, proxies and their keys included.
# custom:
#   id: pod-host-processes
#   severity: deny
#   twin: meshc-pods
#   fix: remove the field
findings contains cluster.finding(
	rego.metadata.rule(),
	place,
	sprintf("%s asks for %s: it would be among the processes of its node, and of other pods' proxies", [cluster.subject, place]),
) if {
	workload.in_mesh
	some place in node_processes
}

# METADATA
# title: No port of a node leads past a proxy
# description: A host port is a way in that no Service and no gateway knows.
# custom:
#   id: pod-host-port
#   severity: deny
#   twin: meshc-pods
#   fix: remove hostPort; a gateway is where visitors come in
findings contains cluster.finding(
	rego.metadata.rule(),
	sprintf("%s.ports[%d].hostPort", [c.path, i]),
	sprintf("container %q of %s takes port %d of its node", [c.it.name, cluster.subject, port.hostPort]),
) if {
	workload.in_mesh
	not workload.gateway
	some c in workload.containers
	some i, port in c.it.ports
	port.hostPort > 0
}

# METADATA
# title: No folder of a node in a pod of the mesh
# description: Sockets, keys and other pods' volumes lie there.
# custom:
#   id: pod-host-path
#   severity: deny
#   twin: meshc-pods
#   fix: use another volume, such as emptyDir or a claim
findings contains cluster.finding(
	rego.metadata.rule(),
	sprintf("%s.volumes[%d].hostPath", [workload.prefix, i]),
	sprintf("volume %q of %s is a folder of its node", [volume.name, cluster.subject]),
) if {
	workload.in_mesh
	some i, volume in workload.spec.volumes
	volume.hostPath
}

# METADATA
# title: Nobody sees the proxy's processes
# description: Who does reads its keys out of its memory or its files.
# custom:
#   id: pod-shared-processes
#   severity: deny
#   twin: meshc-pods
#   fix: remove the field; `kubectl debug --target` may name a container of the application
findings contains cluster.finding(
	rego.metadata.rule(),
	place,
	sprintf("%s asks for %s: a container would see the proxy's processes, and its keys", [cluster.subject, place]),
) if {
	workload.in_mesh
	some place in shared_processes
}

# METADATA
# title: Only the sidecar runs as the sidecar
# description: What runs as user or group 1337 is not redirected.
# custom:
#   id: pod-proxy-user
#   severity: deny
#   twin: meshc-pods
#   fix: choose another id than 1337
findings contains cluster.finding(
	rego.metadata.rule(),
	place,
	sprintf("%s runs something as the user or group %d, whose traffic is not redirected", [cluster.subject, proxy]),
) if {
	workload.in_mesh
	some place in proxy_users
}

# METADATA
# title: Only the sidecar changes how a pod's traffic goes
# description: With these powers a container takes the redirection away, or goes round it.
# custom:
#   id: pod-net-admin
#   severity: deny
#   twin: meshc-pods
#   fix: drop NET_ADMIN, NET_RAW, SYS_ADMIN and their like, and do not run it privileged
findings contains cluster.finding(
	rego.metadata.rule(),
	sprintf("%s.securityContext", [c.path]),
	sprintf("container %q of %s may undo the redirection: it is privileged or has %s", [c.it.name, cluster.subject, concat(", ", powers)]),
) if {
	workload.in_mesh
	some c in workload.others
	powers := powers_of(c.it)
	count(powers) > 0
}

# METADATA
# title: Whoever may become the sidecar's user can go past it
# description: root changes its user, unless it has lost the capabilities for that.
# custom:
#   id: pod-root
#   severity: warn
#   fix: run it as another user, or drop ALL capabilities
findings contains cluster.finding(
	rego.metadata.rule(),
	sprintf("%s.securityContext", [c.path]),
	sprintf("container %q of %s runs as root and may become user %d, whose traffic is not redirected", [c.it.name, cluster.subject, proxy]),
) if {
	workload.in_mesh
	some c in workload.others
	user_of(c.it) == 0
	not kept_user(c.it)
}

proxy := 1337

node_processes contains sprintf("%s.%s", [workload.prefix, field]) if {
	some field in ["hostPID", "hostIPC"]
	workload.spec[field] == true
}

node_processes contains sprintf("%s.securityContext.windowsOptions.hostProcess", [workload.prefix]) if {
	workload.spec.securityContext.windowsOptions.hostProcess == true
}

node_processes contains sprintf("%s.securityContext.windowsOptions.hostProcess", [c.path]) if {
	some c in workload.containers
	c.it.securityContext.windowsOptions.hostProcess == true
}

shared_processes contains sprintf("%s.shareProcessNamespace", [workload.prefix]) if {
	workload.spec.shareProcessNamespace == true
}

shared_processes contains sprintf("%s.targetContainerName", [c.path]) if {
	some c in workload.containers
	c.it.targetContainerName in workload.names
}

proxy_users contains sprintf("%s.securityContext.%s", [c.path, field]) if {
	some c in workload.others
	some field in ["runAsUser", "runAsGroup"]
	c.it.securityContext[field] == proxy
}

# A member of the group makes itself a program that runs as it.
proxy_users contains sprintf("%s.securityContext.%s", [workload.prefix, field]) if {
	some field in ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"]
	value := workload.spec.securityContext[field]
	proxy in {v | v := value} | {v | some v in value}
}

user_of(container) := object.get(
	object.get(container, "securityContext", {}), "runAsUser",
	object.get(workload.spec, ["securityContext", "runAsUser"], -1),
)

# kept_user: it has lost the capabilities to change its user and group.
kept_user(container) if "ALL" in dropped(container)

kept_user(container) if {"SETGID", "SETUID"} == dropped(container) & {"SETGID", "SETUID"}

dropped(container) := {trim_prefix(upper(power), "CAP_") | some power in container.securityContext.capabilities.drop}

powers_of(container) := {name |
	some power in container.securityContext.capabilities.add
	name := trim_prefix(upper(power), "CAP_")
	name in {"NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "BPF", "ALL"}
} | {"privileged" | container.securityContext.privileged == true}
