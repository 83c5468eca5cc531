# METADATA
# title: What the rules over objects share
package meshc.lib.cluster

import rego.v1

# finding makes a finding of the rule whose annotation is meta; path is a field of the
# object. What is to be done is the same whatever the object is, and stands in the
# annotation.
finding(meta, path, msg) := {
	"id": meta.custom.id,
	"severity": meta.custom.severity,
	"path": path,
	"msg": msg,
	"fix": meta.custom.fix,
}

# name is the object's, or what the server makes one from.
name := input.name if input.name != ""

name := sprintf("%s…", [object.get(input.object.metadata, "generateName", "")]) if input.name == ""

# subject is the object in a sentence. input.kind is "Pod" or what makes pods, a Service, ….
subject := sprintf("%s %q", [input.kind, name])

# claimed: the object says that meshc keeps it. Whether it is in the approved release, the
# webhook asks by itself (MESH0702).
claimed if {
	input.object.metadata.labels["app.kubernetes.io/managed-by"] == "meshc"
	not input.kind in derived
}

# derived are the kinds that controllers make, with the labels of what they make them from:
# those of a Service are on its slices.
derived := {"ControllerRevision", "EndpointSlice", "Endpoints", "Job", "Pod", "ReplicaSet"}

# approved: the release has it, for this target or another.
approved if sprintf("%s/%s/%s", [input.group, input.kind, input.name]) in input.mesh.objects[input.namespace]
