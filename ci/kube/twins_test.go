package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	registration "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/internal/known"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/policies"
)

// meshes is a mesh in two namespaces, one without pods of its own.
func meshes() fstest.MapFS {
	return fstest.MapFS{
		"mesh.cue": {Data: []byte(`package mesh

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: environment: prod: {}
mesh: exemption: agents: {
	rules: ["pod-host-path", "pod-host-processes"], object: {kind: "Pod", namespace: "shop", name: "agent-*"}
	owner: "platform", reason: "they measure the node", until: "2026-12-31T00:00:00Z"
}
mesh: exemption: old: {
	rules: ["service-external-ips"], object: {kind: "Service", namespace: "shop", name: "old"}
	owner: "platform", reason: "it is replaced", until: "2026-12-31T00:00:00Z"
}
mesh: rule: "pod-shared-processes": {severity: "warn", owner: "platform", reason: "a count first", until: "2026-12-31T00:00:00Z"}
mesh: targets: kubernetes: {
	admissionPolicies: true
	injection: {image: "registry.example/proxy@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", server: "meshc.meshc-system.svc:18000"}
}
`)},
		"shop/shop.cue": {Data: []byte(`package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "shop"
mesh: service: web: {port: http: number: 9080, grant: visitors: namespaces: ["edge"]}
mesh: service: cart: {port: http: number: 9080, grant: web: from: ["web"]}
`)},
		"edge/edge.cue": {Data: []byte(`package edge

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "edge"
mesh: gateway: edge: {port: http: number: 80, host: {
	"shop.example": route: all: to: "shop/web": 100
	"*.wild.example": {owner: "edge", route: all: to: "shop/web": 100}
}}
`)},
	}
}

// twinned is a cluster that keeps a release's policies without any webhook.
type twinned struct {
	*kubetest.Cluster
	release release.Release
	engine  *guard.Engine
	known   guard.Known
	mallory dynamic.Interface // may do everything, and is no administrator
	told    *warnings         // Mallory
	rules   []string          // policies and bindings
	let     release.Enforcement
}

// warnings are those of the last answer.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

// take gives the warnings since the last call.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.texts
	w.texts = nil
	return out
}

const mallory = "mallory"

func withTwins(t *testing.T) *twinned {
	t.Helper()
	p, ds := compiler.Load(meshes(), compiler.Options{At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)})
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	c := &twinned{}
	if c.release, ds = p.Release(); ds.HasErrors() {
		t.Fatal(ds)
	}
	if c.engine, ds = guard.New(t.Context(), policies.FS, nil); ds.HasErrors() {
		t.Fatal(ds)
	}
	k, err := known.Of(c.release)
	if err != nil {
		t.Fatal(err)
	}
	if c.known, err = guard.NewKnown(k); err != nil {
		t.Fatal(err)
	}
	if c.let, err = c.release.Enforcement(); err != nil {
		t.Fatal(err)
	}
	c.Cluster = kubetest.ForTest(t, kubetest.Options{})
	as := rest.CopyConfig(c.Config)
	as.Impersonate = rest.ImpersonationConfig{UserName: mallory}
	c.told = &warnings{}
	as.WarningHandler = c.told
	if c.mallory, err = dynamic.NewForConfig(as); err != nil {
		t.Fatal(err)
	}
	var objects, rules []string
	for _, path := range c.release.Paths() {
		if raw, _ := c.release.Artifact(path); strings.HasPrefix(path, "kubernetes/cluster/validatingadmissionpolicy") {
			rules = append(rules, string(raw))
		} else if strings.HasPrefix(path, "kubernetes/") && strings.HasSuffix(path, ".yaml") && !strings.HasSuffix(path, "kustomization.yaml") {
			objects = append(objects, string(raw))
		}
	}
	// Namespaces first: "cluster" comes before "edge" and "shop". A Deployment from before.
	slices.SortStableFunc(objects, func(a, b string) int { return strings.Compare(kindOf(b), kindOf(a)) })
	if err := c.Apply(t.Context(), append(slices.Concat(objects, extras()), deployment("before", `"hostPID":true,`))...); err != nil {
		t.Fatal(err)
	}
	c.rules = rules
	return c
}

// bind puts the release's policies in force, in earnest or as warnings, which name every
// rule that is broken where a denial names the first.
func (c *twinned) bind(t *testing.T, action string, inForce func(object string) bool) {
	t.Helper()
	for _, r := range c.rules {
		if err := c.Apply(t.Context(), strings.Replace(r, "\n  - Deny\n", "\n  - "+action+"\n", 1)); err != nil {
			t.Fatal(err)
		}
	}
	c.until(t, "the policies are in force", func() bool { // each by what it refuses
		for _, o := range broken() {
			if !inForce(o) {
				return false
			}
		}
		return true
	})
}

func kindOf(text string) string {
	if strings.Contains(text, "\nkind: Namespace\n") {
		return "1"
	}
	return "0"
}

// extras are what the cluster has beside the release.
func extras() []string {
	const crd = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"%[1]s.%[2]s"},"spec":{"group":"%[2]s","scope":"Namespaced",
		"names":{"plural":"%[1]s","singular":"%[3]s","kind":"%[4]s","listKind":"%[4]sList"},"versions":[{"name":"v1","served":true,"storage":true,
		"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`
	return []string{
		`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"mallory"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},
			"subjects":[{"kind":"User","name":"mallory","apiGroup":"rbac.authorization.k8s.io"}]}`,
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"other"}}`,
		`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"stranger","namespace":"edge"}}`,
		`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"web","namespace":"other"}}`,
		fmt.Sprintf(crd, "envoyfilters", "networking.istio.io", "envoyfilter", "EnvoyFilter"),
		fmt.Sprintf(crd, "virtualservices", "networking.istio.io", "virtualservice", "VirtualService"),
		fmt.Sprintf(crd, "gateways", "networking.istio.io", "gateway", "Gateway"),
	}
}

func (c *twinned) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to pass that %s", what)
		}
	}
}

// resources are the plural names of kinds.
func resources() map[string]schema.GroupVersionResource {
	return map[string]schema.GroupVersionResource{
		"Pod": {Version: "v1", Resource: "pods"}, "Service": {Version: "v1", Resource: "services"}, "Endpoints": {Version: "v1", Resource: "endpoints"},
		"Deployment": {Group: "apps", Version: "v1", Resource: "deployments"}, "StatefulSet": {Group: "apps", Version: "v1", Resource: "statefulsets"},
		"CronJob": {Group: "batch", Version: "v1", Resource: "cronjobs"}, "PodTemplate": {Version: "v1", Resource: "podtemplates"},
		"EndpointSlice": {Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}, "Ingress": {Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"},
		"EnvoyFilter":    {Group: "networking.istio.io", Version: "v1", Resource: "envoyfilters"},
		"VirtualService": {Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"},
		"Gateway":        {Group: "networking.istio.io", Version: "v1", Resource: "gateways"},
	}
}

// create asks as Mallory whether an object could be created.
func (c *twinned) create(ctx context.Context, text string) error {
	var o unstructured.Unstructured
	if err := json.Unmarshal([]byte(text), &o.Object); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	r, ok := resources()[o.GetKind()]
	if !ok {
		return errors.New("no resource for " + o.GetKind())
	}
	_, err := c.mallory.Resource(r).Namespace(o.GetNamespace()).Create(ctx, &o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

var named = regexp.MustCompile(`\[([a-z-]+)\] `)

// warned are the IDs of all rules that an object would break.
func (c *twinned) warned(t interface{ Fatalf(string, ...any) }, object string) []string {
	c.told.take()
	if err := c.create(context.Background(), object); err != nil {
		t.Fatalf("%s: %v", object, err)
	}
	return ids(c.told.take())
}

func ids(texts []string) []string {
	var out []string
	for _, text := range texts {
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			out = append(out, m[1])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ruled are the IDs of the rules by which the API server itself refuses an object, as far
// as they stand in its answer.
func ruled(t interface{ Fatalf(string, ...any) }, object string, err error) []string {
	if err == nil {
		return nil
	}
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
		t.Fatalf("%s: not refused by a policy: %v", object, err)
	}
	return ids([]string{err.Error()})
}

// found are the IDs of the rules in Rego that refuse the object and have a twin.
func (c *twinned) found(t interface{ Fatalf(string, ...any) }, text string, twins map[string]bool) []string {
	var o unstructured.Unstructured
	if err := json.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	gvk := o.GroupVersionKind()
	res, err := c.engine.CheckObject(context.Background(), guard.Object{
		Operation: "CREATE", Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: o.GetNamespace(), Name: o.GetName(),
		New: o.Object, Enforcement: c.let, User: mallory, Groups: []string{"system:authenticated"}, Mesh: c.known, At: time.Unix(1_800_000_000, 0),
	}, time.Minute)
	if err != nil || res.Evaluated != res.Total {
		t.Fatalf("%s: %+v, %v", text, res, err)
	}
	var out []string
	for _, f := range res.Found {
		if f.Severity == guard.Deny && f.Exemption == "" && twins[f.Rule.ID] {
			out = append(out, f.Rule.ID)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// said is what a release's policies answer, by policy and rule.
func (c *twinned) said(t *testing.T) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	for _, r := range c.rules {
		var p registration.ValidatingAdmissionPolicy
		if err := yaml.Unmarshal([]byte(r), &p); err != nil {
			t.Fatal(err)
		}
		if p.Kind != "ValidatingAdmissionPolicy" {
			continue
		}
		out[p.Name] = map[string]string{}
		for _, v := range p.Spec.Validations {
			out[p.Name][named.FindStringSubmatch(v.Message)[1]] = v.Message
		}
	}
	return out
}

// twins are the rules that a release's policies name.
func (c *twinned) twins(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, messages := range c.said(t) {
		for id := range messages {
			out[id] = true
		}
	}
	return out
}

// The rules in Rego and those that the API server keeps by itself refuse the same objects,
// for the same reasons.
func TestTwinsAgree(t *testing.T) {
	c := withTwins(t)
	twins := c.twins(t)
	t.Run("documented", func(t *testing.T) { c.documented(t) })
	c.bind(t, "Warn", func(o string) bool { return len(c.warned(t, o)) > 0 })
	refused, asked := map[string]int{}, 0
	rapid.Check(t, func(t *rapid.T) {
		for _, object := range []string{anyWorkload(t), anyWorkload(t), anyService(t), anyRoute(t)} {
			asked++
			want := c.found(t, object, twins)
			got := c.warned(t, object)
			for _, id := range got {
				refused[id]++
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s\nin Rego %v, by the API server %v", object, want, got)
			}
		}
	})
	t.Logf("%d objects, refused %v", asked, refused)
	c.bind(t, "Deny", func(o string) bool { return c.create(t.Context(), o) != nil })
	t.Run("alone", func(t *testing.T) { c.alone(t) })
	t.Run("tokens", func(t *testing.T) { c.token(t) })
	t.Run("what was there before", func(t *testing.T) { c.before(t) })
	t.Run("configurations", func(t *testing.T) { c.configurations(t) })
}

// documented: the table of rules says of each which policy is its twin, and policies say
// what the rules say.
func (c *twinned) documented(t *testing.T) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, "docs", "policies.md"))
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]string{"webhook-by-hand": "meshc-webhooks"} // what Rego cannot be asked about
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` .* `(meshc-[a-z]+)` \\|$").FindAllStringSubmatch(string(raw), -1) {
		table[m[1]] = m[2]
	}
	said, count := c.said(t), 0
	delete(table, "pod-shared-processes") // intent softens it
	for id, policy := range table {
		message, ok := said[policy][id]
		if rule, known := c.engine.Rule(id); !ok || known && !strings.HasPrefix(message, "["+id+"] "+rule.Title+"; ") {
			t.Errorf("the policy %q says of %q: %q", policy, id, message)
		}
	}
	for _, messages := range said {
		count += len(messages)
	}
	if count != len(table) {
		t.Errorf("the table has %d twins, the release %d", len(table), count)
	}
}

// alone: each rule with a twin refuses an object that breaks nothing else.
func (c *twinned) alone(t *testing.T) {
	twins := c.twins(t)
	seen := map[string]bool{}
	for _, object := range broken() {
		got := ruled(t, object, c.create(t.Context(), object))
		if want := c.found(t, object, twins); !slices.Equal(got, want) || len(got) != 1 {
			t.Errorf("%s\nin Rego %v, by the API server %v", object, want, got)
		}
		for _, id := range got {
			seen[id] = true
		}
	}
	for id := range twins {
		if !seen[id] && id != "token-by-hand" && id != "webhook-by-hand" {
			t.Errorf("no object shows what %q refuses", id)
		}
	}
}

func (c *twinned) token(t *testing.T) {
	tokens := c.mallory.Resource(schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}).Namespace("shop")
	for audience, want := range map[string][]string{"meshc.dev": {"token-by-hand"}, "vault": nil} {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": map[string]any{"name": "web"},
			"spec": map[string]any{"audiences": []any{audience}}}}
		_, err := tokens.Create(t.Context(), o, metav1.CreateOptions{}, "token")
		if got := ruled(t, audience, err); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", audience, got, want)
		}
	}
}

// before: what was there before the policies is scaled and labelled, and not made worse.
func (c *twinned) before(t *testing.T) {
	for change, want := range map[string][]string{
		`{"spec":{"replicas":0}}`:                                            nil,
		`{"metadata":{"labels":{"a":"b"}}}`:                                  nil,
		`{"spec":{"template":{"spec":{"hostIPC":true}}}}`:                    {"pod-host-processes"},
		`{"spec":{"template":{"spec":{"hostPID":false}}}}`:                   nil,
		`{"spec":{"template":{"spec":{"hostPID":null,"hostNetwork":true}}}}`: {"pod-host-network"},
	} {
		_, err := c.mallory.Resource(resources()["Deployment"]).Namespace("shop").
			Patch(t.Context(), "before", types.MergePatchType, []byte(change), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		if got := ruled(t, change, err); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", change, got, want)
		}
	}
}

// configurations: those of the webhooks are meshc's. Of policies no policy is asked.
func (c *twinned) configurations(t *testing.T) {
	hook := registration.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "meshc-guard"}}
	if _, err := c.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), &hook, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	group := schema.GroupVersion{Group: "admissionregistration.k8s.io", Version: "v1"}
	configurations := group.WithResource("validatingwebhookconfigurations")
	hooks := c.mallory.Resource(configurations)
	c.until(t, "the configuration is kept", func() bool {
		return hooks.Delete(t.Context(), "meshc-guard", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}) != nil
	})
	if got := ruled(t, "a deletion", hooks.Delete(t.Context(), "meshc-guard", metav1.DeleteOptions{})); !slices.Equal(got, []string{"webhook-by-hand"}) {
		t.Errorf("a deletion: %v", got)
	}
	_, err := hooks.Patch(t.Context(), "meshc-guard", types.MergePatchType, []byte(`{"webhooks":null,"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
	if got := ruled(t, "an edit", err); !slices.Equal(got, []string{"webhook-by-hand"}) {
		t.Errorf("an edit: %v", got)
	}
	for group, ok := range map[string]bool{"system:serviceaccounts:meshc-system": true, "system:serviceaccounts:shop": false} {
		as := rest.CopyConfig(c.Config)
		as.Impersonate = rest.ImpersonationConfig{UserName: mallory, Groups: []string{group}}
		d, err := dynamic.NewForConfig(as)
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Resource(configurations).Patch(t.Context(), "meshc-guard", types.MergePatchType, []byte(`{"metadata":{"labels":{"c":"d"}}}`), metav1.PatchOptions{})
		if (err == nil) != ok {
			t.Errorf("by %s: %v", group, err)
		}
	}
	if err := c.mallory.Resource(group.WithResource("validatingadmissionpolicybindings")).Delete(t.Context(), "meshc-webhooks", metav1.DeleteOptions{}); err != nil {
		t.Errorf("an API server asked a policy about a policy, and docs/kubernetes.md says that it does not: %v", err)
	}
}
