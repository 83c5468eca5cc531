# METADATA
# title: Grants name their callers
# description: >-
#   Default deny is worth what its widest grant leaves of it: a grant says which
#   services or namespaces may call.
package meshc.mesh.grants

import data.meshc.lib.mesh
import rego.v1

# METADATA
# title: No grant to anyone at all
# custom:
#   id: grant-anyone
#   severity: deny
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.grant_path(service, grant),
	sprintf("grant %q of service %q admits anyone, also callers without an identity", [grant.name, service.id]),
	"name the callers: from: [\"<service>\"] or namespaces: [\"<namespace>\"]; traffic from outside comes through a gateway: from: [\"gateway/<name>\"]",
) if {
	input.mesh.services[i].grants[j].anyone
	service := input.mesh.services[i]
	grant := service.grants[j]
}

# METADATA
# title: No grant of everything to the whole mesh
# custom:
#   id: grant-mesh
#   severity: deny
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.grant_path(service, grant),
	sprintf("grant %q of service %q admits every identity of the mesh to every path", [grant.name, service.id]),
	"name the callers: from: [\"<service>\"] or namespaces: [\"<namespace>\"], or the paths that everyone needs",
) if {
	input.mesh.services[i].grants[j].mesh
	service := input.mesh.services[i]
	grant := service.grants[j]
	not narrow(grant)
}

# METADATA
# title: A grant of some paths to the whole mesh is looked at
# custom:
#   id: grant-mesh-paths
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.grant_path(service, grant),
	sprintf("grant %q of service %q admits every identity of the mesh to some paths", [grant.name, service.id]),
	"name the callers if they are known",
) if {
	input.mesh.services[i].grants[j].mesh
	service := input.mesh.services[i]
	grant := service.grants[j]
	narrow(grant)
}

# narrow: the paths leave something out.
narrow(grant) if {
	count(grant.paths) > 0
	every path in grant.paths {
		not everything(path)
	}
}

everything(path) if {
	path.value == "/"
	path.kind in {"prefix", "below"}
}
