package meshc.object.services_test

import data.meshc.object.services
import rego.v1

mesh := {
	"accounts": ["shop/web"], "namespaces": ["shop"], "injected": ["shop"], "image": "i",
	"services": {"shop": {
		"web": {"selector": {"app": "web"}, "accounts": ["web", "web-v2", "old"], "versions": {"v1": {"labels": {"version": "v1"}, "account": "web"}, "v2": {"labels": {"version": "v2"}, "account": "web-v2", "former_accounts": ["old"]}}},
		"db": {"selector": {}, "accounts": [], "versions": {}},
	}},
	"selected": {"shop": {"app": {"web": ["web"]}}},
	"gateways": {"shop": {"edge": {"account": "edge"}}}, "hosts": {}, "objects": {"shop": ["/Service/approved"]},
}

asked(name, spec) := {
	"operation": "CREATE",
	"group": "",
	"kind": "Service",
	"namespace": "shop",
	"name": name,
	"object": {"metadata": {"name": name}, "spec": spec},
	"old": {},
	"mesh": mesh,
}

ids(input_) := {finding.id | some finding in found} if {
	found := services.findings with input as input_
}

test_allow_cluster_ip if ids(asked("web", {"type": "ClusterIP", "selector": {"app": "web"}})) == set()

test_allow_elsewhere if ids(object.union(asked("web", {"type": "NodePort", "externalIPs": ["1.2.3.4"]}), {"namespace": "other"})) == set()

test_deny_exposed if {
	every type in ["NodePort", "LoadBalancer"] {
		ids(asked("web", {"type": type, "selector": {"app": "web"}})) == {"service-exposed"}
		ids(asked("new", {"type": type, "selector": {"app": "new"}})) == {"service-exposed"}
	}
}

test_allow_exposed_gateway if ids(asked("edge", {"type": "LoadBalancer", "selector": {"app": "edge"}})) == set()

test_deny_gateway_in_name_only if ids(asked("edge", {"type": "LoadBalancer", "selector": {"app": "x"}})) == {"service-exposed"}

test_deny_external_ips if ids(asked("web", {"type": "ClusterIP", "externalIPs": ["1.2.3.4"], "selector": {"app": "web"}})) == {"service-external-ips"}

test_deny_alias_of_the_inside if {
	every name in [
		"web.shop.svc.cluster.local", "web.shop.svc", "WEB.shop.SVC.cluster.local.", "kubernetes.default.svc", "localhost", "x.localhost", "metadata.google.internal",
		"169.254.169.254", "10.0.0.1", "web.shop", "web", "a.b.svc.other.example",
	] {
		ids(asked("alias", {"type": "ExternalName", "externalName": name})) == {"service-external-name"}
	}
}

test_allow_alias_of_the_outside if {
	every name in ["example.com", "db.example.com", "svc.example.com"] {
		ids(asked("alias", {"type": "ExternalName", "externalName": name})) == set()
	}
}

test_deny_taking_pods if {
	ids(asked("thief", {"selector": {"app": "web"}})) == {"service-takes-pods"}
	ids(asked("thief", {"selector": {"app": "web", "version": "v1"}})) == {"service-takes-pods"}
}

test_allow_second_service_in_git if {
	ids(asked("approved", {"selector": {"app": "web"}})) == set()
	q := asked("thief", {"selector": {"app": "web"}})
	ids(object.union(q, {"object": {"metadata": {"labels": {"app.kubernetes.io/managed-by": "meshc"}}}})) == set()
}

test_allow_other_selectors if {
	ids(asked("own", {"selector": {"app": "own"}})) == set()
	ids(asked("none", {})) == set()
}

test_allow_what_is_not_new if {
	q := asked("web", {"type": "NodePort"})
	ids(object.union(q, {"operation": "UPDATE", "old": q.object})) == set()
	ids(object.union(q, {"operation": "DELETE", "old": q.object, "object": {}})) == set()
}

pod(labels, account) := {
	"operation": "CREATE",
	"kind": "Pod",
	"namespace": "shop",
	"name": "p",
	"object": {"metadata": {"labels": labels}, "spec": {"serviceAccountName": account}},
	"old": {},
	"mesh": mesh,
}

told(labels, account) := object.union(pod(labels, account), {"kind": "Deployment", "object": {"spec": {"template": pod(labels, account).object}}})

test_deny_joining_another_service if {
	ids(pod({"app": "web", "x": "y"}, "other")) == {"pod-in-another-service"}
	ids(told({"app": "web"}, "other")) == {"pod-in-another-service"}
	ids(told({"app": "web"}, "")) == {"pod-in-another-service"}
}

test_allow_joining_the_own_service if {
	ids(pod({"app": "web"}, "web")) == set()
	ids(told({"app": "web"}, "web")) == set()
	ids(pod({"app": "other"}, "other")) == set()
}

test_deny_joining_another_version if {
	ids(pod({"app": "web", "version": "v2"}, "web")) == {"pod-in-another-version"}
	ids(told({"app": "web", "version": "v1"}, "web-v2")) == {"pod-in-another-version"}
	ids(pod({"app": "web", "version": "v2"}, "other")) == {"pod-in-another-service"}
}

test_allow_joining_the_own_version if {
	ids(pod({"app": "web", "version": "v2"}, "web-v2")) == set()
	ids(told({"app": "web", "version": "v1"}, "web")) == set()
	ids(pod({"app": "web", "version": "none"}, "web")) == set()
	ids(pod({"version": "v2"}, "web")) == set()
}

# Pods that still run as they did.
test_allow_a_former_account if ids(pod({"app": "web", "version": "v2"}, "old")) == set()

test_deny_the_former_account_of_another_version if ids(pod({"app": "web", "version": "v1"}, "old")) == {"pod-in-another-version"}

test_says_where_the_labels_are if {
	some deployment in services.findings with input as told({"app": "web"}, "other")
	deployment.path == "spec.template.metadata.labels"
	some alone in services.findings with input as pod({"app": "web"}, "other")
	alone.path == "metadata.labels"
}

test_allow_living_pod if {
	q := pod({"app": "web"}, "other")
	ids(object.union(q, {"operation": "UPDATE", "old": q.object})) == set()
}
