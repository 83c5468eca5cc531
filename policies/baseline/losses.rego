# METADATA
# title: What targets go without
# description: >-
#   The objects of a target may leave out what the mesh says, if the root package accepts
#   that by name. Where what is lost keeps callers out, whoever those objects serve lets
#   them in, unless something else there keeps them out.
package meshc.mesh.losses

import data.meshc.lib.mesh
import rego.v1

# METADATA
# title: A target that goes without what keeps callers out is looked at
# custom:
#   id: loss-access
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.loss_path(loss),
	sprintf("the %s target goes without %q: %s (%s)", [loss.target, loss.name, loss.reason, loss.owner]),
	"see that what runs these objects keeps out the same callers, or serve the target envoy",
) if {
	some loss in input.losses
	loss.name in {"identity", "grant", "deny", "mtls"}
}
