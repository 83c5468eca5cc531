package podsharedprocesses

import data.lib.pod

violation contains {"msg": msg} if {
	pod.changed
	pod.spec.shareProcessNamespace == true
	msg := sprintf("%s shares its processes", [pod.subject])
}

violation contains {"msg": msg} if {
	pod.changed
	some c in pod.containers
	c.it.targetContainerName in pod.names
	msg := sprintf("%s of %s sees the proxy's processes", [c.path, pod.subject])
}
