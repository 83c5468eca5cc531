# METADATA
# title: Addresses come from the cluster
# description: >-
#   Where a service's pods are, the cluster's controllers say. What is written beside them
#   by hand gets the service's traffic.
package meshc.object.endpoints

import data.meshc.lib.cluster
import rego.v1

# METADATA
# title: No addresses of a service by hand
# description: They lead the service's callers to whatever is there; without an identity it can only harm them, and in plaintext it can read them.
# custom:
#   id: endpoints-by-hand
#   severity: deny
#   twin: meshc-endpoints
#   fix: leave it to the controllers; addresses outside of the cluster stand in the intent (`endpoints`)
findings contains cluster.finding(
	rego.metadata.rule(),
	"endpoints",
	sprintf("%s gives service %q of namespace %q addresses that are not the cluster's", [cluster.subject, service, input.namespace]),
) if {
	input.operation != "DELETE"
	some service in services
	input.mesh.services[input.namespace][service]
	not cluster.approved
	not by_controller
}

# services are those that the object is about, before the change and after it.
services contains o.metadata.labels["kubernetes.io/service-name"] if {
	input.kind == "EndpointSlice"
	some o in [input.object, input.old]
}

services contains input.name if input.kind == "Endpoints"

# by_controller: whoever asks is one of the cluster's controllers, or an administrator for
# one: some clusters run their controllers as that.
by_controller if input.user.name in controllers

by_controller if {
	"system:masters" in input.user.groups
	some label in ["endpointslice.kubernetes.io/managed-by", "endpoints.kubernetes.io/managed-by"]
	regex.match(`^(endpointslice|endpointslicemirroring|endpoint)-controller`, input.object.metadata.labels[label])
}

controllers := {
	"system:kube-controller-manager",
	"system:serviceaccount:kube-system:endpoint-controller",
	"system:serviceaccount:kube-system:endpointslice-controller",
	"system:serviceaccount:kube-system:endpointslicemirroring-controller",
	"system:serviceaccount:kube-system:generic-garbage-collector",
}
