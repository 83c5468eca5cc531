// Package proxypod says how an agent and its Envoy run in a pod: the one description
// behind the sidecars that the webhook adds and the gateways that the compiler writes.
//
// In: what an approved release says of injection. Out: a container and the volumes that
// it needs, as JSON values whose whole numbers are int64.
//
// What always holds: the container meets the level "restricted" of Pod Security, and its
// values are fresh, so that a caller may add to them.
package proxypod

import (
	"strconv"

	"meshc.dev/meshc/compiler/release"
)

// Object is a part of a Kubernetes object as JSON values.
type Object = map[string]any

// Container is the name of the container with agent and Envoy.
const Container = "meshc-proxy"

// Volumes of the proxy, which no other container may mount.
const (
	IdentityVolume = "meshc-identity"
	StateVolume    = "meshc-state"
	// SecretsVolume has what a gateway's agent reads Secrets with.
	SecretsVolume = "meshc-secrets"
)

// Audience is whom the pod's token is for.
const Audience = "meshc.dev"

// ID is the user and the group of the proxy. What runs as either is not redirected.
const ID = 1337

// StatusPort is where the agent answers probes. It is never redirected.
const StatusPort = 15021

const (
	identityDir = "/var/run/secrets/meshc.dev/identity"
	secretsDir  = "/var/run/secrets/meshc.dev/kubernetes"
	stateDir    = "/var/run/meshc"
)

// New is the container. It is ready when its Envoy listens with a valid certificate,
// for which it is given five minutes.
func New(in release.Injection) Object {
	ready := func(period, failures int64) Object {
		return Object{
			"httpGet":       Object{"path": "/ready", "port": int64(StatusPort)},
			"periodSeconds": period, "timeoutSeconds": int64(2), "failureThreshold": failures,
		}
	}
	return Object{
		"name": Container, "image": in.Image,
		"command": []any{"meshc-agent"},
		"args": []any{
			"--server", in.Server, "--server-bundle", identityDir + "/" + release.RootsKey, "--token-file", identityDir + "/token",
			"--node-id", "$(POD_NAME)", "--state", stateDir, "--envoy-path", "envoy", "--status-addr", "[::]:" + strconv.Itoa(StatusPort),
		},
		"env":            []any{field("POD_NAME", "metadata.name"), field("MESHC_REGION", topology+"region']"), field("MESHC_ZONE", topology+"zone']")},
		"ports":          []any{Object{"name": "meshc-status", "containerPort": int64(StatusPort)}},
		"startupProbe":   ready(1, 300),
		"readinessProbe": ready(5, 3),
		"securityContext": Object{
			"runAsUser": int64(ID), "runAsGroup": int64(ID), "runAsNonRoot": true, "privileged": false,
			"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
			"capabilities":   Object{"drop": []any{"ALL"}},
			"seccompProfile": Object{"type": "RuntimeDefault"},
		},
		"resources": Object{"requests": Object{"cpu": "50m", "memory": "64Mi"}, "limits": Object{"memory": "512Mi"}},
		"volumeMounts": []any{
			Object{"name": IdentityVolume, "mountPath": identityDir, "readOnly": true},
			Object{"name": StateVolume, "mountPath": stateDir},
		},
	}
}

// topology begins the labels by which Kubernetes says, from 1.35 on, where a pod's node is; "" where
// it does not, and then nobody knows.
const topology = "metadata.labels['topology.kubernetes.io/"

// field is a variable with what the pod's own object has there.
func field(name, path string) Object {
	return Object{"name": name, "valueFrom": Object{"fieldRef": Object{"fieldPath": path}}}
}

// Volumes are those that the container mounts: the pod's token for the server with the
// server's roots, and memory for keys and sockets.
func Volumes() []any {
	return []any{
		Object{"name": IdentityVolume, "projected": Object{"defaultMode": int64(0o644), "sources": []any{
			Object{"serviceAccountToken": Object{"audience": Audience, "expirationSeconds": int64(3600), "path": "token"}},
			Object{"configMap": Object{"name": release.RootsConfigMap, "items": []any{Object{"key": release.RootsKey, "path": release.RootsKey}}}},
		}}},
		Object{"name": StateVolume, "emptyDir": Object{"medium": "Memory", "sizeLimit": "64Mi"}},
	}
}

// ReadSecrets lets the container's agent read the Secrets that its account may, by the
// volume that it returns: the pod's token for the API server, and that server's roots, which
// every namespace has.
func ReadSecrets(container Object) Object {
	With(container, "args", "--secrets", secretsDir)
	With(container, "volumeMounts", Object{"name": SecretsVolume, "mountPath": secretsDir, "readOnly": true})
	return Object{"name": SecretsVolume, "projected": Object{"defaultMode": int64(0o644), "sources": []any{
		Object{"serviceAccountToken": Object{"expirationSeconds": int64(3600), "path": "token"}},
		Object{"configMap": Object{"name": "kube-root-ca.crt", "items": []any{Object{"key": "ca.crt", "path": "ca.crt"}}}},
	}}}
}

// With appends to a list of an object.
func With(o Object, list string, more ...any) Object {
	have, _ := o[list].([]any)
	o[list] = append(have, more...)
	return o
}
