# METADATA
# title: Wildcard hosts have an owner
# description: >-
#   A wildcard takes requests for names that nobody thought of. Somebody must be
#   named who answers for them; the default owner, a package's path, is nobody.
package meshc.mesh.gateways

import data.meshc.lib.mesh
import rego.v1

# METADATA
# title: A wildcard host on a gateway has a written owner
# custom:
#   id: wildcard-host
#   severity: deny
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.host_path(gateway, host),
	sprintf("gateway %q takes all names of %q, and no owner is written for it", [gateway.id, host.name]),
	"write owner: \"<team>\" in the host (or in the gateway), or name the hosts",
) if {
	some gateway in input.mesh.gateways
	some host in gateway.hosts
	contains(host.name, "*")
	not owned(gateway, host)
}

# An owner in the mesh is one that was written for the host: there is no default.
owned(_, host) if host.owner != ""

owned(gateway, host) if {
	some path in [mesh.gateway_path(gateway), mesh.host_path(gateway, host)]
	input.owners[path] != ""
}
