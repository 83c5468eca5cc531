package serviceexposed

import data.lib.service

violation contains {"msg": msg} if {
	service.changed
	service.spec.type in {"NodePort", "LoadBalancer"}
	msg := sprintf("%s has the type %s", [service.subject, service.spec.type])
}
