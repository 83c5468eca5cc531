package meshc.object.sidecars_test

import data.meshc.object.sidecars
import rego.v1

mesh := {
	"accounts": ["shop/web", "plain/web"], "namespaces": ["shop", "plain"], "injected": ["shop"], "image": "r/proxy@sha256:00",
	"services": {}, "gateways": {"shop": {"edge": {"account": "edge"}}}, "hosts": {}, "objects": {},
}

redirect := {"name": "meshc-redirect", "image": "r/proxy@sha256:00", "command": ["meshc-agent", "redirect"]}

sidecar := {
	"name": "meshc-proxy", "image": "r/proxy@sha256:00", "command": ["meshc-agent"],
	"volumeMounts": [{"name": "meshc-identity", "mountPath": "/var/run/secrets/meshc.dev/identity"}, {"name": "meshc-state", "mountPath": "/var/run/meshc"}],
}

identity := {"name": "meshc-identity", "projected": {"sources": [{"serviceAccountToken": {"audience": "meshc.dev", "path": "token"}}]}}

state := {"name": "meshc-state", "emptyDir": {"medium": "Memory"}}

injected := {"initContainers": [redirect, sidecar], "containers": [{"name": "app"}], "volumes": [identity, state]}

asked_with(metadata, spec) := {
	"operation": "CREATE",
	"kind": "Pod",
	"namespace": "shop",
	"name": "web-1",
	"object": {"metadata": metadata, "spec": object.union({"serviceAccountName": "web"}, spec)},
	"old": {},
	"user": {"name": "somebody", "groups": []},
	"mesh": mesh,
}

asked(spec) := asked_with({}, spec)

# told is a controller that makes such pods.
told(metadata, spec) := object.union(asked({}), {
	"kind": "Deployment",
	"object": {"metadata": {}, "spec": {"template": {"metadata": metadata, "spec": object.union({"serviceAccountName": "web"}, spec)}}},
})

plain(q) := object.union(q, {"namespace": "plain"})

ids(input_) := {finding.id | some finding in found} if {
	found := sidecars.findings with input as input_
}

app(container) := object.union(injected, {"containers": [object.union({"name": "app"}, container)]})

gateway := {"serviceAccountName": "edge", "containers": [sidecar], "volumes": [identity, state]}

test_allow_injected_pod if ids(asked(injected)) == set()

test_allow_template_without_sidecar if ids(told({}, {"containers": [{"name": "app"}]})) == set()

test_allow_gateway if {
	ids(asked_with({"labels": {"meshc.dev/inject": "disabled"}}, gateway)) == set()
	ids(told({"labels": {"meshc.dev/inject": "disabled"}}, gateway)) == set()
}

test_allow_pod_where_no_sidecar_is_wanted if ids(plain(asked({"containers": [{"name": "app"}]}))) == set()

test_allow_living_pod if {
	q := asked({"containers": [{"name": "app"}]})
	ids(object.union(q, {"operation": "UPDATE", "old": {"metadata": {}, "spec": {}}})) == set()
}

test_allow_pod_before_the_cluster if ids(object.union(asked({"containers": [{"name": "app"}]}), {"user": {"name": ""}})) == set()

test_deny_no_sidecar if {
	ids(asked({"containers": [{"name": "app"}]})) == {"pod-without-sidecar"}
	ids(asked({"serviceAccountName": "", "containers": [{"name": "app"}]})) == {"pod-without-sidecar"}
}

# Of another's init container, the first words would not be redirected.
test_deny_another_container_first if {
	ids(asked(object.union(injected, {"initContainers": [{"name": "early"}, redirect, sidecar]}))) == {"pod-without-sidecar", "pod-reserved-name", "pod-identity-mount", "pod-identity-token"}
}

test_deny_opting_out if {
	ids(asked_with({"labels": {"meshc.dev/inject": "disabled"}}, injected)) == {"pod-opts-out"}
	ids(told({"labels": {"meshc.dev/inject": "disabled"}}, {})) == {"pod-opts-out"}
}

test_allow_opting_out_elsewhere if ids(plain(asked_with({"labels": {"meshc.dev/inject": "disabled"}}, {}))) == set()

test_deny_our_names if {
	every name in ["meshc-redirect", "meshc-proxy"] {
		every list in ["initContainers", "containers", "ephemeralContainers"] {
			ids(plain(asked({list: [{"name": name}]}))) == {"pod-reserved-name"}
			ids(told({}, {list: [{"name": name}]})) == {"pod-reserved-name"}
		}
	}
	every name in ["meshc-identity", "meshc-state", "meshc-nothing"] {
		ids(plain(asked({"volumes": [{"name": name, "emptyDir": {}}]}))) == {"pod-reserved-name"}
	}
	ids(asked(object.union(injected, {"volumes": [identity, {"name": "meshc-state", "persistentVolumeClaim": {}}]}))) == {"pod-reserved-name"}
}

test_allow_our_names_without_injection if {
	q := asked(object.union(injected, {"initContainers": [object.union(sidecar, {"image": "own"})]}))
	ids(object.union(q, {"mesh": {"image": "", "injected": []}})) == set()
}

test_deny_a_token_for_the_mesh if {
	token := {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "meshc.dev", "path": "t"}}]}}
	ids(asked(object.union(injected, {"volumes": [identity, state, token]}))) == {"pod-identity-token"}
	ids(told({}, {"volumes": [token]})) == {"pod-identity-token"}
}

test_allow_other_tokens if {
	token := {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault", "path": "t"}}, {"configMap": {"name": "c"}}]}}
	ids(told({}, {"volumes": [token]})) == set()
}

test_deny_a_mount_of_the_identity if {
	every mount in [
		{"name": "meshc-identity", "mountPath": "/x"}, {"name": "meshc-state", "mountPath": "/x"}, {"name": "v", "mountPath": "/var/run/secrets/meshc.dev"},
		{"name": "v", "mountPath": "/var/run/secrets/meshc.dev/identity/"}, {"name": "v", "mountPath": "/run/meshc/"},
		{"name": "v", "mountPath": "run/meshc"}, {"name": "v", "mountPath": "//run/meshc"}, {"name": "v", "mountPath": "/x/../run/meshc"}, {"name": "v", "mountPath": "/run/./meshc"},
	] {
		ids(asked(app({"volumeMounts": [mount]}))) == {"pod-identity-mount"}
	}
}

test_allow_other_mounts if {
	every path in ["/var/run/meshcx", "/data/", "/a/.b", "/a..b"] {
		ids(asked(app({"volumeMounts": [{"name": "v", "mountPath": path}]}))) == set()
	}
}

test_deny_a_probe_of_the_kubelet if {
	every kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
		every way in [{"httpGet": {"path": "/", "port": 80}}, {"tcpSocket": {"port": 80}}, {"grpc": {"port": 80}}, {"httpGet": {"path": "/probe/x", "port": 80}}] {
			ids(asked(app({kind: way}))) == {"pod-kubelet-probe"}
		}
	}
}

test_allow_probes_of_the_agent if {
	every probe in [{"httpGet": {"path": "/probe/app/readiness", "port": 15021}}, {"exec": {"command": ["true"]}}, {"httpGet": {"host": "example.com", "path": "/", "port": 80}}] {
		ids(asked(app({"readinessProbe": probe}))) == set()
	}
	ids(told({}, {"containers": [{"name": "app", "readinessProbe": {"tcpSocket": {"port": 80}}}]})) == set()
}

test_deny_exclusions if {
	every key in [
		"traffic.sidecar.istio.io/excludeOutboundPorts", "config.linkerd.io/skip-inbound-ports", "traffic.kuma.io/exclude-outbound-ports",
		"meshc.dev/exclude", "proxy.meshc.dev/skip", "consul.hashicorp.com/transparent-proxy-exclude-uids",
	] {
		ids(asked_with({"annotations": {key: "1"}}, injected)) == {"pod-exclusion"}
		ids(told({"annotations": {key: "1"}}, {})) == {"pod-exclusion"}
	}
	ids(asked_with({"labels": {"sidecar.istio.io/inject": "true"}}, injected)) == {"pod-exclusion"}
	ids(asked_with({"annotations": {"linkerd.io/inject": "enabled"}}, injected)) == {"pod-exclusion"}
}

test_allow_leaving_another_mesh if ids(asked_with({"annotations": {"sidecar.istio.io/inject": "false", "meshc.dev/owner": "team"}}, injected)) == set()
