# METADATA
# title: One mesh in a namespace
# description: >-
#   Objects of other meshes and of Gateway API say who gets a request and how it is
#   protected, beside the intent. In the mesh's namespaces they come from an approved
#   release (kustomize files beside the intent, or the target gateway-api).
package meshc.object.foreign

import data.meshc.lib.cluster
import rego.v1

# METADATA
# title: No routes and no proxy configuration by hand
# description: What is written for another mesh, or into Envoy, decides about traffic without approval.
# custom:
#   id: foreign-object
#   severity: deny
#   twin: meshc-foreign
#   fix: say it in the intent, or bring it with the kustomize files beside it
findings contains cluster.finding(
	rego.metadata.rule(),
	"kind",
	sprintf("%s of %s in namespace %q says where traffic goes, and no approved release has it", [cluster.subject, input.group, input.namespace]),
) if {
	judged
	not cluster.claimed
	not cluster.approved
}

# METADATA
# title: No object takes mutual TLS back
# description: It would let in callers without an identity, or send requests where nobody proves one.
# custom:
#   id: foreign-mtls
#   severity: deny
#   fix: write an exception with an end into the intent (`mtls`), where it is judged
findings contains cluster.finding(
	rego.metadata.rule(),
	concat(".", array.concat(["spec"], [sprintf("%v", [p]) | some p in path])),
	sprintf("%s of namespace %q has the TLS mode %s", [cluster.subject, input.namespace, mode]),
) if {
	judged
	some [path, mode] in modes
}

# judged: an object of those in the mesh's namespaces, of which something is new.
judged if {
	foreign
	input.namespace in input.mesh.namespaces
	input.operation != "DELETE"
	fresh
}

fresh if input.operation == "CREATE"

fresh if object.get(input.object, "spec", {}) != object.get(input.old, "spec", {})

foreign if input.group in groups

foreign if [input.group, input.kind] == ["cilium.io", "CiliumEnvoyConfig"]

groups := {
	"access.smi-spec.io", "consul.hashicorp.com", "extensions.istio.io", "gateway.envoyproxy.io", "gateway.networking.k8s.io", "gateway.networking.x-k8s.io",
	"kuma.io", "linkerd.io", "networking.istio.io", "policy.linkerd.io", "security.istio.io", "specs.smi-spec.io", "split.smi-spec.io", "telemetry.istio.io",
}

# modes are those that weaken TLS, wherever such an object has them.
modes contains [path, value] if {
	some path, value
	walk(input.object.spec, [path, value])
	path[count(path) - 1] == "mode"
	upper(value) in {"PERMISSIVE", "DISABLE", "DISABLED"}
	about_tls(path)
}

about_tls(path) if {
	some step in path
	contains(lower(sprintf("%v", [step])), "tls")
}

about_tls(_) if contains(input.kind, "TLS")
