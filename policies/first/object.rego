package meshc.object.my_rule

import data.meshc.lib.cluster
import rego.v1

# The rule's name in answers, metrics and intent is its id. Its severity says what becomes
# of what it finds: "deny", "warn", or "audit" (noted only). Begin with "warn".

# METADATA
# title: Pods say which team they are from
# custom:
#   id: my-rule
#   severity: warn
#   fix: "write into the pod's template: metadata: labels: team: …"
findings contains cluster.finding(
	rego.metadata.rule(),
	"metadata.labels",
	sprintf("pod %q has no label %q", [cluster.name, "team"]),
) if {
	input.kind == "Pod"
	input.namespace in input.mesh.namespaces
	not input.object.metadata.labels.team
}
