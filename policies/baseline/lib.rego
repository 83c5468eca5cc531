# METADATA
# title: What the rules share
# description: >-
#   Rules are asked at every date at which something ends. They reach what they look
#   for by one reference, input.mesh.services[i].grants[j].mesh, and name the rest
#   behind it: to bind every service and grant on the way takes ten times as long.
package meshc.lib.mesh

import rego.v1

# finding makes a finding of the rule whose annotation is meta; id and severity
# stand in the annotation, so that documentation and verdict cannot differ.
finding(meta, path, msg, fix) := {
	"id": meta.custom.id,
	"severity": meta.custom.severity,
	"path": path,
	"msg": msg,
	"fix": fix,
}

# Mesh paths, as the compiler spells them.
service_path(service) := sprintf("service/%s", [service.id])

port_path(service, port) := sprintf("service/%s/port/%s", [service.id, port.name])

grant_path(service, grant) := sprintf("service/%s/grant/%s", [service.id, grant.name])

gateway_path(gateway) := sprintf("gateway/%s", [gateway.id])

host_path(gateway, host) := sprintf("gateway/%s/host/%s", [gateway.id, host.name])

route_path(gateway, host, route) := sprintf("gateway/%s/host/%s/route/%s", [gateway.id, host.name, route.name])

external_path(external) := sprintf("external/%s", [external.id])

loss_path(loss) := sprintf("target/%s/without/%s", [loss.target, loss.name])
