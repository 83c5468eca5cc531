package admit_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/webhook/internal/admit"
	"meshc.dev/meshc/webhook/internal/inject"
	"meshc.dev/meshc/webhook/internal/review"
)

const service = `apiVersion: v1
kind: Service
metadata:
  annotations: {meshc.dev/owner: bookinfo}
  labels: {app.kubernetes.io/managed-by: meshc}
  name: reviews
  namespace: bookinfo
spec:
  ports: [{name: http, port: 9080}]
  selector: {app: reviews}
`

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  annotations: {meshc.dev/owner: edge}
  labels: {app.kubernetes.io/managed-by: meshc}
  name: %NAME%
  namespace: bookinfo
spec:
  replicas: 2
`

// gateway runs the gateway of the namespace strict.
const gateway = `apiVersion: apps/v1
kind: Deployment
metadata: {name: edge, namespace: strict}
spec:
  template:
    metadata: {labels: {app: edge, meshc.dev/inject: disabled}}
    spec:
      serviceAccountName: edge
      containers: [{name: meshc-proxy, image: %IMAGE%, securityContext: {runAsUser: 1337}, volumeMounts: [{name: meshc-identity}]}]
      tolerations: [{key: edge, operator: Exists}]
      volumes: [{name: meshc-identity}]
`

const autoscaler = `apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: scaled, namespace: bookinfo}
spec: {scaleTargetRef: {kind: Deployment, name: scaled}, minReplicas: 3, maxReplicas: 9}
`

const route = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: own, namespace: bookinfo, labels: {app.kubernetes.io/managed-by: meshc}}
spec: {hostnames: [a.example], rules: [{backendRefs: [{name: reviews, port: 9080}]}]}
`

const namespace = `apiVersion: v1
kind: Namespace
metadata: {name: %NAME%, labels: {meshc.dev/inject: enabled, app.kubernetes.io/managed-by: meshc}}
`

// world is a release with a service, two deployments, one of them scaled, and a
// namespace that wants sidecars.
func world(t *testing.T) *admit.World { return worldWith(t, "p") }

// worldWith has this image in its gateway.
func worldWith(t *testing.T, image string) *admit.World {
	t.Helper()
	const at = "kubernetes/bookinfo/service-reviews.yaml"
	arts := []release.Artifact{}
	for p, text := range map[string]string{
		at: service,
		"kubernetes/bookinfo/deployment-edge.yaml":   strings.Replace(deployment, "%NAME%", "edge", 1),
		"kubernetes/bookinfo/deployment-scaled.yaml": strings.Replace(deployment, "%NAME%", "scaled", 1),
		"kubernetes/strict/deployment-edge.yaml":     strings.Replace(gateway, "%IMAGE%", image, 1),
		"kubernetes/bookinfo/hpa-scaled.yaml":        autoscaler,
		"kubernetes/cluster/namespace-strict.yaml":   strings.Replace(namespace, "%NAME%", "strict", 1),
		"kubernetes/bookinfo/httproute-own.yaml":     route,
		"kubernetes/kustomization.yaml":              "resources: []\n",
		release.InjectionPath:                        `{"image":"registry.example/meshc@sha256:00","server":"meshc.meshc-system.svc:18000"}`,
		"envoy/sidecar/bookinfo/reviews.json":        `{}`,
		"envoy/gateway/strict/edge.json":             `{}`,
		"envoy/sidecar/strict/program.json":          `{"proxyless":true}`,
	} {
		arts = append(arts, release.Artifact{Path: p, Bytes: []byte(text)})
	}
	r, err := release.Seal(arts, release.Inputs{Environment: "e"}, release.Provenance{at: {File: "bookinfo/reviews.cue", Line: 3}})
	if err != nil {
		t.Fatal(err)
	}
	w, err := admit.See("0123456789abcdef", r)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// object decodes as a review does.
func object(t *testing.T, text string) review.Object {
	t.Helper()
	body := `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1","operation":"CREATE","object":` + text + `}}`
	q, err := review.Read([]byte(body))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return q.New
}

// live is the service as an API server stores it, with some fields replaced.
func live(t *testing.T, spec, metadata string) review.Object {
	t.Helper()
	o := object(t, `{"apiVersion":"v1","kind":"Service","status":{"loadBalancer":{}},"metadata":{"name":"reviews","namespace":"bookinfo","uid":"x","resourceVersion":"9",
		"managedFields":[{"manager":"flux"}],"annotations":{"meshc.dev/owner":"bookinfo"},"labels":{"app.kubernetes.io/managed-by":"meshc","kustomize.toolkit.fluxcd.io/name":"mesh"}},
		"spec":{"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster","sessionAffinity":"None",
		"type":"ClusterIP","selector":{"app":"reviews"},"ports":[{"name":"http","port":9080,"protocol":"TCP","targetPort":9080}]}}`)
	for key, more := range map[string]string{"spec": spec, "metadata": metadata} {
		if more != "" {
			part, _ := o[key].(review.Object)
			maps.Copy(part, object(t, more))
		}
	}
	return o
}

func about(op review.Operation, resource, kind, name string, o, old review.Object) review.Review {
	q := review.Review{UID: "1", Operation: op, Version: "v1", Kind: kind, Resource: resource, Namespace: "bookinfo", Name: name, New: o, Old: old}
	if kind == "Deployment" {
		q.Group = "apps"
	}
	return q
}

func TestAnObjectMustBeWhatTheReleaseSays(t *testing.T) {
	w := world(t)
	for name, c := range map[string]struct {
		spec, metadata string
		want           string // in the problem, "" for none
	}{
		"as it was filled in":         {"", "", ""},
		"another's annotation":        {"", `{"annotations":{"meshc.dev/owner":"bookinfo","example.com/seen":"yes"}}`, ""},
		"a finalizer":                 {"", `{"finalizers":["service.kubernetes.io/load-balancer-cleanup"]}`, ""},
		"another port":                {`{"ports":[{"name":"http","port":9081,"protocol":"TCP"}]}`, "", "spec.ports[0].port is 9081, the release says 9080"},
		"one port more":               {`{"ports":[{"name":"http","port":9080},{"name":"x","port":1}]}`, "", "spec.ports is"},
		"another protocol":            {`{"ports":[{"name":"http","port":9080,"protocol":"UDP"}]}`, "", "spec.ports[0].protocol"},
		"another selector":            {`{"selector":{"app":"evil"}}`, "", "spec.selector.app"},
		"one more selector":           {`{"selector":{"app":"reviews","x":"y"}}`, "", "spec.selector.x"},
		"a field that nobody said":    {`{"externalIPs":["1.2.3.4"]}`, "", "spec.externalIPs"},
		"another type":                {`{"type":"NodePort"}`, "", "spec.type"},
		"a label removed":             {"", `{"labels":{}}`, "metadata.labels.app.kubernetes.io/managed-by is missing"},
		"a label more":                {"", `{"labels":{"app.kubernetes.io/managed-by":"meshc","istio.io/rev":"x"}}`, "metadata.labels.istio.io/rev"},
		"our annotation changed":      {"", `{"annotations":{"meshc.dev/owner":"mallory"}}`, "metadata.annotations.meshc.dev/owner"},
		"one of ours more":            {"", `{"annotations":{"meshc.dev/owner":"bookinfo","meshc.dev/exempt":"yes"}}`, "metadata.annotations.meshc.dev/exempt"},
		"somebody's property":         {"", `{"ownerReferences":[{"name":"x"}]}`, "metadata.ownerReferences"},
		"text with a line and escape": {`{"selector":{"app":"a\nb\u001b[2J"}}`, "", `\n`},
	} {
		o := live(t, c.spec, c.metadata)
		for op, old := range map[review.Operation]review.Object{review.Create: nil, review.Update: live(t, "", "")} {
			ds := w.Validate(about(op, "services", "Service", "reviews", o, old))
			switch {
			case c.want == "" && len(ds) > 0:
				t.Errorf("%s, %s: %v", name, op, ds)
			case c.want != "" && (len(ds) != 1 || ds[0].Code != diag.CodeDrift || !strings.Contains(ds[0].Text, c.want) || ds[0].Pos.File != "bookinfo/reviews.cue"):
				t.Errorf("%s, %s: %v, want %q", name, op, ds, c.want)
			}
		}
	}
}

func TestWhatIsKeptAndWhatIsNot(t *testing.T) {
	w := world(t)
	claimed := object(t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x","labels":{"app.kubernetes.io/managed-by":"meshc"}}}`)
	plain := object(t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"}}`)
	going := object(t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x","deletionTimestamp":"2026-01-01T00:00:00Z","labels":{"app.kubernetes.io/managed-by":"meshc"}}}`)
	scale := func(n string) review.Object { return object(t, `{"kind":"Scale","spec":{"replicas":`+n+`}}`) }
	scaled := func(n string) review.Object {
		return object(t, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"scaled","namespace":"bookinfo","annotations":{"meshc.dev/owner":"edge"},"labels":{"app.kubernetes.io/managed-by":"meshc"}},"spec":{"replicas":`+n+`}}`)
	}
	elsewhere := about(review.Delete, "namespaces", "Namespace", "other", nil, plain)
	own := about(review.Delete, "namespaces", "Namespace", "bookinfo", nil, plain)
	for name, c := range map[string]struct {
		q    review.Review
		want diag.Code
	}{
		"a stranger's object":             {about(review.Create, "services", "Service", "x", plain, nil), ""},
		"an object that says it is ours":  {about(review.Create, "services", "Service", "x", claimed, nil), diag.CodeUnapproved},
		"one without a name":              {about(review.Create, "services", "Service", "", claimed, nil), diag.CodeUnapproved},
		"one that said so":                {about(review.Update, "services", "Service", "x", plain, claimed), diag.CodeUnapproved},
		"one that vanishes":               {about(review.Update, "services", "Service", "x", going, going), ""},
		"one that is pruned":              {about(review.Delete, "services", "Service", "x", nil, claimed), ""},
		"one that is needed":              {about(review.Delete, "services", "Service", "reviews", nil, live(t, "", "")), diag.CodeStillNeeded},
		"its namespace":                   {own, diag.CodeStillNeeded},
		"another namespace":               {elsewhere, ""},
		"a namespace of the release":      {about(review.Delete, "namespaces", "Namespace", "strict", nil, plain), diag.CodeStillNeeded},
		"the number of replicas":          {withSub("scale", about(review.Update, "deployments", "Scale", "edge", scale("2"), scale("2"))), ""},
		"another number of replicas":      {withSub("scale", about(review.Update, "deployments", "Scale", "edge", scale("0"), scale("2"))), diag.CodeDrift},
		"what an autoscaler keeps":        {withSub("scale", about(review.Update, "deployments", "Scale", "scaled", scale("7"), scale("2"))), ""},
		"the most that it keeps":          {withSub("scale", about(review.Update, "deployments", "Scale", "scaled", scale("9"), scale("2"))), ""},
		"more than it keeps":              {withSub("scale", about(review.Update, "deployments", "Scale", "scaled", scale("10"), scale("2"))), diag.CodeDrift},
		"more, but as before":             {withSub("scale", about(review.Update, "deployments", "Scale", "scaled", scale("10"), scale("10"))), ""},
		"fewer than it keeps":             {withSub("scale", about(review.Update, "deployments", "Scale", "scaled", scale("2"), scale("7"))), diag.CodeDrift},
		"the number that is filled in":    {withSub("scale", about(review.Update, "deployments", "Scale", "scaled", scale("1"), scale("7"))), ""},
		"an autoscaler switched off":      {withSub("scale", about(review.Update, "deployments", "Scale", "scaled", scale("0"), scale("7"))), diag.CodeDrift},
		"switched off by hand":            {about(review.Update, "deployments", "Deployment", "scaled", scaled("0"), scaled("7")), diag.CodeDrift},
		"chosen by hand within it":        {about(review.Update, "deployments", "Deployment", "scaled", scaled("5"), scaled("7")), ""},
		"a stranger's number of replicas": {withSub("scale", about(review.Update, "deployments", "Scale", "other", scale("7"), scale("2"))), ""},
		"a status":                        {withSub("status", about(review.Update, "services", "Service", "reviews", plain, plain)), ""},
	} {
		ds := w.Validate(c.q)
		if c.want == "" && len(ds) > 0 || c.want != "" && (len(ds) != 1 || ds[0].Code != c.want || ds[0].Fix == "") {
			t.Errorf("%s: %v, want %q", name, ds, c.want)
		}
	}
}

func TestRootsAreTheServersOwn(t *testing.T) {
	w := world(t)
	for group, want := range map[string]int{
		"system:serviceaccounts:meshc-system": 0, "system:masters": 0,
		"system:serviceaccounts:bookinfo": 1, "system:serviceaccounts": 1, "system:authenticated": 1,
	} {
		for op, o := range map[review.Operation]review.Object{review.Create: {}, review.Update: {}, review.Delete: nil} {
			q := about(op, "configmaps", "ConfigMap", "meshc-roots", o, review.Object{})
			q.Groups = []string{group}
			if ds := w.Validate(q); len(ds) != want || want > 0 && ds[0].Code != diag.CodeRoots {
				t.Errorf("%s by %s: %v", op, group, ds)
			}
		}
	}
}

func withSub(sub string, q review.Review) review.Review {
	q.SubResource = sub
	return q
}

// pod is one as an API server shows it to a webhook.
func pod(t *testing.T, spec string) review.Object {
	t.Helper()
	o := object(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"bookinfo"},"spec":{"serviceAccountName":"reviews","containers":[{"name":"app","image":"a"}],"volumes":[{"name":"kube-api-access"}]}}`)
	part, _ := o["spec"].(review.Object)
	if spec != "" {
		maps.Copy(part, object(t, spec))
	}
	return o
}

// apply puts additions into a pod, as an API server would.
func apply(t *testing.T, o review.Object, patch []inject.Operation) review.Object {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	out := object(t, string(raw))
	spec, _ := out["spec"].(review.Object)
	for _, op := range patch {
		parts := strings.Split(op.Path, "/")
		value, err := json.Marshal(op.Value)
		if err != nil || op.Op != "add" || parts[1] != "spec" {
			t.Fatalf("%+v, %v", op, err)
		}
		item := object(t, `{"v":`+string(value)+`}`)["v"]
		if len(parts) == 3 {
			spec[parts[2]] = item
			continue
		}
		list, _ := spec[parts[2]].([]any)
		at, err := strconv.Atoi(parts[3])
		if err != nil {
			t.Fatal(err)
		}
		spec[parts[2]] = slices.Insert(list, at, item)
	}
	return out
}

func TestAPodGetsItsSidecarOnce(t *testing.T) {
	w := world(t)
	for name, spec := range map[string]string{
		"plain":                "",
		"with init containers": `{"initContainers":[{"name":"own"}]}`,
		"without volumes":      `{"volumes":[]}`,
	} {
		before := pod(t, spec)
		patch, ds := w.Mutate(about(review.Create, "pods", "Pod", "web", before, nil))
		if len(ds) > 0 || len(patch) == 0 {
			t.Fatalf("%s: %v, %v", name, patch, ds)
		}
		after := apply(t, before, patch)
		if again, ds := w.Mutate(about(review.Create, "pods", "Pod", "web", after, nil)); len(again)+len(ds) > 0 {
			t.Errorf("%s: a second time gives %v, %v", name, again, ds)
		}
		if ds := w.Validate(about(review.Create, "pods", "Pod", "web", after, nil)); len(ds) > 0 {
			t.Errorf("%s: its own sidecar is refused: %v", name, ds)
		}
	}
}

func TestASidecarIsTheReleases(t *testing.T) {
	w := world(t)
	plain := pod(t, "")
	patch, _ := w.Mutate(about(review.Create, "pods", "Pod", "web", plain, nil))
	whole := apply(t, plain, patch)
	change := func(edit func(spec review.Object, inits []any)) review.Object {
		o := apply(t, plain, patch)
		spec, _ := o["spec"].(review.Object)
		inits, _ := spec["initContainers"].([]any)
		edit(spec, inits)
		return o
	}
	field := func(i int, key string, v any) review.Object {
		return change(func(_ review.Object, inits []any) {
			c, _ := inits[i].(review.Object)
			c[key] = v
		})
	}
	for name, bad := range map[string]review.Object{
		"another image":        field(1, "image", "evil"),
		"another command":      field(0, "command", []any{"true"}),
		"one more variable":    field(1, "env", []any{review.Object{"name": "LD_PRELOAD", "value": "x"}}),
		"one more power":       field(1, "securityContext", review.Object{"privileged": true}),
		"no longer a sidecar":  field(1, "restartPolicy", nil),
		"a hook of somebody's": field(1, "lifecycle", review.Object{"preStop": review.Object{}}),
		"something comes first": change(func(spec review.Object, inits []any) {
			spec["initContainers"] = slices.Insert(inits, 0, any(review.Object{"name": "first"}))
		}),
		"the proxy without rules": change(func(spec review.Object, inits []any) { spec["initContainers"] = inits[1:] }),
		"a second proxy":          change(func(spec review.Object, _ []any) { spec["containers"] = []any{review.Object{"name": "meshc-proxy"}} }),
		"the identity is shared": change(func(spec review.Object, _ []any) {
			spec["containers"] = []any{review.Object{"name": "a", "volumeMounts": []any{review.Object{"name": "meshc-identity"}}}}
		}),
		"another identity": change(func(spec review.Object, _ []any) {
			spec["volumes"] = []any{review.Object{"name": "meshc-identity", "emptyDir": review.Object{}}}
		}),
		"an app as the proxy": change(func(spec review.Object, _ []any) {
			spec["containers"] = []any{review.Object{"name": "a", "securityContext": review.Object{"runAsGroup": int64(1337)}}}
		}),
		"a pod as the proxy":        change(func(spec review.Object, _ []any) { spec["securityContext"] = review.Object{"runAsUser": int64(1337)} }),
		"on the network of a node":  change(func(spec review.Object, _ []any) { spec["hostNetwork"] = true }),
		"named like it, on its own": pod(t, `{"containers":[{"name":"meshc-proxy","image":"evil"}]}`),
	} {
		if ds := w.Validate(about(review.Create, "pods", "Pod", "web", bad, nil)); len(ds) != 1 || ds[0].Code != diag.CodeSidecar {
			t.Errorf("%s: %v", name, ds)
		}
		if name == "something comes first" {
			continue // no API server adds init containers to a living pod
		}
		if ds := w.Validate(about(review.Update, "pods", "Pod", "web", bad, whole)); len(ds) != 1 || ds[0].Code != diag.CodeSidecar {
			t.Errorf("%s, later: %v", name, ds)
		}
	}
	for name, q := range map[string]review.Review{
		"no change": about(review.Update, "pods", "Pod", "web", whole, whole),
		"an app's image": about(review.Update, "pods", "Pod", "web", change(func(spec review.Object, _ []any) {
			spec["containers"] = []any{review.Object{"name": "app", "image": "b"}}
		}), whole),
		"its status":            withSub("status", about(review.Update, "pods", "Pod", "web", whole, plain)),
		"its end":               about(review.Delete, "pods", "Pod", "web", nil, whole),
		"a pod that wants none": about(review.Create, "pods", "Pod", "web", plain, nil),
	} {
		if ds := w.Validate(q); len(ds) > 0 {
			t.Errorf("%s: %v", name, ds)
		}
	}
	debug := change(func(spec review.Object, _ []any) {
		spec["ephemeralContainers"] = []any{review.Object{"name": "debug", "securityContext": review.Object{"runAsUser": int64(1337)}}}
	})
	if ds := w.Validate(withSub("ephemeralcontainers", about(review.Update, "pods", "Pod", "web", debug, whole))); len(ds) != 1 {
		t.Errorf("a debug container as the proxy: %v", ds)
	}
}

// Where the release wants sidecars, a pod's own label does not spare it.
func TestANamespaceThatWantsSidecarsTakesNoOtherPod(t *testing.T) {
	w := world(t)
	q := about(review.Create, "pods", "Pod", "", pod(t, ""), nil)
	q.New["metadata"] = review.Object{"generateName": "web-", "labels": review.Object{"meshc.dev/inject": "disabled"}}
	if patch, ds := w.Mutate(q); len(patch)+len(ds) > 0 {
		t.Errorf("a pod that wants no sidecar: %v, %v", patch, ds)
	}
	q.Namespace = "strict"
	if ds := w.Validate(q); len(ds) != 1 || ds[0].Code != diag.CodeSidecar || !strings.Contains(ds[0].Text, `"web-…"`) {
		t.Errorf("it is let in: %v", ds)
	}
}

// A gRPC program without a proxy gets no sidecar, wherever it runs; one that has a sidecar is not let in, for it would get nothing.
func TestAProgramHasNoSidecar(t *testing.T) {
	w := world(t)
	q := about(review.Create, "pods", "Pod", "", pod(t, ""), nil)
	q.Namespace = "strict"
	sidecar, _ := w.Mutate(about(review.Create, "pods", "Pod", "", pod(t, ""), nil))
	with := about(review.Create, "pods", "Pod", "", apply(t, pod(t, ""), sidecar), nil)
	with.Namespace = "strict"
	for account, program := range map[string]bool{"program": true, "other": false} {
		for _, r := range []review.Review{q, with} {
			spec, _ := r.New["spec"].(review.Object)
			spec["serviceAccountName"] = account
		}
		if patch, ds := w.Mutate(q); len(ds) > 0 || len(patch) > 0 == program {
			t.Errorf("%s gets %v, %v", account, patch, ds)
		}
		if ds := w.Validate(q); len(ds) == 0 != program {
			t.Errorf("%s without a sidecar: %v", account, ds)
		}
		if ds := w.Validate(with); len(ds) == 0 == program {
			t.Errorf("%s with a sidecar: %v", account, ds)
		}
	}
}

// edge is a pod of the gateway's account as its Deployment makes one, with some fields of
// its spec replaced.
func edge(t *testing.T, spec string) review.Review {
	t.Helper()
	o := object(t, `{"apiVersion":"v1","kind":"Pod","status":{"phase":"Pending"},"metadata":{"generateName":"edge-5b-","namespace":"strict","uid":"x","labels":{"app":"edge","meshc.dev/inject":"disabled",
		"pod-template-hash":"5b"},"ownerReferences":[{"kind":"ReplicaSet","name":"edge-5b"}],"annotations":{"kubernetes.io/limit-ranger":"LimitRanger plugin set: cpu limit"}},
		"spec":{"serviceAccountName":"edge","serviceAccount":"edge","dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"enableServiceLinks":true,
		"priority":7,"priorityClassName":"everybody","preemptionPolicy":"Never","imagePullSecrets":[{"name":"registry"}],"readinessGates":[{"conditionType":"target-health.example/tg"}],
		"tolerations":[{"key":"edge","operator":"Exists"},{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],"volumes":[{"name":"meshc-identity"}],
		"containers":[{"name":"meshc-proxy","image":"p","imagePullPolicy":"IfNotPresent","resources":{"limits":{"cpu":"1"},"requests":{"cpu":"1"}},"securityContext":{"runAsUser":1337},
		"volumeMounts":[{"name":"meshc-identity"}]}]}}`)
	part, _ := o["spec"].(review.Object)
	if spec != "" {
		maps.Copy(part, object(t, spec))
	}
	q := about(review.Create, "pods", "Pod", "edge-1", o, nil)
	q.Namespace = "strict"
	return q
}

// Who runs as a gateway's account is a gateway: it is what its Deployment makes, in
// everything, and gets no sidecar, whatever its labels.
func TestAGatewaysPodsAreItsDeployments(t *testing.T) {
	w := world(t)
	const proxy = `{"name":"meshc-proxy","image":"p","securityContext":{"runAsUser":1337},"volumeMounts":[{"name":"meshc-identity"}]`
	if patch, ds := w.Mutate(edge(t, "")); len(patch)+len(ds) > 0 {
		t.Errorf("it gets a sidecar: %v, %v", patch, ds)
	}
	if ds := w.Validate(edge(t, "")); len(ds) > 0 {
		t.Errorf("its own pod is refused: %v", ds)
	}
	for name, spec := range map[string]string{
		"another image":               `{"containers":[` + strings.Replace(proxy, `"p"`, `"evil"`, 1) + `}]}`,
		"another command":             `{"containers":[` + proxy + `,"command":["sh"]}]}`,
		"another variable":            `{"containers":[` + proxy + `,"env":[{"name":"LD_PRELOAD","value":"x"}]}]}`,
		"a hook":                      `{"containers":[` + proxy + `,"lifecycle":{"postStart":{"exec":{"command":["sh"]}}}}]}`,
		"a mount":                     `{"containers":[{"name":"meshc-proxy","image":"p","securityContext":{"runAsUser":1337},"volumeMounts":[{"name":"meshc-identity"},{"name":"x","mountPath":"/"}]}]}`,
		"more power":                  `{"containers":[{"name":"meshc-proxy","image":"p","securityContext":{"runAsUser":1337,"privileged":true},"volumeMounts":[{"name":"meshc-identity"}]}]}`,
		"a container more":            `{"containers":[` + proxy + `},{"name":"b","image":"x"}]}`,
		"no proxy":                    `{"containers":[{"name":"app","image":"x"}]}`,
		"something before":            `{"initContainers":[{"name":"b","image":"x"}]}`,
		"something beside":            `{"ephemeralContainers":[{"name":"b","image":"x"}]}`,
		"another volume":              `{"volumes":[{"name":"meshc-identity","hostPath":{"path":"/"}}]}`,
		"a volume more":               `{"volumes":[{"name":"meshc-identity"},{"name":"x","emptyDir":{}}]}`,
		"the host's network":          `{"hostNetwork":true}`,
		"the host's processes":        `{"hostPID":true}`,
		"one process space":           `{"shareProcessNamespace":true}`,
		"another user":                `{"securityContext":{"runAsUser":0}}`,
		"a sysctl":                    `{"securityContext":{"sysctls":[{"name":"net.ipv4.ip_forward","value":"1"}]}}`,
		"a chosen node":               `{"nodeName":"mine"}`,
		"chosen nodes":                `{"nodeSelector":{"mine":"yes"}}`,
		"another scheduler":           `{"schedulerName":"mine"}`,
		"other names":                 `{"hostAliases":[{"ip":"1.2.3.4","hostnames":["meshc.meshc-system.svc"]}]}`,
		"another name server":         `{"dnsPolicy":"None","dnsConfig":{"nameservers":["1.2.3.4"]}}`,
		"a token":                     `{"automountServiceAccountToken":true}`,
		"it tolerates more":           `{"tolerations":[{"key":"edge","operator":"Exists"},{"key":"mine","operator":"Exists"}]}`,
		"a container that sees a key": `{"containers":[` + proxy + `},{"name":"b","volumeMounts":[{"name":"meshc-identity"}]}]}`,
	} {
		if ds := w.Validate(edge(t, spec)); len(ds) != 1 || ds[0].Code != diag.CodeSidecar || ds[0].Fix == "" {
			t.Errorf("%s: %v", name, ds)
		}
	}
	for name, change := range map[string]func(metadata review.Object){
		"a label more":       func(m review.Object) { m["labels"].(review.Object)["team"] = "x" },
		"a label less":       func(m review.Object) { delete(m["labels"].(review.Object), "app") },
		"a second network":   func(m review.Object) { m["annotations"].(review.Object)["k8s.v1.cni.cncf.io/networks"] = "x" },
		"a word of our own":  func(m review.Object) { m["annotations"].(review.Object)["meshc.dev/x"] = "y" },
		"another app's name": func(m review.Object) { m["labels"].(review.Object)["app"] = "web" },
	} {
		q := edge(t, "")
		change(q.New["metadata"].(review.Object))
		if ds := w.Validate(q); len(ds) != 1 || ds[0].Code != diag.CodeSidecar {
			t.Errorf("%s: %v", name, ds)
		}
	}
	other := edge(t, `{"serviceAccountName":"web"}`)
	elsewhere := edge(t, "")
	elsewhere.Namespace = "bookinfo"
	for name, q := range map[string]review.Review{"the same as another account": other, "the same elsewhere": elsewhere} {
		if ds := w.Validate(q); len(ds) != 1 || ds[0].Code != diag.CodeSidecar {
			t.Errorf("%s: %v", name, ds)
		}
	}
}

func TestALivingGatewayStaysWhatItIs(t *testing.T) {
	w := world(t)
	later := func(spec, sub string, change func(metadata review.Object)) review.Review {
		q := edge(t, spec)
		if change != nil {
			change(q.New["metadata"].(review.Object))
		}
		q.Operation, q.SubResource, q.Old = review.Update, sub, edge(t, "").New
		return q
	}
	label := func(name string, value any) func(review.Object) {
		return func(m review.Object) { m["labels"].(review.Object)[name] = value }
	}
	for name, c := range map[string]struct {
		q  review.Review
		ok bool
	}{
		"nothing":                   {later("", "", nil), true},
		"somebody's label":          {later("", "", label("team", "x")), true},
		"where it is":               {later(`{"nodeName":"n"}`, "", label("topology.kubernetes.io/zone", "a")), true},
		"the label that it has":     {later("", "", label("app", "web")), false},
		"its image":                 {later(`{"containers":[{"name":"meshc-proxy","image":"evil","securityContext":{"runAsUser":1337}}]}`, "", nil), false},
		"a debug container":         {later(`{"ephemeralContainers":[{"name":"debug","image":"x"}]}`, "ephemeralcontainers", nil), true},
		"a debug container as it":   {later(`{"ephemeralContainers":[{"name":"debug","securityContext":{"runAsUser":1337}}]}`, "ephemeralcontainers", nil), false},
		"one that sees its key too": {later(`{"ephemeralContainers":[{"name":"debug","volumeMounts":[{"name":"meshc-identity"}]}]}`, "ephemeralcontainers", nil), false},
	} {
		if ds := w.Validate(c.q); (len(ds) == 0) != c.ok || !c.ok && ds[0].Code != diag.CodeSidecar {
			t.Errorf("%s: %v", name, ds)
		}
	}
}

// Until somebody has applied what was approved, pods that end are replaced by their like;
// what was approved before that counts no more.
func TestAGatewaysPodsOfTheReleaseBefore(t *testing.T) {
	first, second, again, third := worldWith(t, "p"), worldWith(t, "q"), worldWith(t, "q"), worldWith(t, "r")
	second.After(first)
	again.After(second)
	third.After(again)
	for name, c := range map[string]struct {
		w    *admit.World
		want int
	}{"the release before": {second, 0}, "the same approved again": {again, 0}, "the one before that": {third, 1}} {
		if ds := c.w.Validate(edge(t, "")); len(ds) != c.want {
			t.Errorf("%s: %v", name, ds)
		}
	}
}

// Of a kind that a repository brings by itself, what the release says must be there; its
// definition fills in the rest.
func TestKindsOfOthers(t *testing.T) {
	w := world(t)
	const head = `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"own","namespace":"bookinfo","labels":{"app.kubernetes.io/managed-by":"meshc"%s}},"spec":`
	for name, c := range map[string]struct {
		label, spec string
		ok          bool
	}{
		"filled in":         {"", `{"hostnames":["a.example"],"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/"}}],"backendRefs":[{"name":"reviews","port":9080,"weight":1}]}]}`, true},
		"another host":      {"", `{"hostnames":["b.example"],"rules":[{"backendRefs":[{"name":"reviews","port":9080}]}]}`, false},
		"one host more":     {"", `{"hostnames":["a.example","b.example"],"rules":[{"backendRefs":[{"name":"reviews","port":9080}]}]}`, false},
		"another backend":   {"", `{"hostnames":["a.example"],"rules":[{"backendRefs":[{"name":"evil","port":9080}]}]}`, false},
		"a label of others": {`,"x":"y"`, `{"hostnames":["a.example"],"rules":[{"backendRefs":[{"name":"reviews","port":9080}]}]}`, false},
	} {
		q := about(review.Create, "httproutes", "HTTPRoute", "own", object(t, strings.Replace(head, "%s", c.label, 1)+c.spec+"}"), nil)
		q.Group = "gateway.networking.k8s.io"
		if ds := w.Validate(q); (len(ds) == 0) != c.ok {
			t.Errorf("%s: %v", name, ds)
		}
	}
	unknown := about(review.Create, "httproutes", "HTTPRoute", "other", object(t, strings.Replace(head, "%s", "", 1)+"{}}"), nil)
	unknown.Group = "gateway.networking.k8s.io"
	if ds := w.Validate(unknown); len(ds) != 1 || ds[0].Code != diag.CodeUnapproved {
		t.Errorf("a claim: %v", ds)
	}
	// A Service's labels are on the slices that a controller makes of it.
	slice := about(review.Create, "endpointslices", "EndpointSlice", "reviews-x", unknown.New, nil)
	if ds := w.Validate(slice); len(ds) > 0 {
		t.Errorf("a slice: %v", ds)
	}
}

func TestTheNamespacesOfARelease(t *testing.T) {
	if got := world(t).Namespaces(); !slices.Equal(got, []string{"bookinfo", "strict"}) {
		t.Errorf("namespaces %v", got)
	}
}
