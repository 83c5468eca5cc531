# METADATA
# title: What the rules over objects share
package meshc.lib.cluster

import rego.v1

# finding makes a finding of the rule whose annotation is meta; path is a field of the
# object.
finding(meta, path, msg, fix) := {
	"id": meta.custom.id,
	"severity": meta.custom.severity,
	"path": path,
	"msg": msg,
	"fix": fix,
}

# name is the object's, or what the server makes one from.
name := input.name if input.name != ""

name := sprintf("%s…", [object.get(input.object.metadata, "generateName", "")]) if input.name == ""
