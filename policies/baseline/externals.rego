# METADATA
# title: What is outside is outside
# description: >-
#   A caller's proxy sends what goes to an external wherever the external is. Some places
#   are inside: the node, the cloud's metadata with the node's credentials, the cluster's API server,
#   the mesh itself, past the grants of what is there.
package meshc.mesh.externals

import data.meshc.lib.mesh
import rego.v1

# METADATA
# title: An external is outside of node, cluster and mesh, and so is the HTTP proxy before it
# custom:
#   id: external-inside
#   severity: deny
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.external_path(external),
	sprintf("external %q leads inside: %s", [external.id, place]),
	"call what is in the mesh as a service; where a place inside is really meant, let the external say so: inside: {owner: \"…\", reason: \"…\"}",
) if {
	some external in input.mesh.externals
	not meant[external.id]
	some place in places(external)
}

# METADATA
# title: An external that leads inside on purpose is looked at
# custom:
#   id: external-inside-meant
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.external_path(external),
	sprintf("external %q leads inside: %s; %s (%s)", [external.id, place, meant[external.id].reason, meant[external.id].owner]),
	"delete the external when nobody needs it any more",
) if {
	some external in input.mesh.externals
	meant[external.id]
	some place in places(external)
}

# METADATA
# title: Only an external that leads inside says so
# custom:
#   id: external-inside-idle
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.external_path(external),
	sprintf("external %q says that it leads inside, but it leads to no place that is known to be", [external.id]),
	"delete `inside`, so that it excuses nothing that comes later",
) if {
	some external in input.mesh.externals
	meant[external.id]
	count(places(external)) == 0
}

# METADATA
# title: An external behind a gateway is looked at
# custom:
#   id: external-gateway
#   severity: warn
findings contains mesh.finding(
	rego.metadata.rule(),
	mesh.route_path(gateway, host, route),
	sprintf("route %q of host %q sends visitors on to external %q, where no grant of this mesh asks who they are", [route.name, host.name, target.service]),
	"put a service before it that knows its visitors, or see that the external asks them itself",
) if {
	some target in input.mesh.gateways[i].hosts[j].routes[k].to
	target.service in outside
	gateway := input.mesh.gateways[i]
	host := gateway.hosts[j]
	route := host.routes[k]
}

outside := {external.id | some external in input.mesh.externals}

# meant are the externals for which somebody answers, by their IDs.
meant[external.id] := exception if {
	some external in input.mesh.externals
	some exception in input.exceptions
	exception.kind == "external"
	exception.path == mesh.external_path(external)
	exception.owner != ""
	exception.reason != ""
}

# places are the places inside to which an external leads, in words.
places(external) := (((by_address | by_name) | odd) | own) | covered if {
	by_address := {sprintf("%s is %s", [range, what]) |
		some range in addresses(external)
		some what, prefixes in reserved
		some prefix in prefixes
		net.cidr_intersects(prefix, range)
	}
	by_name := {sprintf("%q is %s", [name, what]) |
		some name in names(external)
		some what, pattern in named
		regex.match(pattern, name)
	}
	odd := {sprintf("%q spells an address in a way that no rule reads", [name]) |
		some name in names(external)
		regex.match(`(^|\.)(0x[0-9a-f]*|[0-9]+)$`, name)
		not net.cidr_is_valid(prefix(name))
	}
	own := {sprintf("%q is the mesh's own %s", [place, what]) |
		some place, what in ours
		place in called(external)
	}
	covered := {sprintf("%q covers %q", [name, place]) |
		object.get(external, ["endpoints", "dynamic"], false)
		some name in names(external)
		startswith(name, "*.")
		some place in inner_names | object.keys(ours)
		endswith(place, trim_prefix(name, "*"))
	}
}

# inner_names are names inside that somebody would ask for below a wildcard.
inner_names := {
	"metadata.google.internal", "instance-data.ec2.internal", "host.docker.internal", "app.localhost",
	"kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "127.0.0.1.nip.io", "169-254-169-254.sslip.io",
}

# addresses are the literal addresses of an external, as prefixes.
addresses(external) := (fixed | dialled) | spelt if {
	fixed := {prefix(host(endpoint)) | some endpoint in object.get(external, ["endpoints", "static"], [])}
	dialled := {range | some range in object.get(external, "addresses", [])}
	spelt := {prefix(name) |
		some name in names(external)
		net.cidr_is_valid(prefix(name))
	}
}

# names are the names of an external, in small letters: those by which it is called, the
# one that is looked up, and that of the HTTP proxy before it.
names(external) := (called_by | looked_up) | before if {
	before := {lower(host(name)) | name := object.get(external, "proxy", ""); name != ""}
	called_by := {lower(name) | some name in object.get(external, "hosts", [])}
	looked_up := {lower(host(name)) | name := object.get(external, ["endpoints", "dns"], ""); name != ""}
}

# called is what may be somebody else's of the mesh: names in full, and addresses with a port.
called(external) := (full | as_written) | endpoints if {
	as_written := names(external)
	full := {sprintf("%s.%s", [name, external.namespace]) |
		some name in as_written
		not contains(name, ".")
	}
	endpoints := {endpoint | some endpoint in array.concat(object.get(external, ["endpoints", "static"], []), [object.get(external, "proxy", "")])}
}

# ours are names and endpoints of the mesh's services, and what they are.
ours[place] := sprintf("service %q", [service.id]) if {
	input.mesh.externals[_]
	some service in input.mesh.services
	some place in {
		sprintf("%s.%s", [service.name, service.namespace]),
		sprintf("%s.%s.svc", [service.name, service.namespace]),
		sprintf("%s.%s.svc.cluster.local", [service.name, service.namespace]),
	}
}

ours[place] := "workload" if {
	input.mesh.externals[_]
	place := input.mesh.services[_].versions[_].endpoints.static[_]
}

ours[place] := "workload" if {
	input.mesh.externals[_]
	some port in input.mesh.services[i].versions[_].ports
	some own in input.mesh.services[i].ports
	place := sprintf("%s:%d", [port.host, object.get(port, "port", own.number)])
}

# host is a host with its port without that.
host(endpoint) := trim(regex.replace(endpoint, `:[0-9]+$`, ""), "[]")

# prefix is an address as the prefix that holds it alone.
prefix(address) := sprintf("%s/32", [address]) if not contains(address, ":")

prefix(address) := sprintf("%s/128", [address]) if contains(address, ":")

# An address of IPv4 inside of one of IPv6 is itself: as ::ffff:a.b.c.d that needs no line here.
reserved := object.union(
	{
		"link-local, where clouds have metadata and credentials": {
			"169.254.0.0/16", "fe80::/10",
			"::169.254.0.0/112", "::ffff:0:169.254.0.0/112", "64:ff9b::169.254.0.0/112", "2002:a9fe::/32",
		},
		"a cloud's metadata or its agent": {"fd00:ec2::/32", "fd20:ce::254/128", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32"},
		"no address at all": {"0.0.0.0/8", "::/128"},
		"multicast or reserved": {"224.0.0.0/4", "ff00::/8", "240.0.0.0/4"},
	},
	where_nodes_are,
)

# In development a mesh is on one host.
where_nodes_are := {} if input.mesh.capture == "explicit"

where_nodes_are := {"the caller itself (loopback)": {
	"127.0.0.0/8", "::1/128",
	"::127.0.0.0/104", "::ffff:0:127.0.0.0/104", "64:ff9b::127.0.0.0/104", "2002:7f00::/24",
}} if {
	input.mesh.capture != "explicit"
}

# named are places inside by their names.
named := object.union(
	{
		"the cluster's API server": `^kubernetes(\.default(\.svc(\..*)?)?)?$`,
		"a cloud's metadata": `^(metadata(\.google\.internal|\.goog|\.azure\.internal|\.tencentyun\.com|\.platformequinix\.com|\.oraclecloud\.com)?|instance-data(\..*)?|rancher-metadata)$`,
		"a name for any address": `(^|\.)(nip\.io|sslip\.io|xip\.io)$`,
	},
	nodes_named,
)

nodes_named := {} if input.mesh.capture == "explicit"

nodes_named := {"the caller itself, or its node": `(^|\.)(localhost|localhost\.localdomain|localtest\.me|lvh\.me|host\.docker\.internal|host\.containers\.internal|host\.minikube\.internal|kubernetes\.docker\.internal|ip6-localhost|ip6-loopback)$`} if {
	input.mesh.capture != "explicit"
}
