package serviceexternalips

import data.lib.service

violation contains {"msg": msg} if {
	service.changed
	count(service.spec.externalIPs) > 0
	msg := sprintf("%s takes what is sent to %s", [service.subject, concat(", ", service.spec.externalIPs)])
}
