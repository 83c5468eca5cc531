package podhostprocesses

import data.lib.pod

violation contains {"msg": msg} if {
	pod.changed
	some field in ["hostPID", "hostIPC"]
	pod.spec[field] == true
	msg := sprintf("%s asks for %s", [pod.subject, field])
}

violation contains {"msg": msg} if {
	pod.changed
	pod.spec.securityContext.windowsOptions.hostProcess == true
	msg := sprintf("%s asks for hostProcess", [pod.subject])
}

violation contains {"msg": msg} if {
	pod.changed
	some c in pod.containers
	c.it.securityContext.windowsOptions.hostProcess == true
	msg := sprintf("%s of %s asks for hostProcess", [c.path, pod.subject])
}
