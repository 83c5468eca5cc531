# METADATA
# title: Grants name their callers
# description: >-
#   Default deny is worth what its widest grant leaves of it: a grant says which
#   services or namespaces may call.
package meshc.mesh.grants

import data.meshc.lib.mesh
import rego.v1

# METADATA
# title: No grant to anyone at all, save for a while
# custom:
#   id: grant-anyone
#   severity: deny
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.grant_path(service, grant),
	sprintf("grant %q of service %q admits anyone, also callers without an identity", [grant.name, service.id]),
	"name the callers: from: [\"<service>\"] or namespaces: [\"<namespace>\"]; traffic from outside comes through a gateway: from: [\"gateway/<name>\"]; while callers without identity are moved, write owner, reason and until: \"<RFC 3339 instant>\" beside it",
) if {
	input.mesh.services[i].grants[j].anyone
	service := input.mesh.services[i]
	grant := service.grants[j]
	not grant.asked
	not excused(service, grant)
}

# METADATA
# title: A grant to anyone that ends is looked at
# custom:
#   id: grant-anyone-until
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	exception.path,
	sprintf("anyone is admitted until %s: %s (%s)", [exception.until, exception.reason, exception.owner]),
	"give the callers identities, and name them instead",
) if {
	some exception in exceptions
}

# METADATA
# title: A grant to anyone ends within 90 days
# custom:
#   id: grant-anyone-long
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	exception.path,
	sprintf("anyone is admitted until %s, more than 90 days ahead", [exception.until]),
	"choose an earlier end; it can be moved by another reviewed change",
) if {
	some exception in exceptions
	time.parse_rfc3339_ns(exception.until) - now > ((((90 * 24) * 60) * 60) * 1000) * 1000000
}

# Somebody answers for it, and it ends.
exceptions := {exception |
	some exception in input.exceptions
	exception.kind == "grant"
	every field in ["owner", "reason", "until"] {
		exception[field] != ""
	}
}

now := time.parse_rfc3339_ns(input.at)

excused(service, grant) if {
	some exception in exceptions
	exception.path == mesh.grant_path(service, grant)
	time.parse_rfc3339_ns(exception.until) >= now
}

# While a port takes plaintext for a time that somebody answers for, those whom it is taken
# for may have some paths.
excused(service, grant) if {
	narrow(grant)
	every port in doors(service, grant) {
		port.mtls != "strict"
		some exception in openings
		exception.path in above(service, port)
		time.parse_rfc3339_ns(exception.until) >= now
	}
}

# METADATA
# title: What plaintext is taken for is looked at
# custom:
#   id: grant-anyone-plaintext
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.grant_path(service, grant),
	sprintf("grant %q of service %q admits callers without an identity to some paths while plaintext is taken there", [grant.name, service.id]),
	"give the callers identities, and make the port strict",
) if {
	input.mesh.services[i].grants[j].anyone
	service := input.mesh.services[i]
	grant := service.grants[j]
	not grant.asked
	excused(service, grant)
	not ended(service, grant)
}

# METADATA
# title: Callers without an identity from a wide range are looked at
# custom:
#   id: grant-plaintext-wide
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.grant_path(service, grant),
	sprintf("grant %q of service %q admits callers without an identity from more than a 128th of all addresses", [grant.name, service.id]),
	"name the networks that they are in: sources: [\"10.2.0.0/16\"]",
) if {
	input.mesh.services[i].grants[j].plaintext
	service := input.mesh.services[i]
	grant := service.grants[j]
	some version in [".", ":"]
	ranges := net.cidr_merge({source | some source in grant.sources; contains(source, version)})
	sum([parts[to_number(split(range, "/")[1])] | some range in ranges]) > parts[7]
}

# parts are how much of all addresses a range is that says how many bits its own have in common,
# of 65536; what says more is less than one.
parts := [65536, 32768, 16384, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1]

# ended are grants with an end of their own, which another rule tells of.
ended(service, grant) if {
	some exception in exceptions
	exception.path == mesh.grant_path(service, grant)
}

openings := {exception |
	some exception in input.exceptions
	exception.kind == "mtls"
	every field in ["owner", "reason", "until"] {
		exception[field] != ""
	}
}

# doors are the ports that a grant is for.
doors(service, grant) := [port |
	some port in service.ports
	port.name in object.get(grant, "ports", [port.name])
]

# above is where an exception stands that a port is under.
above(service, port) := [
	sprintf("service/%s/port/%s", [service.id, port.name]),
	sprintf("service/%s", [service.id]),
	sprintf("namespace/%s", [service.namespace]),
	"mesh",
]

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
	some [i, j] in wide
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
	some [i, j] in wide
	service := input.mesh.services[i]
	grant := service.grants[j]
	narrow(grant)
}

# wide are the grants to the whole mesh, searched for once for both rules.
wide := {[i, j] |
	grant := input.mesh.services[i].grants[j]
	whole(grant)
}

whole(grant) if grant.mesh

# Every account's identity is spiffe://<trust domain>/ns/<namespace>/sa/<account>, and a last "*"
# is one segment or more.
whole(grant) if {
	some path in grant.identities
	regex.match(`^(((ns|\*)/)?\*|(ns|\*)/\*/((sa|\*)/)?\*)$`, path)
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
