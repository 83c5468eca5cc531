package inject

import (
	"strconv"

	"meshc.dev/meshc/compiler/release"
)

// Folders of the sidecar.
const (
	identityDir = "/var/run/secrets/meshc.dev/identity"
	stateDir    = "/var/run/meshc"
	accountDir  = "/var/run/secrets/kubernetes.io/serviceaccount"
)

// redirect lays the rules by which all traffic of the pod goes through the proxy, and
// ends. A pod whose rules do not stand does not start.
func redirect(in release.Injection) Object {
	return Object{
		"name": RedirectContainer, "image": in.Image,
		"command": []any{"meshc-agent", "redirect"},
		"securityContext": Object{
			"runAsUser": int64(0), "runAsGroup": int64(0), "runAsNonRoot": false, "privileged": false,
			"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
			"capabilities":   Object{"drop": []any{"ALL"}, "add": []any{"NET_ADMIN", "NET_RAW"}},
			"seccompProfile": Object{"type": "RuntimeDefault"},
		},
		"resources":    Object{"requests": Object{"cpu": "10m", "memory": "16Mi"}, "limits": Object{"memory": "64Mi"}},
		"volumeMounts": []any{nothing()},
	}
}

// proxy runs the agent and Envoy from before the application's first word until after
// its last one: a native sidecar. The application waits for the startup probe.
func proxy(in release.Injection, ask probes) Object {
	env := []any{Object{"name": "POD_NAME", "valueFrom": Object{"fieldRef": Object{"fieldPath": "metadata.name"}}}}
	if text := ask.text(); text != "" {
		env = append(env, Object{"name": probesVariable, "value": text})
	}
	ready := func(period, failures int64) Object {
		return Object{
			"httpGet":       Object{"path": "/ready", "port": int64(StatusPort)},
			"periodSeconds": period, "timeoutSeconds": int64(2), "failureThreshold": failures,
		}
	}
	return Object{
		"name": ProxyContainer, "image": in.Image, "restartPolicy": "Always",
		"command": []any{"meshc-agent"},
		"args": []any{
			"--server", in.Server, "--server-bundle", identityDir + "/" + release.RootsKey, "--token-file", identityDir + "/token",
			"--node-id", "$(POD_NAME)", "--state-dir", stateDir, "--envoy", "envoy", "--status-addr", "[::]:" + strconv.Itoa(StatusPort),
			"--require-redirect",
		},
		"env":            env,
		"ports":          []any{Object{"name": "meshc-status", "containerPort": int64(StatusPort)}},
		"startupProbe":   ready(1, 300),
		"readinessProbe": ready(5, 3),
		"securityContext": Object{
			"runAsUser": int64(ProxyID), "runAsGroup": int64(ProxyID), "runAsNonRoot": true, "privileged": false,
			"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
			"capabilities":   Object{"drop": []any{"ALL"}},
			"seccompProfile": Object{"type": "RuntimeDefault"},
		},
		"resources": Object{"requests": Object{"cpu": "50m", "memory": "64Mi"}, "limits": Object{"memory": "512Mi"}},
		"volumeMounts": []any{
			Object{"name": identityVolume, "mountPath": identityDir, "readOnly": true},
			Object{"name": stateVolume, "mountPath": stateDir},
			nothing(),
		},
	}
}

// nothing keeps the API server's token of the pod out of our containers, which have no
// use for it: an API server mounts it wherever nothing else is mounted.
func nothing() Object {
	return Object{"name": nothingVolume, "mountPath": accountDir, "readOnly": true}
}

func volumes() []any {
	return []any{
		Object{"name": identityVolume, "projected": Object{"defaultMode": int64(0o644), "sources": []any{
			Object{"serviceAccountToken": Object{"audience": Audience, "expirationSeconds": int64(3600), "path": "token"}},
			Object{"configMap": Object{"name": release.RootsConfigMap, "items": []any{Object{"key": release.RootsKey, "path": release.RootsKey}}}},
		}}},
		Object{"name": stateVolume, "emptyDir": Object{"medium": "Memory", "sizeLimit": "64Mi"}},
		Object{"name": nothingVolume, "emptyDir": Object{"sizeLimit": "1Mi"}},
	}
}
