# METADATA
# title: An account's certificate is its pods'
package meshc.object.tokens

import data.meshc.lib.cluster
import rego.v1

# METADATA
# title: Only a kubelet gets tokens for the mesh
# description: Whoever holds one gets the account's certificate. A pod's comes into the pod by its volume, and goes with it.
# custom:
#   id: token-by-hand
#   severity: deny
#   twin: meshc-tokens
#   fix: ask for another audience than meshc.dev; the webhook gives each pod a volume with its own
findings contains cluster.finding(
	rego.metadata.rule(),
	"spec.audiences",
	sprintf("%q asks for a token of account %q that gets certificates of the mesh", [input.user.name, input.name]),
) if {
	input.kind == "TokenRequest"
	input.namespace in input.mesh.namespaces
	"meshc.dev" in input.object.spec.audiences
	count({"system:nodes", "system:masters"} & {group | some group in input.user.groups}) == 0
}
