# METADATA
# title: Nobody passes for the sidecar, or does without it
# description: >-
#   The sidecar of a pod is what the approved release says (MESH0704). These rules hold
#   also for what makes pods, and each that needs no release has a twin which an API server
#   keeps by itself, so that pods without a sidecar are refused when nobody adds any.
package meshc.object.sidecars

import data.meshc.lib.cluster
import data.meshc.lib.workload
import rego.v1

# METADATA
# title: A pod has its sidecar where every pod gets one
# description: Without it, a pod has no identity, and nothing guards what it takes and sends. Nothing of a pod runs before the redirection stands.
# custom:
#   id: pod-without-sidecar
#   severity: deny
#   twin: meshc-pods
#   fix: 'let the webhook add it: leave out init containers named meshc-…, and see that the webhook is there'
findings contains cluster.finding(
	rego.metadata.rule(),
	"spec.initContainers",
	sprintf("%s does not begin with its sidecar, and the approved release wants one in each pod of namespace %q", [cluster.subject, input.namespace]),
) if {
	input.operation == "CREATE"
	input.user.name != "" # before the cluster, nobody has added it
	workload.is_pod
	workload.in_mesh
	input.namespace in input.mesh.injected
	not workload.gateway
	not complete
}

# METADATA
# title: No pod opts out where every pod gets a sidecar
# description: The label spares a pod only where the release does not ask for sidecars.
# custom:
#   id: pod-opts-out
#   severity: deny
#   twin: meshc-pods
#   fix: remove the label meshc.dev/inject; only pods that run as a gateway's account have none
findings contains cluster.finding(
	rego.metadata.rule(),
	"metadata.labels[meshc.dev/inject]",
	sprintf("%s wants no sidecar, and the approved release wants one in each pod of namespace %q", [cluster.subject, input.namespace]),
) if {
	workload.marked
	input.namespace in input.mesh.injected
	not workload.gateway
	workload.labels["meshc.dev/inject"] == "disabled"
}

# METADATA
# title: The sidecar's names are the sidecar's
# description: What has one of them might be taken for the sidecar, by people and by meshc.
# custom:
#   id: pod-reserved-name
#   severity: deny
#   twin: meshc-pods
#   fix: choose another name; the webhook adds the sidecar to each pod by itself
findings contains cluster.finding(
	rego.metadata.rule(),
	place,
	sprintf("%s gives the name %q to something that is not the sidecar's", [cluster.subject, name]),
) if {
	workload.in_mesh
	input.mesh.image != ""
	some [place, name] in taken
}

# METADATA
# title: Only the proxy has a token for the mesh
# description: Whoever holds one gets the pod's certificate and is the pod to all others.
# custom:
#   id: pod-identity-token
#   severity: deny
#   twin: meshc-pods
#   fix: choose another audience than meshc.dev
findings contains cluster.finding(
	rego.metadata.rule(),
	sprintf("%s.volumes[%d]", [workload.prefix, i]),
	sprintf("volume %q of %s asks for a token that gets certificates of the mesh", [volume.name, cluster.subject]),
) if {
	workload.in_mesh
	input.mesh.image != ""
	some i, volume in workload.spec.volumes
	some source in volume.projected.sources
	source.serviceAccountToken.audience == "meshc.dev"
	not proxys(volume.name)
}

# METADATA
# title: Only the proxy sees the proxy's keys
# description: Its volumes hold token, keys and sockets; its folders are where they are looked for.
# custom:
#   id: pod-identity-mount
#   severity: deny
#   twin: meshc-pods
#   fix: mount another volume, at another path
findings contains cluster.finding(
	rego.metadata.rule(),
	sprintf("%s.volumeMounts[%d]", [c.path, i]),
	sprintf("container %q of %s mounts %q at %q, where the proxy keeps its identity", [c.it.name, cluster.subject, mount.name, mount.mountPath]),
) if {
	workload.in_mesh
	input.mesh.image != ""
	some c in workload.others
	some i, mount in c.it.volumeMounts
	keeps_identity(mount)
}

# METADATA
# title: A kubelet's questions go to the agent
# description: A kubelet has no identity. An HTTP probe of a port with mTLS never passes, one by TCP always does, for it is the proxy that accepts.
# custom:
#   id: pod-kubelet-probe
#   severity: deny
#   fix: 'let the webhook rewrite it: add the container before pods are created, not behind the webhook''s back'
findings contains cluster.finding(
	rego.metadata.rule(),
	sprintf("%s.%s", [c.path, kind]),
	sprintf("%s of container %q of %s is not asked of the agent: it would tell of the proxy, not of the application", [kind, c.it.name, cluster.subject]),
) if {
	input.operation == "CREATE"
	workload.is_pod
	workload.in_mesh
	not workload.gateway
	complete
	some c in workload.others
	some kind in ["livenessProbe", "readinessProbe", "startupProbe"]
	some way in ["httpGet", "tcpSocket", "grpc"]
	how := c.it[kind][way]
	object.get(how, "host", "") == ""
	not asked_of_agent(how)
}

# METADATA
# title: No pod excludes traffic from its proxy
# description: meshc has no such exclusions. Those of other meshes would lead past both proxies, or put a second one beside ours.
# custom:
#   id: pod-exclusion
#   severity: deny
#   fix: remove it, and say in the intent what the pod may reach
findings contains cluster.finding(
	rego.metadata.rule(),
	sprintf("metadata.%s", [place]),
	sprintf("%s has %s, by which some traffic would not go through its proxy, or through two", [cluster.subject, place]),
) if {
	workload.marked
	some place in exclusions
}

# complete: the sidecar is there, in its place. Without injection nobody knows what it is.
complete if {
	count({c.index | some c in workload.containers; c.list == "initContainers"; workload.own(c)}) == 2
}

# proxied: something of the pod is a proxy of ours.
proxied if {
	some c in workload.containers
	c.it.name == "meshc-proxy"
	workload.own(c)
}

# proxys: the volume is the proxy's, where one of ours is in the pod.
proxys(name) if {
	proxied
	name == "meshc-identity"
}

taken contains [c.path, c.it.name] if {
	some c in workload.others
	c.it.name in workload.names
}

taken contains [sprintf("%s.volumes[%d]", [workload.prefix, i]), volume.name] if {
	some i, volume in workload.spec.volumes
	volume.name in object.keys(volumes)
	not proxied
}

# A volume of ours is one by its kind as well: a pod with a sidecar has no other there.
taken contains [sprintf("%s.volumes[%d]", [workload.prefix, i]), volume.name] if {
	some i, volume in workload.spec.volumes
	proxied
	not volume[volumes[volume.name]]
	volume.name in object.keys(volumes)
}

volumes := {"meshc-identity": "projected", "meshc-state": "emptyDir", "meshc-nothing": "emptyDir"}

keeps_identity(mount) if mount.name in {"meshc-identity", "meshc-state"}

keeps_identity(mount) if {
	some folder in ["/var/run/secrets/meshc.dev", "/run/secrets/meshc.dev", "/var/run/meshc", "/run/meshc"]
	startswith(rooted(mount.mountPath), sprintf("%s/", [folder]))
}

# A path that has to be read twice to see where it leads.
keeps_identity(mount) if regex.match(`/(/|[.]{1,2}/).`, rooted(mount.mountPath))

# A kubelet takes a path without a root as one below it.
rooted(path) := sprintf("/%s/", [trim_left(path, "/")]) if not startswith(path, "//")

rooted(path) := sprintf("%s/", [path]) if startswith(path, "//")

asked_of_agent(how) if {
	how.port == 15021
	startswith(how.path, "/probe/")
}

exclusions contains sprintf("annotations[%s]", [key]) if {
	some key, _ in workload.annotations
	some prefix in [
		"traffic.sidecar.istio.io/exclude", "traffic.sidecar.istio.io/include", "config.linkerd.io/skip-", "config.linkerd.io/opaque-ports",
		"traffic.kuma.io/exclude-", "traffic.kuma.io/transparent-proxying", "consul.hashicorp.com/transparent-proxy",
	]
	startswith(key, prefix)
}

# Of ours there are two on objects of a release, and none that a pod is treated by.
exclusions contains sprintf("annotations[%s]", [key]) if {
	some key, _ in workload.annotations
	regex.match(`^([a-z0-9.-]+\.)?meshc\.dev/`, key)
	not key in {"meshc.dev/owner", "meshc.dev/digest"}
}

exclusions contains sprintf("%s[%s]", [where, key]) if {
	some where, marks in {"annotations": workload.annotations, "labels": workload.labels}
	some key, value in {"sidecar.istio.io/inject": "true", "linkerd.io/inject": "enabled", "kuma.io/sidecar-injection": "enabled", "consul.hashicorp.com/connect-inject": "true"}
	marks[key] == value
}
