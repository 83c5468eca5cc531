package release

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// MeshPath is the artifact that holds the linked mesh.
const MeshPath = "mesh.json"

// InjectionPath is the artifact that holds an Injection. It is no Kubernetes object.
const InjectionPath = "kubernetes/injection.json"

// PoliciesFolder of a release holds the user's own policies, if it has objects for a
// cluster.
const PoliciesFolder = "policies/"

// RootsConfigMap is the ConfigMap in each namespace of the mesh that holds the server's
// roots (PEM) under RootsKey, for agents to mount.
const (
	RootsConfigMap = "meshc-roots"
	RootsKey       = "roots.pem"
)

// Injection is what a pod gets beside its own containers.
type Injection struct {
	// Image holds meshc-agent and Envoy: a reference with a digest.
	Image string `json:"image"`
	// Server is host:port of "meshc serve", as pods reach it.
	Server string `json:"server"`
}

// Injection reads what the release says of pods. ok is false if it says nothing, and
// no pod gets a sidecar.
func (r Release) Injection() (in Injection, ok bool, err error) {
	raw, ok := r.Artifact(InjectionPath)
	if !ok {
		return Injection{}, false, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return Injection{}, false, fmt.Errorf("reading %q: %w", InjectionPath, err)
	}
	if in.Image == "" || in.Server == "" {
		return Injection{}, false, fmt.Errorf("reading %q: it lacks the image or the server", InjectionPath)
	}
	return in, true, nil
}
