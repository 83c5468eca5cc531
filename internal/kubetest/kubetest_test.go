package kubetest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"meshc.dev/meshc/internal/kubetest"
)

// eventually polls until ask has nothing to complain of.
func eventually(t *testing.T, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

const echo = `
{apiVersion: v1, kind: Node, metadata: {name: node}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      nodeName: node
      containers: [{name: echo, image: echo, ports: [{name: http, containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: echo}
  ports: [{name: http, port: 80, targetPort: http}]
`

// One cluster for all: their objects have names of their own.
func TestCluster(t *testing.T) {
	c := kubetest.ForTest(t, kubetest.Options{Users: []kubetest.User{{Name: "alice", Groups: []string{"readers", "staff"}}, {Name: "bob"}}})
	for _, s := range []struct {
		name string
		test func(*testing.T, *kubetest.Cluster)
	}{
		{"PodsBecomeEndpoints", podsBecomeEndpoints},
		{"UsersMayWhatRolesSay", usersMayWhatRolesSay},
		{"TokensOfPodsAreBoundToThem", tokensOfPodsAreBoundToThem},
		{"ApplyWaitsForDefinitionsAndIsStrict", applyWaitsForDefinitionsAndIsStrict},
		{"TheAPIServerShowsItsCertificateToWebhooks", theAPIServerShowsItsCertificateToWebhooks},
	} {
		t.Run(s.name, func(t *testing.T) { s.test(t, c) })
	}
}

// The controllers are real: a Deployment becomes pods, and pods that are ready become
// endpoints.
func podsBecomeEndpoints(t *testing.T, c *kubetest.Cluster) {
	ctx := t.Context()
	if err := c.Apply(ctx, echo); err != nil {
		t.Fatal(err)
	}
	service, err := c.Client.CoreV1().Services("default").Get(ctx, "echo", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if ips := service.Spec.ClusterIPs; len(ips) != 2 || !strings.HasPrefix(ips[0], "10.96.") || !strings.HasPrefix(ips[1], "fd00:10:96::") {
		t.Errorf("the service has the addresses %v", ips)
	}
	eventually(t, func(ctx context.Context) error { return markReady(ctx, c.Client, 2) })
	eventually(t, func(ctx context.Context) error {
		slices, err := c.Client.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=echo"})
		if err != nil {
			return err
		}
		ready := map[string]int{}
		for _, s := range slices.Items {
			for _, e := range s.Endpoints {
				if *e.Conditions.Ready && *s.Ports[0].Port == 8080 {
					ready[string(s.AddressType)]++
				}
			}
		}
		if ready["IPv4"] != 2 || ready["IPv6"] != 2 {
			return fmt.Errorf("ready endpoints: %v", ready)
		}
		return nil
	})
	out, err := c.Kubectl(ctx, "get", "deployment", "echo", "-o", "jsonpath={.status.readyReplicas}")
	if err != nil || out != "2" {
		t.Errorf("kubectl says %q, %v", out, err)
	}
}

// markReady does for all pods what their kubelets would.
func markReady(ctx context.Context, client kubernetes.Interface, want int) error {
	pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(pods.Items) != want {
		return fmt.Errorf("%d pods", len(pods.Items))
	}
	for i, p := range pods.Items {
		v4, v6 := fmt.Sprintf("10.1.0.%d", i+1), fmt.Sprintf("fd01::%d", i+1)
		status := corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: v4, PodIPs: []corev1.PodIP{{IP: v4}, {IP: v6}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		}
		patch, err := json.Marshal(map[string]any{"status": status})
		if err != nil {
			return err
		}
		if _, err := client.CoreV1().Pods("default").Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			return err
		}
	}
	return nil
}

func usersMayWhatRolesSay(t *testing.T, c *kubetest.Cluster) {
	ctx := t.Context()
	err := c.Apply(ctx, `
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: reader}, rules: [{apiGroups: [""], resources: [pods], verbs: [list]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: reader}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader},
 subjects: [{kind: Group, name: readers, apiGroup: rbac.authorization.k8s.io}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	list := func(user string) error {
		config, kubeconfig, err := c.As(user)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(kubeconfig); err != nil {
			t.Error(err)
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		return err
	}
	eventually(t, func(context.Context) error { return list("alice") })
	if err := list("bob"); !apierrors.IsForbidden(err) {
		t.Errorf("bob may list pods: %v", err)
	}
	if _, _, err := c.As("mallory"); err == nil {
		t.Error("somebody of whom the cluster was not told has a token")
	}
}

func tokensOfPodsAreBoundToThem(t *testing.T, c *kubetest.Cluster) {
	ctx := t.Context()
	if err := c.Apply(ctx, `{apiVersion: v1, kind: Pod, metadata: {name: one}, spec: {nodeName: "n", containers: [{name: app, image: app}]}}`); err != nil {
		t.Fatal(err)
	}
	token, err := c.Token(ctx, "default", "one", "meshc.dev")
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Client.AuthenticationV1().TokenReviews().Create(ctx,
		&authv1.TokenReview{Spec: authv1.TokenReviewSpec{Token: token, Audiences: []string{"meshc.dev"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := r.Status; !s.Authenticated || s.User.Username != "system:serviceaccount:default:default" || s.User.Extra["authentication.kubernetes.io/pod-name"][0] != "one" {
		t.Errorf("the token is of %+v", s)
	}
}

// A definition is served when Apply returns; a misspelt field is an error.
func applyWaitsForDefinitionsAndIsStrict(t *testing.T, c *kubetest.Cluster) {
	const definition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: toys.example.com}
spec:
  group: example.com
  names: {kind: Toy, plural: toys, singular: toy}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {size: {type: integer}}}}}]
`
	if err := c.Apply(t.Context(), definition, `{apiVersion: example.com/v1, kind: Toy, metadata: {name: ball}, size: 3}`); err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(t.Context(), `{apiVersion: example.com/v1, kind: Toy, metadata: {name: cube}, siez: 3}`); err == nil || !strings.Contains(err.Error(), "siez") {
		t.Errorf("a misspelt field: %v", err)
	}
	if err := c.Delete(t.Context(), `{apiVersion: example.com/v1, kind: Toy, metadata: {name: ball}}`); err != nil {
		t.Error(err)
	}
}

// Webhooks may ask the API server who it is.
func theAPIServerShowsItsCertificateToWebhooks(t *testing.T, c *kubetest.Cluster) {
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(c.WebhookClientCA) {
		t.Fatal("the authority of clients is no PEM")
	}
	callers := make(chan string, 100)
	hook := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		callers <- r.TLS.PeerCertificates[0].Subject.CommonName
		var review admissionv1.AdmissionReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: false, Result: &metav1.Status{Message: "not today"}}
		_ = json.NewEncoder(w).Encode(review)
	}))
	hook.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, Certificates: []tls.Certificate{selfSigned(t)}}
	hook.StartTLS()
	defer hook.Close()
	authority := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.TLS.Certificates[0].Certificate[0]}))
	err := c.Apply(t.Context(), fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: guard}
webhooks:
- name: guard.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  clientConfig: {url: %q, caBundle: %s}
`, hook.URL, authority))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		_, err := c.Client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "c-"}}, metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), "not today") {
			return fmt.Errorf("the webhook is not asked: %w", err)
		}
		return nil
	})
	if caller := <-callers; caller != kubetest.WebhookClientName {
		t.Errorf("the webhook was asked by %q", caller)
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Whoever waits for a cluster that does not come up is told why.
func TestAClusterThatFailsSaysWhy(t *testing.T) {
	_, err := kubetest.Start(t.Context(), kubetest.Options{Controllers: []string{"no-such-controller"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-controller") || !strings.Contains(err.Error(), "== kube-controller-manager") {
		t.Errorf("%v", err)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	c, err := kubetest.Start(t.Context(), kubetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.Stop()
	c.Stop()
	if _, err := os.Stat(c.Kubeconfig); !os.IsNotExist(err) {
		t.Errorf("the cluster's folder: %v", err)
	}
	if _, err := c.Client.Discovery().ServerVersion(); err == nil {
		t.Error("the API server still answers")
	}
}
