package meshc.mesh.my_rule

import data.meshc.lib.mesh
import rego.v1

# The rule's name in findings is its id. Its severity says what becomes of what it finds:
# "deny", "warn", or "audit" (noted only). Begin with "warn".

# METADATA
# title: Ports are not those of the system
# custom:
#   id: my-rule
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.port_path(service, port),
	sprintf("port %q of service %q has the number %d", [port.name, service.id, port.number]),
	"choose a number from 1024 on",
) if {
	some service in input.mesh.services
	some port in service.ports
	port.number < 1024
}
