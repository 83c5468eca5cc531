package meshc.object.pods_test

import data.meshc.object.pods
import rego.v1

mesh := {
	"accounts": ["shop/web"], "namespaces": ["shop", "jobs"], "injected": ["jobs"], "image": "r/proxy@sha256:00",
	"services": {"shop": {"web": {"selector": {"app": "web"}, "accounts": ["web"]}}},
	"gateways": {"shop": {"edge": {"account": "edge", "former_accounts": ["door"]}}}, "hosts": {}, "objects": {},
}

asked(spec) := {
	"operation": "CREATE",
	"group": "",
	"kind": "Pod",
	"namespace": "shop",
	"name": "web-1",
	"object": {"metadata": {"name": "web-1"}, "spec": object.union({"serviceAccountName": "web"}, spec)},
	"old": {},
	"mesh": mesh,
}

ids(input_) := {finding.id | some finding in found} if {
	found := pods.findings with input as input_
}

with_container(list, container) := asked({list: [object.union({"name": "app"}, container)]})

# templated are the same pod as each kind makes it.
templated(spec) := {kind: object.union(asked({}), {"kind": kind, "object": nested}) |
	pod := {"metadata": {}, "spec": object.union({"serviceAccountName": "web"}, spec)}
	some kind, nested in {
		"Deployment": {"metadata": {"name": "web"}, "spec": {"template": pod}},
		"StatefulSet": {"metadata": {"name": "web"}, "spec": {"template": pod}},
		"DaemonSet": {"metadata": {"name": "web"}, "spec": {"template": pod}},
		"ReplicaSet": {"metadata": {"name": "web"}, "spec": {"template": pod}},
		"ReplicationController": {"metadata": {"name": "web"}, "spec": {"template": pod}},
		"Job": {"metadata": {"name": "web"}, "spec": {"template": pod}},
		"CronJob": {"metadata": {"name": "web"}, "spec": {"jobTemplate": {"spec": {"template": pod}}}},
		"PodTemplate": {"metadata": {"name": "web"}, "template": pod},
	}
}

bad := {
	"pod-host-network": {"hostNetwork": true},
	"pod-host-processes": {"hostPID": true},
	"pod-host-port": {"containers": [{"name": "app", "ports": [{"containerPort": 80, "hostPort": 80}]}]},
	"pod-host-path": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
	"pod-shared-processes": {"shareProcessNamespace": true},
	"pod-proxy-user": {"containers": [{"name": "app", "securityContext": {"runAsUser": 1337}}]},
	"pod-net-admin": {"containers": [{"name": "app", "securityContext": {"privileged": true}}]},
	"pod-root": {"containers": [{"name": "app", "securityContext": {"runAsUser": 0}}]},
}

test_allow_plain if ids(with_container("containers", {"securityContext": {"runAsUser": 1000}, "ports": [{"containerPort": 80}]})) == set()

test_allow_strangers if {
	ids(object.union(asked({"hostNetwork": true}), {"namespace": "kube-system"})) == set()
	every _, spec in bad {
		ids(asked(object.union(spec, {"serviceAccountName": "stranger"}))) == set()
		ids(asked(object.union(spec, {"serviceAccountName": ""}))) == set()
	}
}

test_allow_other_kinds if ids(object.union(asked({"hostNetwork": true}), {"kind": "Service"})) == set()

test_deny_every_rule_in_pods if {
	every id, spec in bad {
		ids(asked(spec)) == {id}
	}
}

test_deny_every_rule_in_what_makes_pods if {
	every id, spec in bad {
		every _, q in templated(spec) {
			ids(q) == {id}
		}
	}
}

test_deny_path_of_a_template if {
	some finding in pods.findings with input as templated({"hostNetwork": true}).CronJob
	finding.path == "spec.jobTemplate.spec.template.spec.hostNetwork"
	contains(finding.msg, "CronJob \"web-1\"")
}

# The account by the field's old name, and everything where every pod gets a sidecar.
test_deny_account_by_its_old_name if {
	ids(asked({"serviceAccountName": "", "serviceAccount": "web", "hostNetwork": true})) == {"pod-host-network"}
}

test_deny_injected_namespace if {
	ids(object.union(asked({"serviceAccountName": "", "hostPID": true}), {"namespace": "jobs"})) == {"pod-host-processes"}
}

# Without a name, the server makes one.
test_deny_generated_name if {
	some finding in pods.findings with input as object.union(asked({"hostNetwork": true}), {"name": "", "object": {"metadata": {"generateName": "web-"}}})
	contains(finding.msg, "web-…")
}

test_deny_other_host_processes if {
	ids(asked({"hostIPC": true})) == {"pod-host-processes"}
	ids(asked({"securityContext": {"windowsOptions": {"hostProcess": true}}})) == {"pod-host-processes"}
	ids(with_container("initContainers", {"securityContext": {"windowsOptions": {"hostProcess": true}}})) == {"pod-host-processes"}
}

test_deny_debugging_the_proxy if {
	ids(with_container("ephemeralContainers", {"targetContainerName": "meshc-proxy"})) == {"pod-shared-processes"}
}

test_allow_debugging_the_application if ids(with_container("ephemeralContainers", {"targetContainerName": "web"})) == set()

test_deny_proxy_user if {
	every list in ["initContainers", "containers", "ephemeralContainers"] {
		every field in ["runAsUser", "runAsGroup"] {
			ids(with_container(list, {"securityContext": {field: 1337}})) == {"pod-proxy-user"}
		}
	}
	every field in ["runAsUser", "runAsGroup", "fsGroup"] {
		ids(asked({"securityContext": {field: 1337}})) == {"pod-proxy-user"}
	}
	ids(asked({"securityContext": {"supplementalGroups": [1000, 1337]}})) == {"pod-proxy-user"}
}

test_allow_other_groups if ids(asked({"securityContext": {"fsGroup": 1000, "supplementalGroups": [1001]}})) == set()

redirect := {
	"name": "meshc-redirect", "image": "r/proxy@sha256:00", "command": ["meshc-agent", "redirect"],
	"securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}},
}

sidecar := {"name": "meshc-proxy", "image": "r/proxy@sha256:11", "command": ["meshc-agent"], "securityContext": {"runAsUser": 1337}}

test_allow_the_sidecar if ids(asked({"initContainers": [redirect, sidecar], "containers": [{"name": "app"}]})) == set()

test_deny_the_sidecar_elsewhere if {
	ids(asked({"initContainers": [sidecar, redirect]})) == {"pod-proxy-user", "pod-net-admin"}
	ids(asked({"containers": [redirect, sidecar]})) == {"pod-proxy-user", "pod-net-admin"}
	ids(templated({"initContainers": [redirect, sidecar]}).Deployment) == {"pod-proxy-user", "pod-net-admin"}
}

test_deny_something_else_as_the_sidecar if {
	every change in [{"image": "evil"}, {"command": ["sh"]}] {
		ids(asked({"initContainers": [redirect, object.union(sidecar, change)]})) == {"pod-proxy-user"}
	}
}

test_allow_sidecars_that_pods_bring if {
	q := asked({"containers": [object.union(sidecar, {"image": "own", "command": []})]})
	ids(object.union(q, {"mesh": {"image": ""}})) == set()
}

test_allow_gateways if {
	gateway := {"serviceAccountName": "edge", "containers": [object.union(sidecar, {"ports": [{"containerPort": 80, "hostPort": 80}]})]}
	ids(asked(gateway)) == set()
	ids(templated(gateway).Deployment) == set()
	ids(asked(object.union(gateway, {"serviceAccountName": "door"}))) == set()
}

test_deny_host_network_of_gateways if ids(asked({"serviceAccountName": "edge", "hostNetwork": true})) == {"pod-host-network"}

test_deny_net_admin if {
	every power in ["NET_ADMIN", "net_admin", "CAP_NET_RAW", "cap_sys_admin", "SYS_PTRACE", "SYS_MODULE", "BPF", "ALL"] {
		ids(with_container("containers", {"securityContext": {"capabilities": {"add": [power]}}})) == {"pod-net-admin"}
	}
	every list in ["initContainers", "containers", "ephemeralContainers"] {
		ids(with_container(list, {"securityContext": {"privileged": true}})) == {"pod-net-admin"}
	}
}

test_allow_other_powers if ids(with_container("containers", {"securityContext": {"privileged": false, "capabilities": {"add": ["NET_BIND_SERVICE"]}}})) == set()

test_allow_root_that_stays_root if {
	every drop in [["ALL"], ["all"], ["CAP_SETUID", "SETGID", "CHOWN"]] {
		ids(with_container("containers", {"securityContext": {"runAsUser": 0, "capabilities": {"drop": drop}}})) == set()
	}
}

test_deny_root_of_the_whole_pod if {
	q := asked({"securityContext": {"runAsUser": 0}, "containers": [{"name": "app", "securityContext": {"capabilities": {"drop": ["SETUID"]}}}]})
	ids(q) == {"pod-root"}
	{finding.severity | some finding in pods.findings with input as q} == {"warn"}
}

# What runs already is let go, scaled and labelled.
test_allow_what_is_not_new if {
	q := asked({"hostNetwork": true})
	ids(object.union(q, {"operation": "UPDATE", "old": q.object})) == set()
	ids(object.union(q, {"operation": "UPDATE", "old": object.union(q.object, {"metadata": {"labels": {"a": "b"}}})})) == set()
	d := templated({"hostNetwork": true}).Deployment
	ids(object.union(d, {"operation": "UPDATE", "old": object.union(d.object, {"spec": {"replicas": 3}})})) == set()
	ids(object.union(q, {"operation": "DELETE", "old": q.object, "object": {}})) == set()
}

test_deny_what_becomes_so if {
	q := asked({"hostNetwork": true})
	ids(object.union(q, {"operation": "UPDATE", "old": object.union(q.object, {"spec": {"hostNetwork": false}})})) == {"pod-host-network"}
}
