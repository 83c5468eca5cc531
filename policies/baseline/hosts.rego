# METADATA
# title: A host has one namespace
# description: >-
#   Where several proxies take requests for one name, who gets them depends on an address,
#   an age or an alphabet. A host of a gateway is named by objects of that gateway's
#   namespace alone.
package meshc.object.hosts

import data.meshc.lib.cluster
import rego.v1

# METADATA
# title: Nobody takes another's host
# description: Whoever names it gets its requests, with cookies and passwords.
# custom:
#   id: host-taken
#   severity: deny
#   twin: meshc-hosts
#   fix: choose another host, or ask the host's owner for a route (`delegate`)
findings contains cluster.finding(
	rego.metadata.rule(),
	"spec",
	sprintf("%s of namespace %q names the host %q, which is that of a gateway in %s", [cluster.subject, input.namespace, host, concat(", ", input.mesh.hosts[host])]),
) if {
	judged
	some host, namespaces in input.mesh.hosts
	host != "*"
	not input.namespace in namespaces
	some name in names
	overlap(lower(host), name)
}

# METADATA
# title: No gateway for all names
# description: It takes requests for names that nobody thought of, other teams' names among them.
# custom:
#   id: host-wildcard
#   severity: deny
#   twin: meshc-hosts
#   fix: name the hosts; a wildcard of the intent has an owner
findings contains cluster.finding(
	rego.metadata.rule(),
	"spec",
	sprintf("%s of namespace %q takes requests for all names", [cluster.subject, input.namespace]),
) if {
	judged
	input.namespace in input.mesh.namespaces
	"*" in names
}

judged if {
	input.operation != "DELETE"
	input.object.spec != object.get(input.old, "spec", {})
}

# names are the hosts that an object takes requests for, "*" for all.
names contains name if {
	[input.group, input.kind] == ["networking.k8s.io", "Ingress"]
	some rule in input.object.spec.rules
	name := named(object.get(rule, "host", ""))
}

names contains "*" if {
	[input.group, input.kind] == ["networking.k8s.io", "Ingress"]
	input.object.spec.defaultBackend
}

names contains named(host) if {
	[input.group, input.kind] == ["networking.k8s.io", "Ingress"]
	some tls in input.object.spec.tls
	some host in tls.hosts
}

names contains named(object.get(listener, "hostname", "")) if {
	input.group in {"gateway.networking.k8s.io", "gateway.networking.x-k8s.io"}
	some listener in input.object.spec.listeners
}

names contains named(host) if {
	input.group == "gateway.networking.k8s.io"
	some host in input.object.spec.hostnames
}

names contains named(host) if {
	[input.group, input.kind] == ["networking.istio.io", "Gateway"]
	some server in input.object.spec.servers
	some host in server.hosts
}

names contains named(host) if {
	input.group == "networking.istio.io"
	input.kind in {"VirtualService", "ServiceEntry"}
	some host in input.object.spec.hosts
}

names contains named(input.object.spec.virtualhost.fqdn) if input.kind == "HTTPProxy"

# named is a host as it is compared: without the namespace that Istio writes before it.
named(host) := name if {
	parts := split(host, "/")
	name := lower(parts[count(parts) - 1])
	name != ""
} else := "*"

# A gateway for all names owns none of them.
overlap(host, name) if host == name

overlap(host, name) if covers(host, name)

overlap(host, name) if covers(name, host)

covers(wildcard, name) if {
	startswith(wildcard, "*.")
	endswith(name, trim_prefix(wildcard, "*"))
}
