package podproxyuser

import data.lib.pod

violation contains {"msg": msg} if {
	pod.changed
	some c in pod.others
	some field in ["runAsUser", "runAsGroup"]
	c.it.securityContext[field] == 1337
	msg := sprintf("%s of %s runs as 1337", [c.path, pod.subject])
}

violation contains {"msg": msg} if {
	pod.changed
	some field in ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"]
	value := pod.spec.securityContext[field]
	1337 in {v | v := value} | {v | some v in value}
	msg := sprintf("%s of %s is 1337", [field, pod.subject])
}
