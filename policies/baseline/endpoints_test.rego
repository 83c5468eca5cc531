package meshc.object.endpoints_test

import data.meshc.object.endpoints
import rego.v1

slice(labels, user, groups) := {
	"operation": "CREATE",
	"group": "discovery.k8s.io",
	"kind": "EndpointSlice",
	"namespace": "shop",
	"name": "web-x",
	"object": {"metadata": {"name": "web-x", "labels": object.union({"kubernetes.io/service-name": "web"}, labels)}},
	"old": {},
	"user": {"name": user, "groups": groups},
	"mesh": {"services": {"shop": {"web": {"selector": {"app": "web"}}}}},
}

ids(input_) := {finding.id | some finding in found} if {
	found := endpoints.findings with input as input_
}

written := {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}

test_deny_slice_by_hand if {
	ids(slice({}, "mallory", ["dev"])) == {"endpoints-by-hand"}
	ids(slice(written, "mallory", ["dev"])) == {"endpoints-by-hand"}
	ids(slice({}, "admin", ["system:masters"])) == {"endpoints-by-hand"}
}

test_deny_taking_a_slice_away if {
	q := slice({"kubernetes.io/service-name": "other"}, "mallory", [])
	ids(object.union(q, {"operation": "UPDATE", "old": {"metadata": {"labels": {"kubernetes.io/service-name": "web"}}}})) == {"endpoints-by-hand"}
}

test_allow_controllers if {
	ids(slice(written, "system:serviceaccount:kube-system:endpointslice-controller", [])) == set()
	ids(slice(written, "system:kube-controller-manager", [])) == set()
	ids(slice(written, "admin", ["system:masters"])) == set()
}

test_allow_slices_of_others if ids(slice({"kubernetes.io/service-name": "db"}, "mallory", [])) == set()

test_allow_deletion if ids(object.union(slice({}, "mallory", []), {"operation": "DELETE"})) == set()

test_allow_slice_in_git if {
	ids(object.union(slice({}, "flux", []), {"mesh": {"objects": {"shop": ["discovery.k8s.io/EndpointSlice/web-x"]}}})) == set()
}

# A Service's labels are on its slices.
test_deny_slice_that_says_it_is_ours if ids(slice({"app.kubernetes.io/managed-by": "meshc"}, "mallory", [])) == {"endpoints-by-hand"}

test_deny_endpoints_by_hand if {
	q := slice({}, "mallory", [])
	ids(object.union(q, {"group": "", "kind": "Endpoints", "name": "web"})) == {"endpoints-by-hand"}
	ids(object.union(q, {"group": "", "kind": "Endpoints", "name": "db"})) == set()
}
