package lib.pod

spec := input.review.object.spec

# changed: of an update only what is new is judged.
changed if object.get(input.review, ["oldObject", "spec"], {}) != spec

subject := sprintf("pod %q", [object.get(input.review, "name", "")])

containers contains {"path": sprintf("spec.%s[%d]", [list, i]), "it": container} if {
	some list in ["initContainers", "containers", "ephemeralContainers"]
	some i, container in spec[list]
}

others contains c if {
	some c in containers
	not c.it.name in names
}

names := {"meshc-redirect", "meshc-proxy"}
