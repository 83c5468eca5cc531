package meshc.object.tokens_test

import data.meshc.object.tokens
import rego.v1

ids(input_) := {finding.id | some finding in found} if {
	found := tokens.findings with input as input_
}

token(audiences, groups) := {
	"operation": "CREATE",
	"group": "authentication.k8s.io",
	"kind": "TokenRequest",
	"namespace": "shop",
	"name": "web",
	"object": {"spec": {"audiences": audiences}},
	"user": {"name": "mallory", "groups": groups},
	"mesh": {"namespaces": ["shop"]},
}

test_deny_token_for_the_mesh if ids(token(["x", "meshc.dev"], ["dev"])) == {"token-by-hand"}

test_allow_other_tokens if {
	ids(token(["x"], ["dev"])) == set()
	ids(token(["meshc.dev"], ["system:nodes"])) == set()
	ids(object.union(token(["meshc.dev"], []), {"namespace": "other"})) == set()
}
