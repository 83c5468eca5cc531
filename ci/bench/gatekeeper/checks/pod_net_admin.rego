package podnetadmin

import data.lib.pod

violation contains {"msg": msg} if {
	pod.changed
	some c in pod.others
	powers := powers_of(c.it)
	count(powers) > 0
	msg := sprintf("container %q of %s is privileged or has %s", [c.it.name, pod.subject, concat(", ", powers)])
}

powers_of(container) := {name |
	some power in container.securityContext.capabilities.add
	name := trim_prefix(upper(power), "CAP_")
	name in {"NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "BPF", "ALL"}
} | {"privileged" | container.securityContext.privileged == true}
