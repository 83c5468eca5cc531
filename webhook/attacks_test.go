package webhook

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/webhook/internal/admit"
)

// What somebody tries who wants past the guard, or to hurt a cluster by it, on a real
// API server. The attacks on one question alone, without a cluster, are in
// webhook_test.go and internal/review; those on the rules in internal/guard.
func TestAttacks(t *testing.T) {
	g := guardedCluster(t)
	for _, attack := range []struct {
		name string
		try  func(*testing.T, *guarded)
	}{
		{"ADirectCallFromAPodLearnsNothing", directCall},
		{"AnotherVersionSubresourceOrPatchIsNoWayRound", waysRound},
		{"ADeletionIsHeldByAFinalizer", heldDeletion},
		{"ADeletedDependencyOfTheRelease", deletedDependency},
		{"ATenantsLabelDoesNotExempt", tenantsLabel},
		{"ADryRunHasNoSideEffects", dryRuns},
		{"APolicyThatFailsDenies", failingPolicies},
		{"WithoutPoliciesNothingIsReady", noPolicies},
		{"APolicyThatReachesOutIsNotTaken", reachingPolicies},
		{"APolicyThatBurnsItsTimeHurtsNoOther", burningPolicy},
		{"AMessageCarriesNoSecretAndCannotAct", messages},
		{"AnObjectOfAnySizeIsJudgedOrRefused", largeObjects},
		{"AConfigurationThatIsRemovedOrEditedComesBack", configurations},
		{"AWebhookThatIsDownHurtsOnlyItsOwnKinds", webhookDown},
		{"AColdClusterStartsWithoutItsWebhook", coldStart},
	} {
		t.Run(attack.name, func(t *testing.T) { attack.try(t, g) })
		if t.Failed() {
			t.Logf("the webhook's log:\n%s", g.log)
		}
	}
}

// send makes one request at a path of the API server's.
func (g *guarded) send(t *testing.T, verb, path string, kind types.PatchType, body string, o ...metav1.PatchOptions) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r := g.Client.Discovery().RESTClient().Verb(verb).AbsPath(path).SetHeader("Content-Type", string(kind))
	for _, one := range o {
		for _, d := range one.DryRun {
			r.Param("dryRun", d)
		}
		if one.FieldManager != "" {
			r.Param("fieldManager", one.FieldManager)
		}
		if one.Force != nil {
			r.Param("force", fmt.Sprint(*one.Force))
		}
	}
	if body != "" {
		r.Body([]byte(body))
	}
	return r.Do(ctx).Error()
}

const (
	jsonPatch  = types.JSONPatchType
	merge      = types.MergePatchType
	strategic  = types.StrategicMergePatchType
	apply      = types.ApplyPatchType
	plainJSON  = types.PatchType("application/json")
	ofShop     = "/api/v1/namespaces/shop/"
	ofApps     = "/apis/apps/v1/namespaces/shop/deployments/"
	anyManager = "mallory"
)

func directCall(t *testing.T, g *guarded) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube-apiserver"}, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, own, own, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, certs := range map[string][]tls.Certificate{
		"without a certificate":     nil,
		"with one of the same name": {{Certificate: [][]byte{der}, PrivateKey: key}},
	} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{Certificates: certs, InsecureSkipVerify: true}}, Timeout: 10 * time.Second} // #nosec G402 -- an attacker's
		for _, path := range []string{ValidatePath, MutatePath, "/metrics", "/"} {
			res, err := client.Post("https://"+g.server.Addr().String()+path, "application/json", strings.NewReader(podWith("")))
			if err == nil {
				_ = res.Body.Close()
				t.Errorf("%s, %s is answered with %s", name, path, res.Status)
			}
		}
		client.CloseIdleConnections()
	}
	if err := g.patch(t, "services", "cart", `{"metadata":{"annotations":{"example.com/seen":"yes"}}}`, true); err != nil {
		t.Errorf("the API server itself: %v", err)
	}
}

// waysRound: whatever the verb, version, subresource, patch or manager, what would be
// stored is held against the release.
func waysRound(t *testing.T, g *guarded) {
	const (
		label  = "app.kubernetes.io/managed-by"
		hpa    = "/apis/autoscaling/%s/namespaces/shop/horizontalpodautoscalers/scaled%s"
		pdb    = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/edge"
		rbac   = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/"
		noName = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"x-","labels":{"app.kubernetes.io/managed-by":"meshc"}}}`
		unlab  = `{"metadata":{"labels":{"app.kubernetes.io/managed-by":null}}}`
		stolen = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"cart"},"spec":{"selector":{"app":"evil"},"ports":[{"name":"http","port":9080}]}}`
	)
	force := metav1.PatchOptions{FieldManager: anyManager, Force: new(true)}
	if err := g.Apply(t.Context(), `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"plain","namespace":"default"}}`, podText("victim", "")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		verb, path string
		kind       types.PatchType
		body       string
		o          metav1.PatchOptions
		want       diag.Code
	}{
		"an older version":                      {"PATCH", fmt.Sprintf(hpa, "v1", ""), merge, `{"spec":{"maxReplicas":99}}`, metav1.PatchOptions{}, diag.CodeDrift},
		"the scale":                             {"PATCH", ofApps + "edge/scale", merge, `{"spec":{"replicas":0}}`, metav1.PatchOptions{}, diag.CodeDrift},
		"the scale of what is autoscaled":       {"PATCH", ofApps + "busy/scale", merge, `{"spec":{"replicas":0}}`, metav1.PatchOptions{}, diag.CodeDrift},
		"the scale, by strategic patch":         {"PATCH", ofApps + "edge/scale", jsonPatch, `[{"op":"replace","path":"/spec/replicas","value":0}]`, metav1.PatchOptions{}, diag.CodeDrift},
		"a label, by a service's status":        {"PATCH", ofShop + "services/cart/status", merge, unlab, metav1.PatchOptions{}, diag.CodeDrift},
		"a label, by an autoscaler's status":    {"PATCH", fmt.Sprintf(hpa, "v2", "/status"), merge, unlab, metav1.PatchOptions{}, diag.CodeDrift},
		"the same, in an older version":         {"PATCH", fmt.Sprintf(hpa, "v1", "/status"), merge, unlab, metav1.PatchOptions{}, diag.CodeDrift},
		"a label, by a budget's status":         {"PATCH", pdb + "/status", merge, unlab, metav1.PatchOptions{}, diag.CodeDrift},
		"an owner, by a deployment's status":    {"PATCH", ofApps + "edge/status", merge, `{"metadata":{"annotations":{"meshc.dev/owner":"mallory"}}}`, metav1.PatchOptions{}, diag.CodeDrift},
		"a label, by a namespace's status":      {"PATCH", "/api/v1/namespaces/shop/status", merge, `{"metadata":{"labels":{"meshc.dev/inject":"disabled"}}}`, metav1.PatchOptions{}, diag.CodeDrift},
		"a label, by a namespace's finalizers":  {"PUT", "/api/v1/namespaces/shop/finalize", plainJSON, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"},"spec":{"finalizers":["kubernetes"]}}`, metav1.PatchOptions{}, diag.CodeDrift},
		"the label, by JSON patch":              {"PATCH", ofShop + "services/cart", jsonPatch, `[{"op":"remove","path":"/metadata/labels/app.kubernetes.io~1managed-by"}]`, metav1.PatchOptions{}, diag.CodeDrift},
		"the label, by merge patch":             {"PATCH", ofShop + "services/cart", merge, unlab, metav1.PatchOptions{}, diag.CodeDrift},
		"the label, by strategic patch":         {"PATCH", ofShop + "services/cart", strategic, unlab, metav1.PatchOptions{}, diag.CodeDrift},
		"all labels":                            {"PATCH", ofShop + "services/cart", merge, `{"metadata":{"labels":null}}`, metav1.PatchOptions{}, diag.CodeDrift},
		"the owner":                             {"PATCH", ofShop + "services/cart", merge, `{"metadata":{"annotations":{"meshc.dev/owner":null}}}`, metav1.PatchOptions{}, diag.CodeDrift},
		"another's property":                    {"PATCH", ofShop + "services/cart", merge, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"1"}]}}`, metav1.PatchOptions{}, diag.CodeDrift},
		"apply by another manager":              {"PATCH", ofShop + "services/cart", apply, stolen, force, diag.CodeDrift},
		"a field more, by another manager":      {"PATCH", ofShop + "serviceaccounts/cart", apply, `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"cart"},"imagePullSecrets":[{"name":"x"}]}`, force, diag.CodeDrift},
		"apply without the label, as ourselves": {"PATCH", ofShop + "services/cart", apply, stolen, metav1.PatchOptions{FieldManager: kubetest.FieldManager, Force: new(true)}, diag.CodeDrift},
		"put in its place":                      {"PUT", ofShop + "serviceaccounts/cart", plainJSON, `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"cart","namespace":"shop"}}`, metav1.PatchOptions{}, diag.CodeDrift},
		"a new object of ours, without a name":  {"POST", ofShop + "configmaps", plainJSON, noName, metav1.PatchOptions{}, diag.CodeUnapproved},
		"the same elsewhere":                    {"POST", "/api/v1/namespaces/default/configmaps", plainJSON, noName, metav1.PatchOptions{}, diag.CodeUnapproved},
		"an old object that becomes ours":       {"PATCH", "/api/v1/namespaces/default/configmaps/plain", merge, `{"metadata":{"labels":{"` + label + `":"meshc"}}}`, metav1.PatchOptions{}, diag.CodeUnapproved},
		"one of a collection":                   {"DELETE", ofShop + "serviceaccounts", plainJSON, "", metav1.PatchOptions{}, diag.CodeStillNeeded},
		"a Secret more for a gateway":           {"PATCH", rbac + "roles/gateway.shown", jsonPatch, `[{"op":"add","path":"/rules/0/resourceNames/-","value":"another"}]`, metav1.PatchOptions{}, diag.CodeDrift},
		"all Secrets for a gateway":             {"PATCH", rbac + "roles/gateway.shown", jsonPatch, `[{"op":"remove","path":"/rules/0/resourceNames"}]`, metav1.PatchOptions{}, diag.CodeDrift},
		"a gateway's Secrets for another":       {"PATCH", rbac + "rolebindings/gateway.shown", merge, `{"subjects":[{"kind":"ServiceAccount","name":"cart","namespace":"shop"}]}`, metav1.PatchOptions{}, diag.CodeDrift},
		"a gateway without its rights":          {"DELETE", rbac + "rolebindings/gateway.shown", plainJSON, "", metav1.PatchOptions{}, diag.CodeStillNeeded},
		"a pod's debug container as the proxy":  {"PATCH", ofShop + "pods/victim/ephemeralcontainers", strategic, `{"spec":{"ephemeralContainers":[{"name":"d","image":"a","securityContext":{"runAsUser":1337}}]}}`, metav1.PatchOptions{}, diag.CodeSidecar},
		"the proxy's image":                     {"PATCH", ofShop + "pods/victim", strategic, `{"spec":{"initContainers":[{"name":"meshc-proxy","image":"evil"}]}}`, metav1.PatchOptions{}, diag.CodeSidecar},
	} {
		refused(t, name, g.send(t, c.verb, c.path, c.kind, c.body, c.o), string(c.want))
		c.o.DryRun = []string{metav1.DryRunAll}
		refused(t, name+", only tried", g.send(t, c.verb, c.path, c.kind, c.body, c.o), string(c.want))
	}
	replacement := filepath.Join(t.TempDir(), "service.yaml")
	text := "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{name: http, port: 9080, targetPort: 1}]}\n"
	if err := os.WriteFile(replacement, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"replace", "-f", replacement}, {"replace", "--force", "-f", replacement}, {"label", "service", "cart", "app.kubernetes.io/managed-by-", "-n", "shop"},
		{"scale", "deployment", "edge", "--replicas=0", "-n", "shop"}, {"set", "image", "deployment/edge", "meshc-proxy=evil", "-n", "shop"}, {"delete", "service", "--all", "-n", "shop"},
	} {
		_, err := g.Kubectl(t.Context(), args...)
		refused(t, "kubectl "+strings.Join(args[:2], " "), err, "MESH070")
	}
	g.untouched(t)
}

// page is one of those for people and their tools.
func (g *guarded) page(t *testing.T, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	g.server.pages().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Body.String()
}

// untouched: what the release says is what the cluster has.
func (g *guarded) untouched(t *testing.T) {
	t.Helper()
	s, err := g.Client.CoreV1().Services("shop").Get(t.Context(), "cart", metav1.GetOptions{})
	if err != nil || s.Labels["app.kubernetes.io/managed-by"] != "meshc" || s.Annotations["meshc.dev/owner"] == "" || s.Spec.Ports[0].TargetPort.IntValue() != 9080 {
		t.Errorf("the service: %+v, %v", s, err)
	}
	ns, err := g.Client.CoreV1().Namespaces().Get(t.Context(), "shop", metav1.GetOptions{})
	if err != nil || ns.Labels["meshc.dev/inject"] != "enabled" || ns.DeletionTimestamp != nil {
		t.Errorf("the namespace: %+v, %v", ns, err)
	}
}

// heldDeletion: a finalizer is anybody's, and holds neither a deletion that is refused
// nor one that is wanted.
func heldDeletion(t *testing.T, g *guarded) {
	const hold = `{"metadata":{"finalizers":["example.com/hold"]}}`
	ctx := t.Context()
	if err := g.patch(t, "services", "cart", hold, false); err != nil {
		t.Fatal(err)
	}
	refused(t, "one that is held", g.Client.CoreV1().Services("shop").Delete(ctx, "cart", metav1.DeleteOptions{}), string(diag.CodeStillNeeded))
	if err := g.patch(t, "services", "cart", `{"metadata":{"finalizers":null}}`, false); err != nil {
		t.Error(err)
	}
	// One that an earlier release had: its deletion is no one's business but the finalizer's.
	const held = `{"apiVersion":"v1","kind":%q,"metadata":{"name":%q,"namespace":"shop","labels":{"app.kubernetes.io/managed-by":"meshc"}},%s}`
	pruned := fmt.Sprintf(held, "ConfigMap", "pruned", `"data":{}`)
	g.earlier(t, pruned, func() error {
		return errors.Join(g.Apply(ctx, pruned), g.patch(t, "configmaps", "pruned", hold, false))
	})
	refused(t, "a change of what is no longer approved", g.patch(t, "configmaps", "pruned", `{"data":{"a":"b"}}`, false), string(diag.CodeUnapproved))
	if err := g.Client.CoreV1().ConfigMaps("shop").Delete(ctx, "pruned", metav1.DeleteOptions{}); err != nil {
		t.Errorf("its deletion: %v", err)
	}
	refused(t, "a change while it vanishes", g.patch(t, "configmaps", "pruned", `{"data":{"a":"b"}}`, false), string(diag.CodeUnapproved))
	if err := g.patch(t, "configmaps", "pruned", `{"metadata":{"finalizers":null}}`, false); err != nil {
		t.Errorf("its end: %v", err)
	}
	// One that the release has, but not like this: it vanishes, and can be made anew.
	differs := fmt.Sprintf(held, "ServiceAccount", "cart", `"imagePullSecrets":[{"name":"old"}]`)
	g.earlier(t, differs, func() error {
		return errors.Join(g.patch(t, "serviceaccounts", "cart", `{"metadata":{"annotations":null,"labels":{"app.kubernetes.io/part-of":null}},"imagePullSecrets":[{"name":"old"}]}`, false),
			g.patch(t, "serviceaccounts", "cart", hold, false))
	})
	g.earlier(t, pruned, func() error {
		return g.Client.CoreV1().ServiceAccounts("shop").Delete(ctx, "cart", metav1.DeleteOptions{})
	})
	if err := g.patch(t, "serviceaccounts", "cart", `{"metadata":{"annotations":{"example.com/a":"b"}}}`, false); err != nil {
		t.Errorf("what makes it no worse: %v", err)
	}
	refused(t, "what makes it worse", g.patch(t, "serviceaccounts", "cart", `{"imagePullSecrets":[{"name":"old"},{"name":"x"}]}`, false), string(diag.CodeDrift))
	if err := g.patch(t, "serviceaccounts", "cart", `{"metadata":{"finalizers":null}}`, false); err != nil {
		t.Errorf("the end of what differs: %v", err)
	}
	if err := g.Apply(ctx, objects(g.release)...); err != nil {
		t.Errorf("the release again: %v", err)
	}
	g.untouched(t)
}

// earlier does something while a release holds that has one object alone.
func (g *guarded) earlier(t *testing.T, object string, do func() error) {
	t.Helper()
	g.while(t, "shop/one.yaml", object, do)
}

// while does something while a release holds that has one object in one file, and a proxy in
// the namespace of that.
func (g *guarded) while(t *testing.T, file, object string, do func() error) {
	t.Helper()
	namespace, _, _ := strings.Cut(file, "/")
	made, err := release.Seal([]release.Artifact{
		{Path: "envoy/sidecar/" + namespace + "/web.json", Bytes: []byte("{}")}, {Path: "kubernetes/" + file, Bytes: []byte(object)},
	}, release.Inputs{Environment: "prod"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := admit.See("fedcba9876543210", made)
	if err != nil {
		t.Fatal(err)
	}
	steps := g.server.steps.Swap(&[]step{{world: w, policies: g.server.inForce(time.Now()).policies}})
	err = do()
	g.server.steps.Store(steps)
	if err != nil {
		t.Fatal(err)
	}
}

// deletedDependency: what the release's objects name is needed as well, whoever made it.
func deletedDependency(t *testing.T, g *guarded) {
	ctx := t.Context()
	if err := g.Apply(ctx, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"tuning","namespace":"shop"}}`, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"free","namespace":"shop"}}`); err != nil {
		t.Fatal(err)
	}
	refused(t, "what a deployment reads", g.Client.CoreV1().ConfigMaps("shop").Delete(ctx, "tuning", metav1.DeleteOptions{}), "MESH0703 ConfigMap/shop/tuning is named by Deployment/shop/scaled")
	if err := g.Client.CoreV1().ConfigMaps("shop").Delete(ctx, "free", metav1.DeleteOptions{}); err != nil {
		t.Errorf("what nobody reads: %v", err)
	}
}

func tenantsLabel(t *testing.T, g *guarded) {
	ctx := t.Context()
	for _, label := range []string{"meshc.dev/exempt", "admission.gatekeeper.sh/ignore", "control-plane", "meshc.dev/inject", "kubernetes.io/metadata.name"} {
		change := fmt.Sprintf(`{"metadata":{"labels":{%q:"disabled"}}}`, label)
		// An API server puts the label with the name back by itself.
		if err := g.send(t, "PATCH", "/api/v1/namespaces/shop", merge, change); err == nil && label != "kubernetes.io/metadata.name" {
			t.Errorf("a tenant may label the namespace %s", label)
		}
		refused(t, "with "+label, g.patch(t, "services", "cart", `{"spec":{"type":"NodePort"}}`, true), string(diag.CodeDrift))
		pod := strings.Replace(podText("exempt", `,"hostNetwork":true`), `"metadata":{`, fmt.Sprintf(`"metadata":{"labels":{%q:"disabled"},`, label), 1)
		if err := g.Apply(ctx, pod); err == nil {
			t.Errorf("a pod with the label %s is exempt", label)
		}
	}
}

// dryRuns: Flux and Argo CD try each object at each look. Whether it is refused or not,
// nothing in the cluster is another afterwards.
func dryRuns(t *testing.T, g *guarded) {
	before := g.settled(t)
	o := metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}, Force: new(true)}
	for _, manager := range []string{"kustomize-controller", "argocd-controller"} {
		o.FieldManager = manager
		for _, text := range objects(g.release) {
			path, name := pathOf(t, text)
			if err := g.send(t, "PATCH", path+"/"+name, apply, text, o); err != nil {
				t.Errorf("%s tries %s: %v", manager, path, err)
			}
		}
	}
	pods := ofShop + "pods"
	if err := g.send(t, "POST", pods, plainJSON, podText("tried", ""), metav1.PatchOptions{DryRun: o.DryRun}); err != nil {
		t.Error(err)
	}
	refused(t, "a pod", g.send(t, "POST", pods, plainJSON, podText("tried", `,"hostNetwork":true`), metav1.PatchOptions{DryRun: o.DryRun}), string(diag.CodeSidecar))
	refused(t, "a change", g.patch(t, "services", "cart", `{"spec":{"type":"NodePort"}}`, true), string(diag.CodeDrift))
	refused(t, "a deletion", g.Client.CoreV1().Services("shop").Delete(t.Context(), "cart", metav1.DeleteOptions{DryRun: o.DryRun}), string(diag.CodeStillNeeded))
	after := g.everything(t)
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("there is now %s", line)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d objects, before %d", len(after), len(before))
	}
}

// settled is everything, once the cluster's controllers have done what they had to: two looks show the same.
func (g *guarded) settled(t *testing.T) []string {
	t.Helper()
	last := g.everything(t)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		time.Sleep(time.Second) // in which controllers do what is due
		now := g.everything(t)
		if slices.Equal(now, last) {
			return now
		}
		last = now
	}
	t.Fatal("the cluster does not settle")
	return nil
}

// pathOf is where an object of the release lives, and its name.
func pathOf(t *testing.T, text string) (collection, name string) {
	t.Helper()
	var o metav1.PartialObjectMetadata
	if err := yaml.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	collection = "/apis/" + o.APIVersion
	if o.APIVersion == "v1" {
		collection = "/api/v1"
	}
	if o.Namespace != "" {
		collection += "/namespaces/" + o.Namespace
	}
	plural := strings.ToLower(o.Kind) + "s"
	if strings.HasSuffix(o.Kind, "Policy") {
		plural = strings.TrimSuffix(plural, "ys") + "ies"
	}
	return collection + "/" + plural, o.Name
}

// everything lists what the cluster has, with versions, but for what the API server
// itself renews.
func (g *guarded) everything(t *testing.T) []string {
	t.Helper()
	lists, err := g.Client.Discovery().ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || r.Name == "leases" || r.Name == "componentstatuses" {
				continue
			}
			have, err := g.Dynamic.Resource(gv.WithResource(r.Name)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(r.Name, err)
			}
			for _, o := range have.Items {
				out = append(out, fmt.Sprintf("%s %s/%s %s", r.Name, o.GetNamespace(), o.GetName(), o.GetResourceVersion()))
			}
		}
	}
	slices.Sort(out)
	return out
}

const frame = "package meshc.object.own\n\nimport rego.v1\n\n# METADATA\n# custom: {id: own, severity: deny}\n"

func failingPolicies(t *testing.T, g *guarded) {
	for name, policy := range map[string]string{
		"undefined":         "findings := {input.kind} if input.object.metadata.name == \"never\"\n",
		"a built-in error":  "findings contains {\"id\": \"own\", \"path\": \"b\", \"severity\": \"deny\", \"msg\": \"c\"} if to_number(input.object.metadata.name) > 1\n",
		"no finding at all": "findings contains \"deny\" if input.kind == \"Pod\"\n",
	} {
		if err := g.take(t, frame+policy); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := g.Apply(t.Context(), podText("judged", "")); err == nil || !strings.Contains(err.Error(), "MESH04") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nothing found is nothing against it.
	g.publish(t, frame+"findings contains {\"id\": \"own\", \"path\": \"b\", \"severity\": \"deny\", \"msg\": \"c\"} if input.object.metadata.name == \"never\"\n")
	if err := g.Apply(t.Context(), podText("judged", "")); err != nil {
		t.Errorf("an empty set: %v", err)
	}
	g.publish(t)
}

func noPolicies(t *testing.T, g *guarded) {
	if err := g.take(t, "package other.object.own\n\nfindings := {1}\n"); err == nil {
		t.Error("a rule of a package that is never asked is taken")
	}
	baseline := g.server.c.Baseline
	g.server.c.Baseline = os.DirFS(t.TempDir())
	err := g.take(t)
	g.server.c.Baseline = baseline
	if err == nil {
		t.Error("a release without policies is taken")
	}
	steps := g.server.steps.Swap(nil)
	if g.server.Ready() == nil {
		t.Error("it is ready without a release")
	}
	refused(t, "meanwhile, a pod", g.Apply(t.Context(), podText("early", "")), string(diag.CodeNotReady))
	refused(t, "meanwhile, what equals the release", g.patch(t, "services", "cart", `{"metadata":{"annotations":{"example.com/x":"y"}}}`, false), string(diag.CodeNotReady))
	g.server.steps.Store(steps)
	if err := g.Apply(t.Context(), podText("early", "")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func reachingPolicies(t *testing.T, g *guarded) {
	for _, call := range []string{
		`http.send({"method": "get", "url": "http://127.0.0.1"})`, `opa.runtime()`, `time.now_ns()`, `rand.intn("a", 2)`, `uuid.rfc4122("a")`, `net.lookup_ip_addr("localhost")`,
	} {
		err := g.take(t, frame+"findings contains {\"id\": \"own\", \"path\": \"b\", \"severity\": \"deny\", \"msg\": sprintf(\"%v\", ["+call+"])} if input.kind == \"Never\"\n")
		name, _, _ := strings.Cut(call, "(")
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if told := fmt.Sprint(g.server.Status().Problems); !strings.Contains(told, name) {
			t.Errorf("%s: the status tells %s", name, told)
		}
	}
	if err := g.Apply(t.Context(), podText("after", "")); err != nil {
		t.Errorf("the release before does not hold: %v", err)
	}
}

func burningPolicy(t *testing.T, g *guarded) {
	g.publish(t, frame+`findings contains {"id": "own", "path": "x", "severity": "deny", "msg": "never"} if {
	input.object.metadata.labels.slow
	some a in numbers.range(1, 100000)
	some b in numbers.range(1, 100000)
	a * b == -1
}
`)
	defer g.publish(t)
	slow := strings.Replace(podText("slow", ""), `"metadata":{`, `"metadata":{"labels":{"slow":"yes"},`, 1)
	burns := make(chan error, 1)
	go func() { burns <- g.Apply(t.Context(), slow) }()
	g.until(t, "meanwhile another pod is let in", func() bool {
		err := g.Apply(t.Context(), podText("quick", ""))
		if err != nil && !strings.Contains(err.Error(), "MESH0407") && !strings.Contains(err.Error(), string(diag.CodeBusy)) {
			t.Errorf("meanwhile: %v", err)
		}
		return err == nil
	})
	if err := <-burns; err == nil || !strings.Contains(err.Error(), "MESH0407") && !strings.Contains(err.Error(), string(diag.CodeBusy)) {
		t.Errorf("the slow one: %v", err)
	}
}

// messages: what somebody plants in an object comes back in no answer and no log, and
// what names it has cannot act in a terminal or a log.
func messages(t *testing.T, g *guarded) {
	const canary = "c4n4ry-s3cr3t"
	hold := func(change string) string { return strings.ReplaceAll(change, "%", canary) }
	evil := hold("%\n::error::\u001b[2J\u202e") + strings.Repeat("long", 500)
	raw, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	quoted := string(raw)
	container := `{"spec":{"template":{"spec":{"containers":[{"name":"meshc-proxy",%s}]}}}}`
	for name, err := range map[string]error{
		"an annotation":          g.patch(t, "services", "cart", hold(`{"metadata":{"annotations":{"meshc.dev/owner":"%"}}}`), false),
		"one more annotation":    g.patch(t, "services", "cart", hold(`{"metadata":{"annotations":{"meshc.dev/token":"%"}}}`), false),
		"all annotations":        g.send(t, "PATCH", ofShop+"services/cart", jsonPatch, hold(`[{"op":"replace","path":"/metadata/annotations","value":{"meshc.dev/t":"%"}}]`)),
		"a variable":             g.send(t, "PATCH", ofApps+"edge", strategic, fmt.Sprintf(container, hold(`"env":[{"name":"T","value":"%"}]`))),
		"a variable's place":     g.send(t, "PATCH", ofApps+"edge", strategic, fmt.Sprintf(container, hold(`"env":[{"name":"POD_NAME","value":"%","valueFrom":null}]`))),
		"one more container":     g.send(t, "PATCH", ofApps+"edge", strategic, hold(`{"spec":{"template":{"spec":{"containers":[{"name":"x","image":"x","env":[{"name":"T","value":"%"}]}]}}}}`)),
		"an argument":            g.send(t, "PATCH", ofApps+"edge", strategic, fmt.Sprintf(container, hold(`"args":["--token=%"]`))),
		"a command":              g.send(t, "PATCH", ofApps+"edge", strategic, fmt.Sprintf(container, hold(`"command":["%"]`))),
		"a probe's header":       g.send(t, "PATCH", ofApps+"edge", strategic, fmt.Sprintf(container, hold(`"readinessProbe":{"httpGet":{"httpHeaders":[{"name":"Authorization","value":"%"}]}}`))),
		"data that claims":       g.Apply(t.Context(), hold(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","namespace":"shop","labels":{"app.kubernetes.io/managed-by":"meshc"},"annotations":{"a":"%"}},"data":{"token":"%"},"binaryData":{}}`)),
		"a pod's variable":       g.Apply(t.Context(), hold(podText("leak", `,"hostNetwork":true,"initContainers":[{"name":"i","image":"i","env":[{"name":"T","value":"%"}]}]`))),
		"a sidecar's variable":   g.Apply(t.Context(), hold(podText("leak", `,"initContainers":[{"name":"meshc-redirect","image":"i","env":[{"name":"T","value":"%"}]},{"name":"meshc-proxy","image":"i","env":[{"name":"MESHC_PROBES","value":"%"}]}]`))),
		"a text that acts":       g.send(t, "PATCH", ofShop+"services/cart", merge, fmt.Sprintf(`{"metadata":{"annotations":{"meshc.dev/owner":%s}}}`, quoted)),
		"a name that acts":       g.send(t, "PATCH", ofShop+"services/cart", merge, fmt.Sprintf(`{"spec":{"externalName":%s}}`, quoted)),
		"a label's value, twice": g.patch(t, "services", "cart", hold(`{"spec":{"selector":{"app":"x","%":"y"}}}`), false),
	} {
		if err == nil {
			t.Errorf("%s is let in", name)
			continue
		}
		text := err.Error()
		if !strings.Contains(text, "MESH0") || !strings.Contains(text, "fix: ") {
			t.Errorf("%s: no code and fix in %q", name, text)
		}
		if strings.ContainsAny(text, "\n\x1b\u202e") || len(text) > maxReason+300 {
			t.Errorf("%s: %q", name, text)
		}
		if name != "a label's value, twice" && name != "a name that acts" && strings.Contains(text, canary) {
			t.Errorf("%s is in the answer: %s", name, text)
		}
	}
	for _, line := range strings.Split(g.log.String(), "\n") {
		if strings.Contains(line, canary) && !strings.Contains(line, "spec.selector") && !strings.Contains(line, "externalName") {
			t.Errorf("the log holds what was planted: %s", line)
		}
	}
}

// largeObjects: the largest ConfigMaps that a cluster stores, two of them in one review, are
// judged; what an API server does not take reaches nobody.
func largeObjects(t *testing.T, g *guarded) {
	configMap := func(size int) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"large","namespace":"shop"},"data":{"a":%q}}`, strings.Repeat("x", size))
	}
	put := func(text, want string) {
		t.Helper()
		g.until(t, fmt.Sprintf("%d bytes are judged", len(text)), func() bool {
			err := g.send(t, "PUT", ofShop+"configmaps/large", "application/json", text)
			if err == nil || strings.Contains(err.Error(), string(diag.CodeBusy)) {
				return err == nil && want == ""
			}
			if want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("%d bytes: %.300v", len(text), err)
			}
			return true
		})
	}
	if err := g.Apply(t.Context(), configMap(1)); err != nil {
		t.Fatal(err)
	}
	const most = 1 << 20
	put(configMap(most-1), "")
	put(configMap(most), "")
	claim := strings.Replace(configMap(most), `"metadata":{`, `"metadata":{"labels":{"app.kubernetes.io/managed-by":"meshc"},`, 1)
	put(claim, string(diag.CodeUnapproved))
	put(configMap(32<<20), "too large")
	g.untouched(t)
}

// expired is an authority whose time is over (PEM).
func expired(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ended := time.Now().Add(-time.Hour)
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: ended.Add(-time.Hour), NotAfter: ended, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

func configurations(t *testing.T, g *guarded) {
	ctx := t.Context()
	old := expired(t)
	validating, mutating := g.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations(), g.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	alarms := func() int { return strings.Count(g.log.String(), "msg=\"put back\"") }
	for name, c := range map[string]struct {
		do   func() error
		back func() bool
	}{
		"the guard is removed": {
			func() error { return validating.Delete(ctx, GuardName, metav1.DeleteOptions{}) },
			func() bool { _, err := validating.Get(ctx, GuardName, metav1.GetOptions{}); return err == nil },
		},
		"the injector is removed": {
			func() error { return mutating.Delete(ctx, InjectName, metav1.DeleteOptions{}) },
			func() bool { _, err := mutating.Get(ctx, InjectName, metav1.GetOptions{}); return err == nil },
		},
		"all are removed": {
			func() error {
				return errors.Join(validating.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
			},
			func() bool { _, err := validating.Get(ctx, GuardName, metav1.GetOptions{}); return err == nil },
		},
		"the guard lets failures pass": {
			func() error {
				_, err := validating.Patch(ctx, GuardName, jsonPatch, []byte(`[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]`), metav1.PatchOptions{})
				return err
			},
			func() bool {
				have, err := validating.Get(ctx, GuardName, metav1.GetOptions{})
				return err == nil && *have.Webhooks[0].FailurePolicy == "Fail"
			},
		},
		"the guard trusts an authority that has expired": {
			func() error {
				_, err := validating.Patch(ctx, GuardName, jsonPatch, fmt.Appendf(nil, `[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":%q}]`, base64.StdEncoding.EncodeToString(old)), metav1.PatchOptions{})
				refused(t, "meanwhile", g.patch(t, "services", "cart", `{"spec":{"type":"NodePort"}}`, true), "")
				return err
			},
			func() bool {
				have, err := validating.Get(ctx, GuardName, metav1.GetOptions{})
				return err == nil && !bytes.Equal(have.Webhooks[0].ClientConfig.CABundle, old)
			},
		},
		"the injector trusts another": {
			func() error {
				_, err := mutating.Patch(ctx, InjectName, jsonPatch, []byte(`[{"op":"remove","path":"/webhooks/1"},{"op":"replace","path":"/webhooks/0/clientConfig/url","value":"https://evil.example/"}]`), metav1.PatchOptions{})
				return err
			},
			func() bool {
				have, err := mutating.Get(ctx, InjectName, metav1.GetOptions{})
				return err == nil && len(have.Webhooks) == 2 && !strings.Contains(*have.Webhooks[0].ClientConfig.URL, "evil")
			},
		},
	} {
		before := alarms()
		if err := c.do(); err != nil {
			t.Fatal(name, err)
		}
		g.until(t, name+", and it comes back with an alarm", func() bool { return c.back() && alarms() > before })
	}
	g.until(t, "there are events", func() bool {
		events, err := g.Client.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "reason=ConfigurationRestored"})
		return err == nil && len(events.Items) > 0 && strings.Contains(events.Items[0].Message, "MESH0708")
	})
	if page := g.page(t, "/metrics"); strings.Contains(page, `meshc_webhook_configuration_restored_total{configuration="meshc-guard"} 0`) || !strings.Contains(page, `meshc_webhook_configuration_restored_total{configuration="zz-meshc-inject"} 2`) {
		t.Errorf("the alarms are not counted:\n%s", page)
	}
	g.until(t, "the guard guards again", func() bool { return g.patch(t, "services", "cart", `{"spec":{"type":"NodePort"}}`, true) != nil })
}

// webhookDown: nobody answers, or whoever answers stays silent. What the webhook is asked
// about is refused, within the time that its configuration gives; the rest is as ever.
func webhookDown(t *testing.T, g *guarded) {
	defer g.relay.become(passing)
	for name, mode := range map[string]int32{"nobody listens": down, "connections stay silent": swallowed} {
		g.relay.become(mode)
		refused(t, name+": a service of the mesh", g.patch(t, "services", "cart", `{"spec":{"type":"NodePort"}}`, true), "failed calling webhook")
		refused(t, name+": a pod of the mesh", g.Apply(t.Context(), podText("blind", "")), "failed calling webhook")
		g.unaffected(t, strings.Fields(name)[0])
		g.relay.become(passing)
		g.until(t, name+", and then it answers again", func() bool {
			err := g.patch(t, "services", "cart", `{"spec":{"type":"NodePort"}}`, true)
			return err != nil && strings.Contains(err.Error(), "MESH0701")
		})
	}
}

// unaffected: what a cluster needs to run and to come up is done without the webhook.
func (g *guarded) unaffected(t *testing.T, name string) {
	t.Helper()
	ctx := t.Context()
	for _, text := range []string{
		`{"apiVersion":"v1","kind":"Node","metadata":{"name":"%s"}}`,
		`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"%s","namespace":"kube-node-lease"}}`,
		`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"%s","namespace":"shop"}}`,
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"%s","namespace":"kube-system"},"spec":{"hostNetwork":true,"containers":[{"name":"a","image":"a"}]}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s","namespace":"kube-system"}}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"%s","namespace":"default"},"spec":{"ports":[{"port":80}]}}`,
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"%s","namespace":"default"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"a"}]}}}}`,
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"%s"}}`,
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"%s","namespace":"shop"}}`,
	} {
		if err := g.Apply(ctx, fmt.Sprintf(text, name)); err != nil {
			t.Errorf("without the webhook: %v", err)
		}
	}
	for path, status := range map[string]string{
		ofShop + "services/cart/status": `{"status":{"conditions":[]}}`,
		ofApps + "edge/status":          `{"status":{"observedGeneration":1}}`,
		ofShop + "pods/victim/status":   `{"status":{"message":"` + name + `"}}`,
	} {
		if err := g.send(t, "PATCH", path, merge, status); err != nil {
			t.Errorf("without the webhook, a status at %s: %v", path, err)
		}
	}
	p, err := g.Client.CoreV1().Pods("kube-system").Get(ctx, name, metav1.GetOptions{})
	if err != nil || len(p.Spec.InitContainers) > 0 {
		t.Errorf("%+v, %v", p, err)
	}
	if err := g.Client.CoreV1().Pods("kube-system").Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Error(err)
	}
}

// coldStart: the API server starts while no webhook can be reached.
func coldStart(t *testing.T, g *guarded) {
	defer g.relay.become(passing)
	g.relay.become(down)
	if err := g.RestartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.unaffected(t, "cold")
	refused(t, "a service of the mesh", g.patch(t, "services", "cart", `{"spec":{"type":"NodePort"}}`, true), "failed calling webhook")
	g.relay.become(passing)
	g.until(t, "the guard guards again", func() bool {
		err := g.patch(t, "services", "cart", `{"spec":{"type":"NodePort"}}`, true)
		return err != nil && strings.Contains(err.Error(), "MESH0701")
	})
	if err := g.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(t.Context(), GuardName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	g.until(t, "the configuration is watched again", func() bool {
		_, err := g.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), GuardName, metav1.GetOptions{})
		return err == nil
	})
}
