// Package inject adds the sidecar to a pod.
//
// In: a pod as the API server would store it, and what the approved release says of
// sidecars. Out: the operations of a JSON patch (RFC 6902), none if there is nothing
// to do, or why the pod cannot have a sidecar; of a finished pod, whether its sidecar
// is the one that was added.
//
// What always holds: a pod that has the sidecar gets nothing more, so that any number
// of calls give one pod; the sidecar comes before the pod's own init containers, so
// that nothing of the pod speaks before the redirection stands.
package inject

import (
	"fmt"
	"slices"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/proxypod"
	"meshc.dev/meshc/webhook/internal/drift"
)

// The label that asks for a sidecar, on a namespace or a pod, and its values.
const (
	Label    = "meshc.dev/inject"
	Enabled  = "enabled"
	Disabled = "disabled"
)

// Names of what is added to a pod beside those of package proxypod.
const (
	RedirectContainer = "meshc-redirect"
	nothingVolume     = "meshc-nothing"
)

// Object is a Kubernetes object, or a part of one, as JSON values.
type Object = map[string]any

// Operation is one step of a JSON patch.
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// Patch gives the operations that add the sidecar to a pod. Of a pod that has it, those
// that lead probes to it which came later.
func Patch(pod Object, in release.Injection) ([]Operation, error) {
	if err := Possible(pod); err != nil {
		return nil, err
	}
	if Has(pod) {
		return again(pod, in)
	}
	known := probes{}
	out, err := redirectProbes(pod, known)
	if err != nil {
		return nil, err
	}
	spec, _ := pod["spec"].(Object)
	add := func(list string, values ...any) {
		if _, there := spec[list]; !there {
			out = append(out, Operation{"add", "/spec/" + list, values})
			return
		}
		for i, v := range values {
			out = append(out, Operation{"add", fmt.Sprintf("/spec/%s/%d", list, i), v})
		}
	}
	add("initContainers", redirect(in), proxy(in, known))
	add("volumes", volumes()...)
	return out, nil
}

// again is for a pod that has the sidecar: somebody else may have added a container.
func again(pod Object, in release.Injection) ([]Operation, error) {
	if err := Check(pod, in); err != nil {
		return nil, err
	}
	spec, _ := pod["spec"].(Object)
	known, err := declared(list(spec, "initContainers")[1])
	if err != nil {
		return nil, err
	}
	out, err := redirectProbes(pod, known)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	return append(out, Operation{"replace", "/spec/initContainers/1/env", proxy(in, known)["env"]}), nil
}

// Has reports whether something in the pod has a name of ours.
func Has(pod Object) bool {
	for _, c := range containers(pod) {
		if name, _ := c["name"].(string); name == RedirectContainer || name == proxypod.Container {
			return true
		}
	}
	return false
}

// Check says in what the pod's sidecar is not the one that Patch adds.
func Check(pod Object, in release.Injection) error {
	spec, _ := pod["spec"].(Object)
	inits := list(spec, "initContainers")
	for i, name := range []string{RedirectContainer, proxypod.Container} {
		if len(inits) <= i || inits[i]["name"] != name {
			return fmt.Errorf("init container %d is not %q: the sidecar comes first", i+1, name)
		}
	}
	known, err := declared(inits[1])
	if err != nil {
		return fmt.Errorf("container %q is not what the approved release says: %w", proxypod.Container, err)
	}
	for i, want := range []Object{redirect(in), proxy(in, known)} {
		if ds := drift.Compare("Container", want, inits[i]); len(ds) > 0 {
			return fmt.Errorf("container %q is not what the approved release says: %s", want["name"], ds[0])
		}
	}
	named := map[any]int{}
	for _, c := range containers(pod) {
		named[c["name"]]++
	}
	if named[RedirectContainer] != 1 || named[proxypod.Container] != 1 {
		return fmt.Errorf("a second container has the sidecar's name")
	}
	have := list(spec, "volumes")
	for _, v := range volumes() {
		want, _ := v.(Object)
		i := slices.IndexFunc(have, func(o Object) bool { return o["name"] == want["name"] })
		if i < 0 {
			return fmt.Errorf("volume %q is missing", want["name"])
		}
		if ds := drift.Compare("Volume", want, have[i]); len(ds) > 0 {
			return fmt.Errorf("volume %q is not what the sidecar needs: %s", want["name"], ds[0])
		}
	}
	return Possible(pod)
}

// Possible says why a pod cannot be redirected.
func Possible(pod Object) error {
	spec, ok := pod["spec"].(Object)
	if !ok {
		return fmt.Errorf("the pod has no spec")
	}
	if on, _ := spec["hostNetwork"].(bool); on {
		return fmt.Errorf("a pod on the host's network cannot be redirected: remove hostNetwork, or run it in a namespace without sidecars")
	}
	if system, _ := spec["os"].(Object); system["name"] == "windows" {
		return fmt.Errorf("a pod of Windows cannot be redirected: run it in a namespace without sidecars")
	}
	return Apart(pod)
}

// Apart says why something of the pod passes for its proxy, or sees the proxy's identity.
func Apart(pod Object) error {
	spec, _ := pod["spec"].(Object)
	if who := asProxy(spec["securityContext"]); who != "" {
		return fmt.Errorf("the pod's securityContext has %s %d, which is the proxy's and is not redirected", who, proxypod.ID)
	}
	for _, c := range containers(pod) {
		name, _ := c["name"].(string)
		if name == proxypod.Container {
			continue
		}
		if who := asProxy(c["securityContext"]); who != "" {
			return fmt.Errorf("container %q has %s %d, which is the proxy's and is not redirected", name, who, proxypod.ID)
		}
		for _, m := range list(c, "volumeMounts") {
			if v, _ := m["name"].(string); name != RedirectContainer && (v == proxypod.IdentityVolume || v == proxypod.StateVolume) {
				return fmt.Errorf("container %q mounts %q, which holds the proxy's identity", name, v)
			}
		}
	}
	return nil
}

// asProxy names the field of a security context that makes a process pass for the
// proxy.
func asProxy(context any) string {
	o, _ := context.(Object)
	for _, field := range []string{"runAsUser", "runAsGroup", "fsGroup"} {
		if id, ok := o[field].(int64); ok && id == proxypod.ID {
			return field
		}
	}
	groups, _ := o["supplementalGroups"].([]any)
	if slices.Contains(groups, any(int64(proxypod.ID))) {
		return "supplementalGroups"
	}
	return ""
}

// containers are all of a pod's, of every kind.
func containers(pod Object) []Object {
	spec, _ := pod["spec"].(Object)
	return slices.Concat(list(spec, "initContainers"), list(spec, "containers"), list(spec, "ephemeralContainers"))
}

func list(o Object, key string) []Object {
	values, _ := o[key].([]any)
	out := make([]Object, 0, len(values))
	for _, v := range values {
		item, _ := v.(Object)
		out = append(out, item)
	}
	return out
}

// Parts are those of a pod that its sidecar consists of.
func Parts(pod Object) []Object {
	var out []Object
	for _, c := range containers(pod) {
		if name, _ := c["name"].(string); name == RedirectContainer || name == proxypod.Container {
			out = append(out, c)
		}
	}
	spec, _ := pod["spec"].(Object)
	for _, v := range list(spec, "volumes") {
		if name, _ := v["name"].(string); name == proxypod.IdentityVolume || name == proxypod.StateVolume || name == nothingVolume {
			out = append(out, v)
		}
	}
	return out
}
