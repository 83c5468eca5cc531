package doctor

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/internal/install"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/internal/testca"
)

// examine looks with settings of a client, and gives results by their checks.
func examine(t *testing.T, c *rest.Config, change ...func(*Config)) map[string]Result {
	t.Helper()
	conf := Config{Connect: func() (*kubeapi.Cluster, error) { return kubeapi.New(c), nil }, Namespace: install.DefaultNamespace, Now: time.Now, Limit: time.Minute}
	for _, f := range change {
		f(&conf)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out := map[string]Result{}
	_, err := Examine(ctx, conf, func(r Result) { out[r.Check] = r })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// says demands a verdict, with words.
func says(t *testing.T, got map[string]Result, check string, want Status, words ...string) {
	t.Helper()
	r := got[check]
	if r.Status != want {
		t.Errorf("%s: %s, not %s: %s", check, r.Status, want, r.Detail)
	}
	for _, w := range words {
		if !strings.Contains(r.Detail+" "+r.Fix, w) {
			t.Errorf("%s does not say %q: %s; %s", check, w, r.Detail, r.Fix)
		}
	}
	if (want == Failed || want == Warning) && r.Fix == "" {
		t.Errorf("%s has no fix", check)
	}
}

func TestTheMachine(t *testing.T) {
	conf := Config{Now: time.Now}
	got := map[string]Result{}
	if _, err := Examine(t.Context(), conf, func(r Result) { got[r.Check] = r }); err != nil {
		t.Fatal(err)
	}
	says(t, got, "git", OK, "git version")
	if _, asked := got["kubeconfig"]; asked {
		t.Error("a cluster was looked at")
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Examine(t.Context(), conf, func(r Result) { got[r.Check] = r }); err != nil {
		t.Fatal(err)
	}
	says(t, got, "git", Warning, "install Git")
	if !kernelFits("6.18.1-amd64") || !kernelFits("5.2.0") || kernelFits("5.1.9") || kernelFits("4.18.0-553.el8") {
		t.Error("kernels")
	}
}

func TestNoClusterAtAll(t *testing.T) {
	got := examine(t, nil, func(c *Config) {
		c.Connect = func() (*kubeapi.Cluster, error) { return kubeapi.Account{Kubeconfig: t.TempDir() + "/none"}.Connect() }
	})
	says(t, got, "kubeconfig", Failed, "MESH0614")
	says(t, got, "sidecars", Skipped, "not asked")

	l, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got = examine(t, &rest.Config{Host: "https://" + l.Addr().String(), TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, func(c *Config) { c.Limit = 500 * time.Millisecond })
	says(t, got, "api-server", Failed, "MESH0615")
	says(t, got, "installed", Skipped)

	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := gone.Addr().String()
	gone.Close()
	got = examine(t, &rest.Config{Host: "http://" + address})
	says(t, got, "api-server", Failed, "MESH0615")

	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/version" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, `{"major": "1", "minor": "29", "gitVersion": "v1.29.9"}`)
	}))
	defer old.Close()
	got = examine(t, &rest.Config{Host: old.URL})
	says(t, got, "api-server", OK, "v1.29.9")
	says(t, got, "version", Failed, "MESH0617", "1.30")
}

// A look that is interrupted ends.
func TestInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Examine(ctx, Config{Now: time.Now, Limit: time.Minute, Connect: func() (*kubeapi.Cluster, error) { stop(); <-t.Context().Done(); return nil, context.Canceled }}, func(Result) {})
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it did not end")
	}
}

// A real cluster: empty, then with an installation that has one fault after the other.
func TestTheCluster(t *testing.T) {
	c := kubetest.ForTest(t, kubetest.Options{Users: []kubetest.User{{Name: "stranger"}}})
	got := examine(t, c.Config)
	for _, check := range []string{"kubeconfig", "api-server", "version", "clock", "may-install"} {
		says(t, got, check, OK)
	}
	says(t, got, "nodes", Warning, "no nodes")
	says(t, got, "installed", Failed, "no StatefulSet meshc-system/meshc-server")
	says(t, got, "roots", Skipped)

	stranger, _, err := c.As("stranger")
	if err != nil {
		t.Fatal(err)
	}
	got = examine(t, stranger)
	says(t, got, "may-install", Warning, "administers")
	says(t, got, "nodes", Skipped, "you may not")
	says(t, got, "installed", Failed, "you may not")

	for _, skew := range []struct {
		by   time.Duration
		want Status
	}{{-2 * time.Minute, Warning}, {time.Hour, Failed}} {
		got = examine(t, c.Config, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(skew.by) } })
		says(t, got, "clock", skew.want, "time server")
	}

	apply(t, c, installation(t, "https://git.example/x", "mesh-read"))
	got = examine(t, c.Config)
	says(t, got, "installed", OK)
	says(t, got, "server-rights", OK)
	says(t, got, "webhook-rights", OK)
	says(t, got, "server-ready", Failed, "0 of 1")
	says(t, got, "release", Failed, "no pod of meshc-server runs")
	says(t, got, "guard", Failed, "no webhook configuration")

	says(t, got, "namespace", OK)
	says(t, got, "webhook-release", Failed, "no pod of meshc-webhook runs")
	says(t, got, "kinds", Skipped)
	says(t, got, "exemptions", Skipped)
	t.Run("Sources", func(t *testing.T) { sources(t, c) })
	t.Run("Rights", func(t *testing.T) { rights(t, c) })
	t.Run("Webhooks", func(t *testing.T) { webhooks(t, c) })
	t.Run("Mesh", func(t *testing.T) { namespaces(t, c) })
	t.Run("Secrets", func(t *testing.T) { secrets(t, c) })
	t.Run("Deleted", func(t *testing.T) { deleted(t, c) })
}

// installation is the objects of one that follows a repository.
func installation(t *testing.T, repository, secret string) string {
	t.Helper()
	tree, err := install.Tree(install.Settings{Namespace: install.DefaultNamespace, Image: "none@sha256:" + strings.Repeat("0", 64), Repository: repository, RepositorySecret: secret,
		Environment: "prod", TrustDomain: "mesh.local", Poll: time.Minute, Audit: time.Minute, Trust: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	objects, err := install.Render(tree, install.Single)
	if err != nil {
		t.Fatal(err)
	}
	text, err := install.YAML(objects)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fluxDefinition is what Flux installs, in a version of its.
const fluxDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gitrepositories.source.toolkit.fluxcd.io}
spec:
  group: source.toolkit.fluxcd.io
  scope: Namespaced
  names: {kind: GitRepository, plural: gitrepositories, singular: gitrepository, listKind: GitRepositoryList}
  versions:
  - {name: v1beta2, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
  - {name: v1, served: %t, storage: false, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

// becomes looks until a check says what it should: an API server takes a moment to follow.
func becomes(t *testing.T, c *kubetest.Cluster, check string, want Status, words ...string) {
	t.Helper()
	var got map[string]Result
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if got = examine(t, c.Config); got[check].Status == want && strings.Contains(got[check].Detail, words[0]) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	says(t, got, check, want, words...)
}

// sources: a Secret that is missing; a source of Flux's from nothing to what is followed.
func sources(t *testing.T, c *kubetest.Cluster) {
	becomes(t, c, "source", Failed, "there is no Secret meshc-system/mesh-read", "docs/install.md")
	apply(t, c, "{apiVersion: v1, kind: Secret, metadata: {name: mesh-read, namespace: meshc-system}}")
	becomes(t, c, "source", OK, "https://git.example/x, with the Secret mesh-read")

	apply(t, c, "{apiVersion: v1, kind: Namespace, metadata: {name: flux-system}}")
	apply(t, c, installation(t, "flux://gitrepository/flux-system/mesh", ""))
	becomes(t, c, "source", Failed, "the API server does not have source.toolkit.fluxcd.io/v1", "flux install")
	apply(t, c, fmt.Sprintf(fluxDefinition, false))
	becomes(t, c, "source", Failed, "source.toolkit.fluxcd.io/v1, it has source.toolkit.fluxcd.io/v1beta2", "Flux 2.6")
	apply(t, c, fmt.Sprintf(fluxDefinition, true))
	becomes(t, c, "source", Failed, "there is no gitrepository flux-system/mesh", "docs/flux.md")
	const object = "{apiVersion: source.toolkit.fluxcd.io/v1, kind: GitRepository, metadata: {name: mesh, namespace: flux-system}, status: %s}"
	apply(t, c, fmt.Sprintf(object, "{}"))
	becomes(t, c, "source", Failed, "Flux has not fetched", "flux get sources")
	apply(t, c, fmt.Sprintf(object, "{artifact: {digest: 'sha256:0123456789abcdef'}}"))
	becomes(t, c, "source", OK, "flux://gitrepository/flux-system/mesh has sha256:0123456789ab")
	becomes(t, c, "server-rights", OK, "")
	if err := c.Client.RbacV1().Roles("flux-system").Delete(t.Context(), install.ServerAccount, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	becomes(t, c, "server-rights", Failed, "get gitrepositories")
	apply(t, c, installation(t, "flux://gitrepository/flux-system/mesh", ""))
	becomes(t, c, "server-rights", OK, "")
}

// secrets: a gateway's Role that names two, of which one is not there.
func secrets(t *testing.T, c *kubetest.Cluster) {
	becomes(t, c, "secrets", OK, "0")
	apply(t, c, `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: gateway.edge, namespace: shop, labels: {app.kubernetes.io/managed-by: meshc}}
rules: [{apiGroups: [""], resources: [secrets], resourceNames: [shop-tls, other-tls], verbs: [get, watch]}]
`)
	apply(t, c, "{apiVersion: v1, kind: Secret, metadata: {name: other-tls, namespace: shop}}")
	becomes(t, c, "secrets", Failed, "there is no Secret shop/shop-tls: ", "kubectl create secret tls")
	apply(t, c, "{apiVersion: v1, kind: Secret, metadata: {name: shop-tls, namespace: shop}}")
	becomes(t, c, "secrets", OK, "2")
}

// deleted: a namespace of the mesh, and that of the installation, whose deletion waits.
func deleted(t *testing.T, c *kubetest.Cluster) {
	for _, one := range []struct {
		namespace, check string
		want             Status
		words            string
	}{{"shop", "namespaces", Warning, "shop: "}, {install.DefaultNamespace, "namespace", Failed, "meshc-system is being deleted since"}} {
		apply(t, c, "{apiVersion: v1, kind: ConfigMap, metadata: {name: held, namespace: "+one.namespace+", finalizers: [test.example/held]}}")
		if err := c.Client.CoreV1().Namespaces().Delete(t.Context(), one.namespace, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		// What it waits for is the namespace's own condition, which a controller writes.
		becomes(t, c, one.check, one.want, "test.example/held in 1 resource instances", one.words)
	}
	says(t, examine(t, c.Config), "installed", Skipped, "not asked")
}

func apply(t *testing.T, c *kubetest.Cluster, text string) {
	t.Helper()
	if err := c.Apply(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}

func rights(t *testing.T, c *kubetest.Cluster) {
	if err := c.Client.RbacV1().ClusterRoleBindings().Delete(t.Context(), install.WebhookAccount, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	var got map[string]Result
	for end := time.Now().Add(time.Minute); time.Now().Before(end); { // authorizers follow their objects
		if got = examine(t, c.Config); got["webhook-rights"].Status == Failed {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	says(t, got, "webhook-rights", Failed, "webhookconfigurations", "apply what `meshc install` prints again")
	says(t, got, "server-rights", OK)
}

const hook = `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: zz-meshc-inject}
webhooks:
- name: pods.inject.meshc.dev
  clientConfig: {%s, caBundle: %s}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced}]
  objectSelector: {matchLabels: {meshc.dev/inject: enabled}}
  sideEffects: None
  timeoutSeconds: 2
  admissionReviewVersions: [v1]
`

func webhooks(t *testing.T, c *kubetest.Cluster) {
	nobody := "url: \"https://127.0.0.1:1/mutate\""
	for _, one := range []struct {
		until time.Time
		want  Status
		words string
	}{
		{time.Now().Add(-time.Hour), Failed, "expired"},
		{time.Now().Add(24 * time.Hour), Warning, "expires"},
		{time.Now().Add(365 * 24 * time.Hour), OK, ""},
	} {
		apply(t, c, fmt.Sprintf(hook, nobody, base64.StdEncoding.EncodeToString(root(t, one.until))))
		says(t, examine(t, c.Config), "injection", one.want, one.words)
	}
	var got map[string]Result
	for end := time.Now().Add(time.Minute); time.Now().Before(end); { // an API server takes a moment to follow
		if got = examine(t, c.Config); got["webhook-reached"].Status == Failed {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	says(t, got, "webhook-reached", Failed, "failed calling webhook")
	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	defer stranger.Close()
	apply(t, c, fmt.Sprintf(hook, "url: \""+stranger.URL+"/mutate\"", base64.StdEncoding.EncodeToString(root(t, time.Now().Add(365*24*time.Hour)))))
	becomes(t, c, "webhook-reached", Failed, "x509: ", "compare the clocks")
	apply(t, c, fmt.Sprintf(hook, "service: {namespace: meshc-system, name: meshc-webhook, path: /mutate}", base64.StdEncoding.EncodeToString(root(t, time.Now().Add(365*24*time.Hour)))))
	says(t, examine(t, c.Config), "injection", Failed, "nothing ready is behind")
	if err := c.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(t.Context(), "zz-meshc-inject", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func namespaces(t *testing.T, c *kubetest.Cluster) {
	got := examine(t, c.Config)
	says(t, got, "roots", OK)
	apply(t, c, "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {meshc.dev/inject: enabled}}}")
	for end := time.Now().Add(time.Minute); time.Now().Before(end); { // its account is made by a controller
		_, err := c.Client.CoreV1().Pods("shop").Create(t.Context(), &core.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "bare"}, Spec: core.PodSpec{Containers: []core.Container{{Name: "app", Image: "app"}}},
		}, metav1.CreateOptions{})
		if err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	got = examine(t, c.Config)
	says(t, got, "roots", Failed, "no ConfigMap meshc-roots in shop")
	says(t, got, "sidecars", Warning, "shop/bare", "rollout restart")
	for _, one := range []struct {
		left  time.Duration
		want  Status
		words string
	}{{-time.Hour, Failed, "good today"}, {48 * time.Hour, Warning, "ends soon in shop"}, {365 * 24 * time.Hour, OK, "1 namespaces"}} {
		text := strings.ReplaceAll(string(root(t, time.Now().Add(one.left))), "\n", "\n    ")
		apply(t, c, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: meshc-roots, namespace: shop}\ndata:\n  roots.pem: |\n    "+text+"\n")
		says(t, examine(t, c.Config), "roots", one.want, one.words)
	}
}

// root is a certificate that ends then.
func root(t *testing.T, until time.Time) []byte {
	t.Helper()
	chain, _ := testca.PEM(t, new(testca.Authority).Sign(t, &x509.Certificate{NotBefore: until.Add(-48 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true}))
	return chain
}
