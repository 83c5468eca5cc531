# METADATA
# title: Mutual TLS is strict unless an exception ends
# description: >-
#   Plaintext towards a port is an exception. It is written with an end, an owner
#   and a reason; after its end the compiler leaves it out.
package meshc.mesh.mtls

import data.meshc.lib.mesh
import rego.v1

# METADATA
# title: An mTLS exception has an end
# custom:
#   id: mtls-no-end
#   severity: deny
findings contains mesh.finding(
	rego.metadata.rule(),
	exception.path,
	sprintf("mTLS is %q without an end: plaintext would stay for ever", [exception.mode]),
	"write until: \"<RFC 3339 instant>\" beside the mode, or remove the exception",
) if {
	some exception in exceptions
	exception.until == ""
}

# METADATA
# title: A port without strict mTLS has an exception in force
# custom:
#   id: mtls-not-strict
#   severity: deny
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.port_path(service, port),
	sprintf("port %q of service %q has mTLS %q, and no exception in force says so", [port.name, service.id, port.mtls]),
	"compile again for the date of this check, or make the port strict",
) if {
	input.mesh.services[i].ports[j].mtls != "strict"
	service := input.mesh.services[i]
	port := service.ports[j]
	not excused(service, port)
}

# METADATA
# title: An mTLS exception has an owner and a reason
# custom:
#   id: mtls-no-reason
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	exception.path,
	sprintf("nobody can tell why mTLS is %q here: %s is missing", [exception.mode, missing]),
	sprintf("write %s: \"…\" beside the mode", [missing]),
) if {
	some exception in exceptions
	some missing in ["owner", "reason"]
	exception[missing] == ""
}

# METADATA
# title: An mTLS exception ends within 90 days
# custom:
#   id: mtls-long
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	exception.path,
	sprintf("mTLS is %q until %s, more than 90 days ahead", [exception.mode, exception.until]),
	"choose an earlier end; it can be moved by another reviewed change",
) if {
	some exception in exceptions
	exception.until != ""
	time.parse_rfc3339_ns(exception.until) - now > ((((90 * 24) * 60) * 60) * 1000) * 1000000
}

exceptions := {exception |
	some exception in input.exceptions
	exception.kind == "mtls"
	exception.mode != "strict"
}

now := time.parse_rfc3339_ns(input.at)

excused(service, port) if {
	some exception in exceptions
	exception.mode == port.mtls
	exception.path in {
		"mesh",
		sprintf("namespace/%s", [service.namespace]),
		mesh.service_path(service),
		mesh.port_path(service, port),
	}
	in_force(exception)
}

# One without an end is reported by mtls-no-end, once, rather than for each port.
in_force(exception) if exception.until == ""

in_force(exception) if {
	exception.until != ""
	time.parse_rfc3339_ns(exception.until) >= now
}
