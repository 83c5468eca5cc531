package podroot

import data.lib.pod

violation contains {"msg": msg} if {
	pod.changed
	some c in pod.others
	user_of(c.it) == 0
	not kept_user(c.it)
	msg := sprintf("container %q of %s runs as root", [c.it.name, pod.subject])
}

user_of(container) := object.get(
	object.get(container, "securityContext", {}), "runAsUser",
	object.get(pod.spec, ["securityContext", "runAsUser"], -1),
)

kept_user(container) if "ALL" in dropped(container)

kept_user(container) if {"SETGID", "SETUID"} == dropped(container) & {"SETGID", "SETUID"}

dropped(container) := {trim_prefix(upper(power), "CAP_") | some power in container.securityContext.capabilities.drop}
