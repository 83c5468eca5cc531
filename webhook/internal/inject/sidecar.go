package inject

import (
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/proxypod"
)

// accountDir is where an API server mounts the pod's token for itself.
const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

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
	c := proxypod.New(in)
	c["restartPolicy"] = "Always"
	proxypod.With(c, "args", "--require-redirect")
	if text := ask.text(); text != "" {
		proxypod.With(c, "env", Object{"name": probesVariable, "value": text})
	}
	return proxypod.With(c, "volumeMounts", nothing())
}

// nothing keeps the API server's token of the pod out of our containers, which have no
// use for it: an API server mounts it wherever nothing else is mounted.
func nothing() Object {
	return Object{"name": nothingVolume, "mountPath": accountDir, "readOnly": true}
}

func volumes() []any {
	return append(proxypod.Volumes(), Object{"name": nothingVolume, "emptyDir": Object{"sizeLimit": "1Mi"}})
}
