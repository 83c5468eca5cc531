package webhook

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/policies"
)

const shop = `package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: {namespace: "shop", environment: prod: {}}
mesh: targets: kubernetes: injection: {
	image:  "registry.example/meshc-proxy@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	server: "meshc.meshc-system.svc:18000"
}
mesh: service: web: {port: http: number: 9080, calls: cart: {}, grant: visitors: from: ["gateway/edge", "gateway/busy"]}
mesh: gateway: edge: {port: http: number: 80, host: "shop.example": route: all: to: web: 100}
mesh: gateway: busy: {port: http: number: 8080, autoscale: {min: 2, max: 4, cpu: 70}, host: "busy.example": route: all: to: web: 100}
mesh: gateway: scaled: {port: http: number: 8080, host: "more.example": route: all: to: web: 100}
mesh: certificate: shown: secret: "shown-tls"
mesh: gateway: shown: {port: https: {number: 8443, protocol: "https"}, host: "shown.example": {tls: certificates: ["shown"], route: all: to: web: 100}}
mesh: service: cart: {port: http: number: 9080, grant: web: from: ["web"]}
`

// patches make one gateway reachable from outside, and leave how many pods the other has
// to an autoscaler, and what its environment is to a ConfigMap.
const patches = `apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
resources: [autoscaler.yaml]
patches:
- target: {kind: Service, name: edge, namespace: shop}
  patch: '[{"op": "replace", "path": "/spec/type", "value": "LoadBalancer"}]'
- target: {kind: Deployment, name: scaled, namespace: shop}
  patch: '[{"op": "remove", "path": "/spec/replicas"}, {"op": "add", "path": "/spec/template/spec/containers/0/envFrom", "value": [{"configMapRef": {"name": "tuning", "optional": true}}]}]'
`

const autoscaler = `apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: scaled, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: scaled}
  minReplicas: 2
  maxReplicas: 9
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}]
`

func compiled(t *testing.T) release.Release {
	t.Helper()
	return compiledOf(t, shop)
}

func compiledOf(t *testing.T, intent string) release.Release {
	t.Helper()
	p, ds := compiler.Load(fstest.MapFS{
		"shop.cue": {Data: []byte(intent)}, "kustomize/kustomization.yaml": {Data: []byte(patches)}, "kustomize/autoscaler.yaml": {Data: []byte(autoscaler)},
	}, compiler.Options{At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)})
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	r, ds := p.Release()
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	return r
}

// objects are the texts of a release's objects.
func objects(r release.Release) []string {
	var out []string
	for _, p := range r.Paths() {
		if strings.HasPrefix(p, "kubernetes/") && strings.HasSuffix(p, ".yaml") && p != "kubernetes/kustomization.yaml" {
			raw, _ := r.Artifact(p)
			out = append(out, string(raw))
		}
	}
	return out
}

// guarded is a cluster whose API server asks a webhook, over a relay that can fail.
type guarded struct {
	*kubetest.Cluster
	release release.Release
	log     *lines
	server  *Server
	relay   *relay
}

// nobody is a user without any right.
const nobody = "nobody"

// lines is a log that several write.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func guardedCluster(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{Cluster: kubetest.ForTest(t, kubetest.Options{Users: []kubetest.User{{Name: nobody}}}), release: compiled(t), log: &lines{}}
	certs, err := OpenCertificates(t.Context(), kept.File(filepath.Join(t.TempDir(), "roots.json")), []string{"127.0.0.1"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(g.log, nil))
	authorities := filepath.Join(t.TempDir(), "api-server.pem")
	if err := os.WriteFile(authorities, g.WebhookClientCA, 0o600); err != nil {
		t.Fatal(err)
	}
	callers, err := OpenCallers(authorities, kubetest.WebhookClientName, log)
	if err != nil {
		t.Fatal(err)
	}
	g.server, err = New(Config{Listen: "127.0.0.1:0", TLS: callers.Demand(certs.TLS()), Baseline: policies.FS, Log: log, Now: time.Now, Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	g.publish(t)
	g.relay = newRelay(t, g.server.Addr().String())
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := g.server.Run(ctx); err != nil {
			t.Errorf("the webhook ended with %v", err)
		}
	})
	wait.Go(func() {
		_ = g.server.Keep(ctx, Cluster{Client: g.Client, Watcher: g.Client, URL: "https://" + g.relay.Addr().String()}, certs) // it ends with ctx
	})
	t.Cleanup(func() { stop(); wait.Wait() })
	g.until(t, "the webhook is asked", func() bool {
		_, err := g.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), InjectName, metav1.GetOptions{})
		return err == nil
	})
	if err := g.Apply(t.Context(), objects(g.release)...); err != nil {
		t.Fatalf("the release is refused: %v", err)
	}
	// An API server takes a moment to follow a new configuration.
	g.until(t, "an edit is refused", func() bool { return g.patch(t, "services", "cart", `{"spec":{"type":"NodePort"}}`, true) != nil })
	return g
}

// newServer is one that answers nobody.
func newServer(t *testing.T, log *lines) *Server {
	t.Helper()
	certs, err := OpenCertificates(t.Context(), kept.File(filepath.Join(t.TempDir(), "roots.json")), []string{"127.0.0.1"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Listen: "127.0.0.1:0", TLS: certs.TLS(), Baseline: policies.FS, Log: slog.New(slog.NewTextHandler(log, nil)), Now: time.Now, Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.listener.Close() })
	return s
}

// publish makes the release, with policies of its own, what is judged by.
func (g *guarded) publish(t *testing.T, own ...string) {
	t.Helper()
	if err := g.take(t, own...); err != nil {
		t.Fatal(err)
	}
}

func (g *guarded) take(t *testing.T, own ...string) error {
	t.Helper()
	var arts []release.Artifact
	for _, p := range g.release.Paths() {
		raw, _ := g.release.Artifact(p)
		arts = append(arts, release.Artifact{Path: p, Bytes: raw})
	}
	for i, text := range own {
		arts = append(arts, release.Artifact{Path: fmt.Sprintf("%sown%d.rego", release.PoliciesFolder, i), Bytes: []byte(text)})
	}
	made, err := release.Seal(arts, release.Inputs{Environment: "prod"}, g.release.Provenance())
	if err != nil {
		t.Fatal(err)
	}
	return g.server.take(t.Context(), "0123456789abcdef", mark{}, []release.Step{{Release: made}})
}

func (g *guarded) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to pass that %s\n%s", what, g.log)
		}
	}
}

// patch edits an object of the namespace shop by hand.
func (g *guarded) patch(t *testing.T, resource, name, change string, dry bool) error {
	t.Helper()
	o := metav1.PatchOptions{}
	if dry {
		o.DryRun = []string{metav1.DryRunAll}
	}
	return g.Client.CoreV1().RESTClient().Patch(types.StrategicMergePatchType).Namespace("shop").Resource(resource).Name(name).
		VersionedParams(&o, metav1.ParameterCodec).Body([]byte(change)).Do(t.Context()).Error()
}

func refused(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

func podText(name, more string) string {
	return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"` + name + `","namespace":"shop"},"spec":{"nodeName":"n","serviceAccountName":"web",
		"containers":[{"name":"app","image":"a","ports":[{"name":"http","containerPort":9080}],"readinessProbe":{"httpGet":{"path":"/healthz","port":"http"}}}]` + more + `}}`
}

func TestARealClusterIsGuarded(t *testing.T) {
	g := guardedCluster(t)
	ctx := t.Context()

	t.Run("hand edits", func(t *testing.T) {
		refused(t, "a port", g.patch(t, "services", "cart", `{"spec":{"ports":[{"name":"http","port":9080,"targetPort":9999}]}}`, false),
			"MESH0701 Service/shop/cart is not what the approved release says: spec.ports[0].targetPort is 9999")
		refused(t, "a label", g.patch(t, "services", "cart", `{"metadata":{"labels":{"app.kubernetes.io/managed-by":null}}}`, false), "MESH0701")
		refused(t, "a namespace's label", g.Client.CoreV1().RESTClient().Patch(types.MergePatchType).Resource("namespaces").Name("shop").
			Body([]byte(`{"metadata":{"labels":{"meshc.dev/inject":"disabled"}}}`)).Do(ctx).Error(), "MESH0701 Namespace/shop")
		refused(t, "a dry run", g.patch(t, "services", "cart", `{"spec":{"externalIPs":["1.2.3.4"]}}`, true), "spec.externalIPs")
		refused(t, "a deletion", g.Client.CoreV1().Services("shop").Delete(ctx, "cart", metav1.DeleteOptions{}), "MESH0703")
		refused(t, "all of a kind", g.Client.CoreV1().RESTClient().Delete().Namespace("shop").Resource("serviceaccounts").Name("cart").Do(ctx).Error(), "MESH0703")
		refused(t, "the namespace", g.Client.CoreV1().Namespaces().Delete(ctx, "shop", metav1.DeleteOptions{}), "MESH0703")
		if err := g.patch(t, "services", "cart", `{"metadata":{"annotations":{"example.com/seen":"yes"}}}`, false); err != nil {
			t.Errorf("a foreign annotation: %v", err)
		}
	})

	t.Run("the release again", func(t *testing.T) {
		if err := g.Apply(ctx, objects(g.release)...); err != nil {
			t.Error(err)
		}
	})

	t.Run("what only says that it is ours", func(t *testing.T) {
		const claim = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","namespace":"%","labels":{"app.kubernetes.io/managed-by":"meshc"}}}`
		refused(t, "in the mesh", g.Apply(ctx, strings.Replace(claim, "%", "shop", 1)), "MESH0702")
		refused(t, "elsewhere", g.Apply(ctx, strings.Replace(claim, "%", "default", 1)), "MESH0702")
	})

	t.Run("pods", func(t *testing.T) {
		if err := g.Apply(ctx, podText("web-1", "")); err != nil {
			t.Fatal(err)
		}
		p, err := g.Client.CoreV1().Pods("shop").Get(ctx, "web-1", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		checkSidecar(t, p)
		refused(t, "on the node's network", g.Apply(ctx, podText("web-2", `,"hostNetwork":true`)), "MESH0704")
		refused(t, "one that wants none", g.Apply(ctx, strings.Replace(podText("web-3", ""), `"namespace"`, `"labels":{"meshc.dev/inject":"disabled"},"namespace"`, 1)), "no sidecar")
		refused(t, "a rule", g.Apply(ctx, podText("web-4", `,"initContainers":[{"name":"i","image":"a","securityContext":{"capabilities":{"add":["NET_ADMIN"]}}}]`)), "MESH0401 [pod-net-admin]")
		refused(t, "another image of the proxy", g.patch(t, "pods", "web-1", `{"spec":{"initContainers":[{"name":"meshc-proxy","image":"evil"}]}}`, false), "MESH0704")
		if err := g.patch(t, "pods", "web-1", `{"metadata":{"labels":{"a":"b"}}}`, false); err != nil {
			t.Errorf("a label: %v", err)
		}
		if p, err = g.Client.CoreV1().Pods("shop").Get(ctx, "web-1", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		_, err = g.Client.CoreV1().Pods("shop").UpdateEphemeralContainers(ctx, "web-1", withDebug(p), metav1.UpdateOptions{})
		refused(t, "a debug container as the proxy", err, "1337")
	})

	t.Run("gateways", func(t *testing.T) {
		checkGateway(t, g)
		checkGatewayPods(t, g)
		checkRestart(t, g)
	})

	t.Run("rules", func(t *testing.T) { checkRules(t, g) })

	t.Run("configurations", func(t *testing.T) {
		api := g.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
		if err := api.Delete(ctx, GuardName, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		g.until(t, "a deleted configuration is back", func() bool {
			_, err := api.Get(ctx, GuardName, metav1.GetOptions{})
			return err == nil
		})
		have, err := api.Get(ctx, GuardName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		have.Webhooks = have.Webhooks[:1]
		if _, err := api.Update(ctx, have, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		g.until(t, "an edited configuration is whole again", func() bool {
			have, err := api.Get(ctx, GuardName, metav1.GetOptions{})
			return err == nil && len(have.Webhooks) > 1
		})
		// Told after it is written, so that the log may come last.
		alarms := func() int { return strings.Count(g.log.String(), "msg=\"put back\"") }
		g.until(t, "the alarm is raised for both", func() bool { return alarms() >= 2 })
		if n := alarms(); n != 2 {
			t.Errorf("the alarm was raised %d times:\n%s", n, g.log)
		}
	})
}

// checkGateway: the pods of the release's Deployment come up in a namespace that wants
// sidecars, without one; how many they are, the release says.
func checkGateway(t *testing.T, g *guarded) {
	t.Helper()
	ctx, deployments := t.Context(), g.Client.AppsV1().Deployments("shop")
	var pods []core.Pod
	g.until(t, "the gateway has its pods", func() bool {
		list, err := g.Client.CoreV1().Pods("shop").List(ctx, metav1.ListOptions{LabelSelector: "app=edge"})
		if err != nil {
			return false
		}
		pods = list.Items
		return len(pods) == 2
	})
	for _, p := range pods {
		if len(p.Spec.InitContainers) != 0 || len(p.Spec.Containers) != 1 || p.Spec.Containers[0].Name != "meshc-proxy" || p.Spec.ServiceAccountName != "edge" {
			t.Errorf("a pod of the gateway: %+v", p.Spec)
		}
		for _, m := range p.Spec.Containers[0].VolumeMounts {
			if strings.HasPrefix(m.Name, "kube-api-access") {
				t.Error("the gateway has the API server's token")
			}
		}
	}
	if err := g.patch(t, "pods", pods[0].Name, `{"metadata":{"labels":{"a":"b"}}}`, false); err != nil {
		t.Errorf("a label: %v", err)
	}
	refused(t, "another image", g.patch(t, "pods", pods[0].Name, `{"spec":{"containers":[{"name":"meshc-proxy","image":"evil"}]}}`, false), "MESH0704")
	scaled := func(name string, to int32) error {
		return retry.RetryOnConflict(retry.DefaultBackoff, func() error { // its controller writes as well
			scale, err := deployments.GetScale(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			scale.Spec.Replicas = to
			_, err = deployments.UpdateScale(ctx, name, scale, metav1.UpdateOptions{})
			return err
		})
	}
	refused(t, "another number of pods", scaled("edge", 3), "MESH0701 Deployment/shop/edge has 2 replicas in the approved release, not 3")
	refused(t, "none at all", scaled("edge", 0), "has 2 replicas in the approved release, not 0")
	if err := scaled("scaled", 3); err != nil {
		t.Errorf("another number of pods beside an autoscaler: %v", err)
	}
	if err := scaled("busy", 3); err != nil {
		t.Errorf("what an autoscaler of the intent would do: %v", err)
	}
	refused(t, "an autoscaler switched off by the scale", scaled("busy", 0), "MESH0701 Deployment/shop/busy has 2 to 4 replicas in the approved release, as its autoscaler chooses, not 0")
	edit := func(change string) error {
		_, err := deployments.Patch(ctx, "busy", types.MergePatchType, []byte(change), metav1.PatchOptions{})
		return err
	}
	refused(t, "an autoscaler switched off", edit(`{"spec":{"replicas":0}}`), "MESH0701 Deployment/shop/busy has 2 to 4 replicas in the approved release, as its autoscaler chooses, not 0")
	refused(t, "more than it may choose", edit(`{"spec":{"replicas":5}}`), "not 5")
	_, err := g.Client.AutoscalingV2().HorizontalPodAutoscalers("shop").Patch(ctx, "busy", types.MergePatchType, []byte(`{"spec":{"maxReplicas":9}}`), metav1.PatchOptions{})
	refused(t, "another most", err, "MESH0701 HorizontalPodAutoscaler/shop/busy is not what the approved release says: spec.maxReplicas is 9")
	_, err = deployments.Patch(ctx, "edge", types.StrategicMergePatchType, []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"meshc-proxy","image":"evil"}]}}}}`), metav1.PatchOptions{})
	refused(t, "another image of all", err, "spec.template.spec.containers[0].image")
	refused(t, "its budget", g.Client.PolicyV1().PodDisruptionBudgets("shop").Delete(ctx, "edge", metav1.DeleteOptions{}), "MESH0703")
	for _, p := range pods { // its successor comes, also while the guard is there
		if err := g.Client.CoreV1().Pods("shop").Delete(ctx, p.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("a pod that is moved: %v", err)
		}
	}
}

func checkSidecar(t *testing.T, p *core.Pod) {
	t.Helper()
	var names []string
	for _, c := range p.Spec.InitContainers {
		names = append(names, c.Name)
	}
	if strings.Join(names, " ") != "meshc-redirect meshc-proxy" {
		t.Fatalf("init containers %v", names)
	}
	proxy := p.Spec.InitContainers[1]
	if proxy.RestartPolicy == nil || *proxy.RestartPolicy != core.ContainerRestartPolicyAlways || !strings.Contains(strings.Join(proxy.Args, " "), "meshc.meshc-system.svc:18000") {
		t.Errorf("the proxy: %+v", proxy)
	}
	ready := p.Spec.Containers[0].ReadinessProbe
	if ready.HTTPGet.Path != "/probe/app/readiness" || ready.HTTPGet.Port.IntValue() != 15021 || ready.TimeoutSeconds != 2 {
		t.Errorf("the probe: %+v, %+v", ready, ready.HTTPGet)
	}
	if last := proxy.Env[len(proxy.Env)-1]; last.Name != "MESHC_PROBES" || !strings.Contains(last.Value, `"path":"/healthz","port":9080`) {
		t.Errorf("the agent is to ask %+v", last)
	}
	for _, c := range p.Spec.InitContainers {
		for _, m := range c.VolumeMounts {
			if strings.HasPrefix(m.Name, "kube-api-access") {
				t.Errorf("%s has the API server's token", c.Name)
			}
		}
	}
}

func withDebug(p *core.Pod) *core.Pod {
	out := p.DeepCopy()
	id := int64(1337)
	out.Spec.EphemeralContainers = append(out.Spec.EphemeralContainers, core.EphemeralContainer{EphemeralContainerCommon: core.EphemeralContainerCommon{
		Name: "debug", Image: "a", SecurityContext: &core.SecurityContext{RunAsUser: &id},
	}})
	return out
}
