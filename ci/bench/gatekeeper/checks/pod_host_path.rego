package podhostpath

import data.lib.pod

violation contains {"msg": msg} if {
	pod.changed
	some volume in pod.spec.volumes
	volume.hostPath
	msg := sprintf("volume %q of %s is a folder of its node", [volume.name, pod.subject])
}
