package kube

import (
	"encoding/json"
	"fmt"
	"strings"

	"pgregory.net/rapid"
)

// Objects, as JSON texts. Every one is valid, so that only policies refuse it.

func pod(spec, volumes string) string {
	return workload("Pod", "shop", "web", spec, `{"name":"app","image":"a"}`, sidecar, volumes, "")
}

const (
	image   = `"registry.example/proxy@sha256:bb"`
	sidecar = `{"name":"meshc-redirect","image":` + image + `,"command":["meshc-agent","redirect"],"securityContext":{"capabilities":{"add":["NET_ADMIN"]}}},
		{"name":"meshc-proxy","image":` + image + `,"command":["meshc-agent"],"restartPolicy":"Always","securityContext":{"runAsUser":1337}}`
	identity = `{"name":"meshc-identity","projected":{"sources":[{"serviceAccountToken":{"audience":"meshc.dev","path":"token"}}]}},{"name":"meshc-state","emptyDir":{}}`
)

// workload is a pod, or what makes it.
func workload(kind, namespace, account, spec, containers, inits, volumes, labels string) string {
	template := `{"metadata":{"labels":{"t":"t"` + labels + `}},"spec":{` + comma(spec) + `"serviceAccountName":"` + account + `","restartPolicy":"%s","initContainers":[` + inits +
		`],"containers":[` + containers + `],"volumes":[` + volumes + `]}}`
	meta := `"metadata":{"name":"x","namespace":"` + namespace + `"`
	always, never := fmt.Sprintf(template, "Always"), fmt.Sprintf(template, "Never")
	switch kind {
	case "Pod":
		return `{"apiVersion":"v1","kind":"Pod",` + meta + `,` + strings.TrimPrefix(always, `{"metadata":{`)
	case "PodTemplate":
		return `{"apiVersion":"v1","kind":"PodTemplate",` + meta + `},"template":` + always + `}`
	case "CronJob":
		return `{"apiVersion":"batch/v1","kind":"CronJob",` + meta + `},"spec":{"schedule":"0 0 * * *","jobTemplate":{"spec":{"template":` + never + `}}}}`
	}
	return `{"apiVersion":"apps/v1","kind":"` + kind + `",` + meta + `},"spec":{"serviceName":"x","selector":{"matchLabels":{"t":"t"}},"template":` + always + `}}`
}

func comma(s string) string {
	if s == "" {
		return ""
	}
	return strings.TrimSuffix(s, ",") + ","
}

func deployment(name, spec string) string {
	text := strings.Replace(workload("Deployment", "shop", "web", spec, `{"name":"app","image":"a"}`, "", "", ""), `"name":"x"`, `"name":"`+name+`"`, 1)
	return strings.Replace(text, `"serviceName":"x",`, "", 1)
}

func service(spec string) string {
	return `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x","namespace":"shop"},"spec":{` + comma(spec) + `"ports":[{"port":80}]}}`
}

func slice(label string) string {
	return `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"x","namespace":"shop","labels":{"kubernetes.io/service-name":"cart"` + label + `}},"addressType":"IPv4","endpoints":[{"addresses":["10.9.9.9"]}]}`
}

func ingress(namespace, host string) string {
	return `{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"x","namespace":"` + namespace + `"},"spec":{"rules":[{"host":"` + host + `","http":{"paths":[{"path":"/","pathType":"Prefix","backend":{"service":{"name":"a","port":{"number":80}}}}]}}]}}`
}

// broken are objects that break one rule each.
func broken() []string {
	app := func(more string) string {
		return workload("Pod", "shop", "web", "", `{"name":"app","image":"a",`+more+`}`, sidecar, `{"name":"v","emptyDir":{}},`+identity, "")
	}
	return []string{
		pod(`"hostNetwork":true`, identity), pod(`"hostPID":true`, identity), app(`"ports":[{"containerPort":80,"hostPort":80}]`), pod("", `{"name":"v","hostPath":{"path":"/"}}`),
		pod(`"securityContext":{"fsGroup":1337}`, identity), app(`"securityContext":{"capabilities":{"add":["CAP_SYS_PTRACE"]}}`),
		workload("Pod", "shop", "web", "", `{"name":"app","image":"a"}`, "", "", ""),
		workload("Pod", "shop", "web", "", `{"name":"app","image":"a"}`, sidecar, identity, `,"meshc.dev/inject":"disabled"`),
		strings.Replace(deployment("x", ""), `"name":"app"`, `"name":"meshc-proxy"`, 1),
		pod("", `{"name":"t","projected":{"sources":[{"serviceAccountToken":{"audience":"meshc.dev","path":"t"}}]}}`), app(`"volumeMounts":[{"name":"v","mountPath":"run/meshc"}]`),
		service(`"type":"NodePort"`), service(`"externalIPs":["1.2.3.4"]`), service(`"type":"ExternalName","externalName":"cart.shop.svc.cluster.local"`), slice(""),
		`{"apiVersion":"networking.istio.io/v1","kind":"EnvoyFilter","metadata":{"name":"x","namespace":"shop"},"spec":{}}`,
		ingress("other", "shop.example"), ingress("edge", ""),
	}
}

// some draws which of several words are there, joined by commas.
func some(t *rapid.T, label string, words ...string) string {
	var out []string
	for i, w := range words {
		if rapid.IntRange(0, 3).Draw(t, fmt.Sprintf("%s %d", label, i)) == 0 {
			out = append(out, w)
		}
	}
	return strings.Join(out, ",")
}

func one(t *rapid.T, label string, words ...string) string {
	return rapid.SampledFrom(words).Draw(t, label)
}

// anyContainer has a name and some of what rules look at.
func anyContainer(t *rapid.T, name string) string {
	security := some(t, name+" security", `"privileged":true`, `"runAsUser":`+one(t, "uid", "0", "1000", "1337"), `"runAsGroup":`+one(t, "gid", "1000", "1337"),
		`"capabilities":{"add":["`+one(t, "power", "NET_ADMIN", "CAP_NET_RAW", "net_raw", "BPF", "CHOWN", "ALL")+`"]}`)
	port := one(t, "port", "80", "81")
	return `{"name":"` + name + `","image":` + one(t, "image", image, `"evil"`) + `,"command":["` + one(t, "command", "meshc-agent", "sh") + `"],"securityContext":{` + security + `},"volumeMounts":[` +
		some(t, "mounts", `{"name":"v","mountPath":"`+one(t, "path", "/data", "/run/meshc/x", "/var/run/secrets/meshc.dev", "/a/../run/meshc", "/run//meshc", "run/meshc", "/runmeshc", "/data/")+`"}`) + `],"ports":[` +
		some(t, "ports", `{"containerPort":`+port+`,"hostPort":`+port+`}`) + `]}`
}

func anyWorkload(t *rapid.T) string {
	kind := one(t, "kind", "Pod", "Pod", "Pod", "StatefulSet", "CronJob", "PodTemplate")
	namespace := one(t, "namespace", "shop", "shop", "edge", "other")
	account := map[string][]string{"shop": {"web", "default"}, "edge": {"edge", "stranger"}, "other": {"web"}}[namespace]
	spec := some(t, "spec", `"hostPID":true`, `"hostIPC":true`, `"securityContext":{`+some(t, "pod security", `"fsGroup":1337`, `"runAsUser":1337`, `"supplementalGroups":[1,1337]`)+`}`)
	if !strings.Contains(spec, "hostPID") {
		spec = comma(spec) + some(t, "sharing", `"shareProcessNamespace":true`)
	}
	inits := one(t, "inits", "", sidecar, sidecar, `{"name":"early","image":"a"},`+sidecar)
	name := "app"
	if inits == "" {
		name = one(t, "name", "app", "meshc-proxy", "meshc-redirect")
	} else if one(t, "hostile init", "no", "no", "yes") == "yes" {
		inits += "," + anyContainer(t, "late")
	}
	volumes := `{"name":"v","emptyDir":{}}`
	for _, v := range []string{
		`{"name":"h","hostPath":{"path":"/"}}`, `{"name":"t","projected":{"sources":[{"serviceAccountToken":{"audience":"` + one(t, "audience", "meshc.dev", "vault") + `","path":"t"}}]}}`, identity, `{"name":"meshc-nothing","emptyDir":{}}`,
	} {
		if one(t, "volume", "yes", "no", "no") == "yes" {
			volumes += "," + v
		}
	}
	label := one(t, "label", "", "", `,"meshc.dev/inject":"disabled"`, `,"meshc.dev/inject":"enabled"`)
	text := workload(kind, namespace, one(t, "account", account...), spec, anyContainer(t, name), inits, volumes, label)
	return strings.Replace(text, `"name":"x"`, one(t, "name of it", `"name":"x"`, `"name":"agent-1"`, `"generateName":"agent-"`, `"name":"agents"`), 1)
}

func anyService(t *rapid.T) string {
	if one(t, "what", "service", "service", "slice") == "slice" {
		return `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"x","namespace":"` + one(t, "namespace", "shop", "other") + `","labels":{"kubernetes.io/service-name":"` +
			one(t, "service", "cart", "none") + `"` + one(t, "written", "", `,"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io"`) + `}},"addressType":"IPv4","endpoints":[{"addresses":["10.9.9.9"]}]}`
	}
	spec := `"type":"` + one(t, "type", "ClusterIP", "NodePort", "LoadBalancer") + `"`
	if one(t, "alias", "no", "no", "yes") == "yes" {
		spec = `"type":"ExternalName","externalName":"` + one(t, "to", "example.com", "web.shop.svc", "a.b.svc.cluster.local", "localhost", "metadata.google.internal", "a.shop", "a.other", "x", "svc.example.com", "10.0.0.1") + `"`
	} else if more := some(t, "spec", `"externalIPs":["1.2.3.4"]`); more != "" {
		spec += "," + more
	}
	return strings.NewReplacer(`"name":"x"`, `"name":"`+one(t, "name", "x", "edge2", "old")+`"`, `"shop"}`, `"`+one(t, "namespace", "shop", "edge", "other")+`"}`).
		Replace(service(spec + `,"selector":{"app":"` + one(t, "selector", "x", "edge2", "edge") + `"}`))
}

func anyRoute(t *rapid.T) string {
	namespace := one(t, "namespace", "shop", "edge", "other")
	host := one(t, "host", "shop.example", "a.wild.example", "*.wild.example", "*.example", "other.example", "wild.example", "")
	meta := `"metadata":{"name":"x","namespace":"` + namespace + `"` + one(t, "claim", "", `,"labels":{"app.kubernetes.io/managed-by":"meshc"}`) + `}`
	var spec any
	switch kind := one(t, "kind", "Ingress", "Ingress", "VirtualService", "Gateway", "EnvoyFilter"); kind {
	case "VirtualService":
		spec = map[string]any{"hosts": []any{host}}
		return object("networking.istio.io/v1", kind, meta, spec)
	case "Gateway":
		spec = map[string]any{"servers": []any{map[string]any{"hosts": []any{"./" + host, "x.example"}}}}
		return object("networking.istio.io/v1", kind, meta, spec)
	case "EnvoyFilter":
		return object("networking.istio.io/v1", kind, meta, map[string]any{})
	}
	return ingress(namespace, host)
}

func object(version, kind, meta string, spec any) string {
	raw, err := json.Marshal(spec)
	if err != nil {
		panic(err) // it is made of maps and texts
	}
	return `{"apiVersion":"` + version + `","kind":"` + kind + `",` + meta + `,"spec":` + string(raw) + `}`
}
