package podhostnetwork

import data.lib.pod

violation contains {"msg": msg} if {
	pod.changed
	pod.spec.hostNetwork == true
	msg := sprintf("%s is on the network of its node", [pod.subject])
}
