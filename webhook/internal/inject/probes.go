package inject

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"meshc.dev/meshc/internal/proxypod"
)

// probesVariable tells the agent what to ask the application, in the form of
// docs/pods.md.
const probesVariable = "MESHC_PROBES"

// probeKinds maps the field of a container to the agent's word.
func probeKinds() map[string]string {
	return map[string]string{"livenessProbe": "liveness", "readinessProbe": "readiness", "startupProbe": "startup"}
}

// probes are what the agent asks instead of a kubelet, by "container/kind".
type probes map[string]Object

// text is the variable's value, "" for none. Keys are in order, so that the same pod
// always gets the same.
func (p probes) text() string {
	if len(p) == 0 {
		return ""
	}
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err) // it was JSON before
	}
	return string(raw)
}

// declared reads what a proxy was told to ask.
func declared(proxy Object) (probes, error) {
	for _, e := range list(proxy, "env") {
		if e["name"] != probesVariable {
			continue
		}
		value, _ := e["value"].(string)
		var p probes
		if err := json.Unmarshal([]byte(value), &p); err != nil {
			return nil, fmt.Errorf("its variable %s is no object: %w", probesVariable, err)
		}
		return p, nil
	}
	return probes{}, nil
}

// redirectProbes sends a pod's probes to the agent, which asks the application from
// within: the kubelet has no identity, and its connection would be the proxy's. It adds
// to known what the agent is to ask.
func redirectProbes(pod Object, known probes) ([]Operation, error) {
	var out []Operation
	spec, _ := pod["spec"].(Object)
	for _, field := range []string{"initContainers", "containers"} {
		for i, c := range list(spec, field) {
			name, _ := c["name"].(string)
			if name == proxypod.Container || name == RedirectContainer {
				continue
			}
			kinds := probeKinds()
			for _, at := range slices.Sorted(maps.Keys(kinds)) {
				probe, _ := c[at].(Object)
				handler, err := handlerOf(c, probe)
				if err != nil {
					return nil, fmt.Errorf("%s of container %q: %w", at, name, err)
				}
				if handler == nil || ours(probe, name, kinds[at]) {
					continue
				}
				known[name+"/"+kinds[at]] = handler
				out = append(out, Operation{"replace", fmt.Sprintf("/spec/%s/%d/%s", field, i, at), asked(probe, name, kinds[at])})
			}
		}
	}
	return out, nil
}

// handlerOf is the probe as the agent asks it, nil for one that stays with the kubelet:
// a command, or something that is not the pod.
func handlerOf(container, probe Object) (Object, error) {
	for _, kind := range []string{"httpGet", "tcpSocket", "grpc"} {
		how, _ := probe[kind].(Object)
		if how == nil {
			continue
		}
		if host, _ := how["host"].(string); host != "" {
			return nil, nil
		}
		handler := maps.Clone(how)
		delete(handler, "host")
		port, err := number(container, how["port"])
		if err != nil {
			return nil, err
		}
		handler["port"] = port
		out := Object{kind: handler}
		if timeout := probe["timeoutSeconds"]; timeout != nil {
			out["timeoutSeconds"] = timeout
		}
		return out, nil
	}
	return nil, nil
}

// number is a probe's port, which may be the name of one of the container's.
func number(container Object, port any) (int64, error) {
	switch port := port.(type) {
	case int64:
		return port, nil
	case string:
		for _, p := range list(container, "ports") {
			if n, ok := p["containerPort"].(int64); ok && p["name"] == port {
				return n, nil
			}
		}
	}
	return 0, fmt.Errorf("the container has no port %v", port)
}

// ours reports whether a probe is sent to the agent already.
func ours(probe Object, container, kind string) bool {
	get, _ := probe["httpGet"].(Object)
	return get["path"] == probePath(container, kind) && get["port"] == int64(proxypod.StatusPort)
}

func probePath(container, kind string) string { return "/probe/" + container + "/" + kind }

// asked is the probe as the kubelet makes it: the same patience, and a second more for
// the way.
func asked(probe Object, container, kind string) Object {
	out := maps.Clone(probe)
	for _, handler := range []string{"httpGet", "tcpSocket", "grpc"} {
		delete(out, handler)
	}
	out["httpGet"] = Object{"path": probePath(container, kind), "port": int64(proxypod.StatusPort), "scheme": "HTTP"}
	timeout, ok := probe["timeoutSeconds"].(int64)
	if !ok {
		timeout = 1
	}
	out["timeoutSeconds"] = timeout + 1
	return out
}
