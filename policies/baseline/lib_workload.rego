# METADATA
# title: Pods, and what makes pods
# description: >-
#   A pod is judged where it is made and where a controller is told to make it, so that
#   whoever applies a Deployment learns of it, and not a controller that tries for ever.
#   What a living object has already is not judged again: nobody could scale it, or let
#   it go.
package meshc.lib.workload

import rego.v1

# templates says where the kinds that make pods keep what they make them from.
templates := {
	"CronJob": ["spec", "jobTemplate", "spec", "template"],
	"DaemonSet": ["spec", "template"],
	"Deployment": ["spec", "template"],
	"Job": ["spec", "template"],
	"PodTemplate": ["template"],
	"ReplicaSet": ["spec", "template"],
	"ReplicationController": ["spec", "template"],
	"StatefulSet": ["spec", "template"],
}

is_pod if input.kind == "Pod"

at := [] if is_pod

at := templates[input.kind]

pod := object.get(input.object, at, {})

was := object.get(input.old, at, {})

spec := object.get(pod, "spec", {})

# prefix is the path of spec.
prefix := concat(".", array.concat(at, ["spec"]))

labels := object.get(pod, ["metadata", "labels"], {})

annotations := object.get(pod, ["metadata", "annotations"], {})

# account is what the pod runs as, in its namespace. serviceAccount is the field's old name.
account := name if {
	name := object.get(spec, "serviceAccountName", "")
	name != ""
} else := name if {
	name := object.get(spec, "serviceAccount", "")
	name != ""
} else := "default"

# gateway: the pod is a gateway's, which is a proxy and nothing else.
gateway if {
	some g in input.mesh.gateways[input.namespace]
	account in array.concat([g.account], object.get(g, "former_accounts", []))
}

# belongs: the pod has an account that the approved mesh knows, or it is made where every
# pod gets a sidecar.
belongs if sprintf("%s/%s", [input.namespace, account]) in input.mesh.accounts

belongs if gateway

belongs if input.namespace in input.mesh.injected

# in_mesh: such a pod, and something of what it runs is new.
in_mesh if {
	belongs
	input.operation != "DELETE"
	spec != object.get(was, "spec", {})
}

# marked: such a pod, and something of its labels or annotations is new.
marked if {
	belongs
	input.operation != "DELETE"
	[labels, annotations] != [object.get(was, ["metadata", "labels"], {}), object.get(was, ["metadata", "annotations"], {})]
}

# containers are all of the pod's, of every kind, with the path of each.
containers contains {"list": list, "index": i, "it": container, "path": sprintf("%s.%s[%d]", [prefix, list, i])} if {
	some list in ["initContainers", "containers", "ephemeralContainers"]
	some i, container in spec[list]
}

# others are those that are no part of a proxy of ours.
others contains c if {
	some c in containers
	not own(c)
}

# own: the sidecar in its place, which the webhook adds to pods and not to what makes
# them, and the proxy of a gateway. Whether it is the release's to the last field, the
# webhook knows (MESH0704).
own(c) if {
	is_pod
	[c.list, c.index, c.it.name] in sidecar
	ours(c.it)
}

own(c) if {
	gateway
	[c.list, c.it.name] == ["containers", "meshc-proxy"]
	ours(c.it)
}

# Without injection, pods bring their own proxy.
own(c) if {
	input.mesh.image == ""
	c.it.name in names
}

sidecar := {["initContainers", 0, "meshc-redirect"], ["initContainers", 1, "meshc-proxy"]}

names := {"meshc-redirect", "meshc-proxy"}

# A living pod has the sidecar of its day, and a release may bring another digest: what
# stays is where the image comes from.
ours(container) if {
	split(object.get(container, "image", ""), "@")[0] == split(input.mesh.image, "@")[0]
	object.get(container, "command", [])[0] == "meshc-agent"
}
