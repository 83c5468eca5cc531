package serviceexternalname

import data.lib.service

violation contains {"msg": msg} if {
	service.changed
	service.spec.type == "ExternalName"
	inside(trim_suffix(lower(service.spec.externalName), "."))
	msg := sprintf("%s is another name for %q", [service.subject, service.spec.externalName])
}

inside(name) if regex.match(`(^|\.)(localhost|local|internal)$`, name)

inside(name) if split(name, ".")[2] == "svc"

inside(name) if not contains(name, ".")

inside(name) if regex.match(`^[0-9.]+$`, name)

inside(name) if {
	parts := split(name, ".")
	count(parts) == 2
	parts[1] == input.review.namespace
}
