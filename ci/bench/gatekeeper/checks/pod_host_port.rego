package podhostport

import data.lib.pod

violation contains {"msg": msg} if {
	pod.changed
	some c in pod.containers
	some port in c.it.ports
	port.hostPort > 0
	msg := sprintf("container %q of %s takes port %d of its node", [c.it.name, pod.subject, port.hostPort])
}
