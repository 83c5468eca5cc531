package meshc.mesh.losses_test

import data.meshc.mesh.losses
import rego.v1

found(name) := {finding.path |
	some finding in losses.findings with input as {
		"mesh": {},
		"losses": [{"target": "gateway-api", "name": name, "owner": "platform", "reason": "another mesh decides", "why": ["it has no word for it"], "at": ["service/shop/web"]}],
	}
}

test_deny_access if {
	every name in ["identity", "grant", "deny", "mtls"] {
		found(name) == {sprintf("target/gateway-api/without/%s", [name])}
	}
}

test_allow_others if {
	every name in ["timeout", "balance", "grants"] {
		found(name) == set()
	}
}

test_allow_no_loss if count(losses.findings) == 0 with input as {"mesh": {}, "losses": []}
