package meshc.object.my_rule_test

import data.meshc.object.my_rule
import rego.v1

found(namespace, labels) := findings if {
	findings := my_rule.findings with input as {
		"operation": "CREATE",
		"kind": "Pod",
		"namespace": namespace,
		"name": "web-1",
		"object": {"metadata": {"name": "web-1", "labels": labels}, "spec": {}},
		"mesh": {"namespaces": ["shop"]},
	}
}

test_deny_without_team if {
	some finding in found("shop", {})
	finding.id == "my-rule"
}

test_allow_with_team if count(found("shop", {"team": "web"})) == 0

test_allow_elsewhere if count(found("elsewhere", {})) == 0
