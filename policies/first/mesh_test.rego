package meshc.mesh.my_rule_test

import data.meshc.mesh.my_rule
import rego.v1

found(number) := findings if {
	findings := my_rule.findings with input as {"mesh": {"services": [{"id": "shop/web", "ports": [{"name": "http", "number": number}]}]}}
}

test_deny_small if {
	some finding in found(80)
	finding.path == "service/shop/web/port/http"
}

test_allow_others if count(found(8080)) == 0
