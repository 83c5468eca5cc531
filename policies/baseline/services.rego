# METADATA
# title: Services lead where the intent says
# description: >-
#   A Service decides who is behind a name, and from where. In the namespaces of a mesh
#   its gateways are the way in.
package meshc.object.services

import data.meshc.lib.cluster
import data.meshc.lib.workload
import rego.v1

# METADATA
# title: Visitors come in through a gateway
# description: A port of every node, or a load balancer, leads past the gateways' hosts and routes.
# custom:
#   id: service-exposed
#   severity: deny
#   twin: meshc-services
#   fix: make it ClusterIP, and write a host and routes in the intent
findings contains cluster.finding(
	rego.metadata.rule(),
	"spec.type",
	sprintf("%s of namespace %q has the type %s, and is no gateway's", [cluster.subject, input.namespace, input.object.spec.type]),
) if {
	judged
	input.object.spec.type in {"NodePort", "LoadBalancer"}
	not of_gateway
}

# METADATA
# title: No Service takes addresses from outside the cluster
# description: Every node would send what goes to such an address to this Service, whoever dials it.
# custom:
#   id: service-external-ips
#   severity: deny
#   twin: meshc-services
#   fix: remove externalIPs
findings contains cluster.finding(
	rego.metadata.rule(),
	"spec.externalIPs",
	sprintf("%s of namespace %q takes what is sent to %s, also by others", [cluster.subject, input.namespace, concat(", ", input.object.spec.externalIPs)]),
) if {
	judged
	count(input.object.spec.externalIPs) > 0
}

# METADATA
# title: No alias of something inside
# description: The alias is another name for what has an owner and grants of its own, or for the node's and the cloud's own services.
# custom:
#   id: service-external-name
#   severity: deny
#   twin: meshc-services
#   fix: call what is meant by its own name; what is outside is an external of the intent
findings contains cluster.finding(
	rego.metadata.rule(),
	"spec.externalName",
	sprintf("%s of namespace %q is another name for %q, which is inside", [cluster.subject, input.namespace, input.object.spec.externalName]),
) if {
	judged
	input.object.spec.type == "ExternalName"
	inside(trim_suffix(lower(input.object.spec.externalName), "."))
}

# METADATA
# title: Each pod is behind its own service
# description: A second Service that selects a service's pods is a way to them of which neither their owner nor the intent knows.
# custom:
#   id: service-takes-pods
#   severity: deny
#   fix: choose a label that tells its pods from those; a second Service of the same pods belongs into the kustomize files beside the intent
findings contains cluster.finding(
	rego.metadata.rule(),
	"spec.selector",
	sprintf("%s of namespace %q selects pods of service %q", [cluster.subject, input.namespace, other]),
) if {
	judged
	not cluster.approved
	not cluster.claimed
	some other in selecting(input.object.spec.selector)
	other != input.name
	meets(input.object.spec.selector, input.mesh.services[input.namespace][other].selector)
}

# METADATA
# title: Nobody joins a service whose pods run as others
# description: The pod would get the service's traffic and could not prove that it is the service.
# custom:
#   id: pod-in-another-service
#   severity: deny
#   fix: choose other labels, or the account that the intent says
findings contains cluster.finding(
	rego.metadata.rule(),
	where,
	sprintf("%s has the labels of service %q, whose pods do not run as %q", [cluster.subject, name, workload.account]),
) if {
	some name in joined
	not workload.account in input.mesh.services[input.namespace][name].accounts
}

# METADATA
# title: Nobody joins a version whose pods run as others
# description: The pod would get the version's share of the traffic and could not prove that it is the version, so that each request there fails.
# custom:
#   id: pod-in-another-version
#   severity: deny
#   fix: choose the labels of its own version, or the account that the intent says
findings contains cluster.finding(
	rego.metadata.rule(),
	where,
	sprintf("%s has the labels of version %q of service %q, whose pods run as %q and not as %q", [cluster.subject, version, name, v.account, workload.account]),
) if {
	some name in joined
	workload.account in input.mesh.services[input.namespace][name].accounts
	some version, v in input.mesh.services[input.namespace][name].versions
	not workload.account in array.concat([v.account], object.get(v, "former_accounts", []))
	has(v.labels)
}

where := concat(".", array.concat(workload.at, ["metadata", "labels"]))

# joined are the services whose pod it becomes.
joined contains name if {
	input.namespace in input.mesh.namespaces
	input.operation != "DELETE"
	[workload.labels, workload.account] != [object.get(workload.was, ["metadata", "labels"], {}), object.get(workload.was, ["spec", "serviceAccountName"], "")]
	some name in selecting(workload.labels)
	has(input.mesh.services[input.namespace][name].selector)
}

has(labels) if {
	every key, value in labels {
		workload.labels[key] == value
	}
}

# judged: a Service in the mesh's namespaces of which something is new.
judged if {
	input.kind == "Service"
	input.group == ""
	input.namespace in input.mesh.namespaces
	input.operation != "DELETE"
	input.object.spec != object.get(input.old, "spec", {})
}

of_gateway if {
	input.mesh.gateways[input.namespace][input.name]
	input.object.spec.selector == {"app": input.name}
}

# inside are names that lead back into the cluster, to the node, or to the cloud's services
# for it. An address is written there by those who cannot write it elsewhere.
inside(name) if regex.match(`(^|\.)(localhost|local|internal)$`, name)

inside(name) if split(name, ".")[2] == "svc"

inside(name) if not contains(name, ".")

inside(name) if regex.match(`^[0-9.]+$`, name)

inside(name) if {
	parts := split(name, ".")
	count(parts) == 2
	parts[1] in input.mesh.namespaces
}

# selecting are the services of the namespace that select by one of the labels. A namespace
# may have thousands; to look at each would take a review's time.
selecting(labels) := {name |
	some key, value in labels
	some name in input.mesh.selected[input.namespace][key][value]
}

# meets: some pod may have the labels of both, as far as they tell, which share one.
meets(a, b) if {
	every k, v in a {
		object.get(b, k, v) == v
	}
}
