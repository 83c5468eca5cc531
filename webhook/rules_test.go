package webhook

import (
	"testing"

	authentication "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/internal/kubetest"
)

// Mallory may do everything in the namespace, and is no administrator.
const role = `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"tenant","namespace":"shop"},
	"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}`

const binding = `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"tenant","namespace":"shop"},
	"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"tenant"},"subjects":[{"kind":"User","name":"mallory","apiGroup":"rbac.authorization.k8s.io"}]}`

const envoyFilters = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"envoyfilters.networking.istio.io"},
	"spec":{"group":"networking.istio.io","scope":"Namespaced","names":{"plural":"envoyfilters","singular":"envoyfilter","kind":"EnvoyFilter","listKind":"EnvoyFilterList"},
	"versions":[{"name":"v1alpha3","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`

// checkRules: what is refused beside pods, as an API server asks about it.
func checkRules(t *testing.T, g *guarded) {
	t.Helper()
	ctx := t.Context()
	if err := g.Apply(ctx, role, binding, envoyFilters); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ object, want string }{
		"a controller of such pods": {`{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"x","namespace":"shop"},"spec":{"serviceName":"x","selector":{"matchLabels":{"a":"b"}},
			"template":{"metadata":{"labels":{"a":"b"}},"spec":{"serviceAccountName":"web","hostPID":true,"containers":[{"name":"app","image":"a"}]}}}}`, "[pod-host-processes]"},
		"a job that passes for the sidecar": {`{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"x","namespace":"shop"},"spec":{"schedule":"0 0 * * *","jobTemplate":{"spec":{
			"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"meshc-proxy","image":"a"}]}}}}}}`, "[pod-reserved-name]"},
		"an alias":         {`{"apiVersion":"v1","kind":"Service","metadata":{"name":"x","namespace":"shop"},"spec":{"type":"ExternalName","externalName":"cart.shop.svc.cluster.local"}}`, "[service-external-name]"},
		"another's pods":   {`{"apiVersion":"v1","kind":"Service","metadata":{"name":"x","namespace":"shop"},"spec":{"type":"NodePort","selector":{"app":"cart"},"ports":[{"port":80}]}}`, "[service-takes-pods]"},
		"another's host":   {`{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"x","namespace":"shop"},"spec":{"defaultBackend":{"service":{"name":"a","port":{"number":80}}}}}`, "[host-wildcard]"},
		"addresses":        {`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"x","namespace":"shop","labels":{"kubernetes.io/service-name":"cart"}},"addressType":"IPv4","endpoints":[{"addresses":["10.9.9.9"]}]}`, "[endpoints-by-hand]"},
		"a filter":         {`{"apiVersion":"networking.istio.io/v1alpha3","kind":"EnvoyFilter","metadata":{"name":"x","namespace":"shop"},"spec":{}}`, "[foreign-object]"},
		"a filter of ours": {`{"apiVersion":"networking.istio.io/v1alpha3","kind":"EnvoyFilter","metadata":{"name":"x","namespace":"shop","labels":{"app.kubernetes.io/managed-by":"meshc"}},"spec":{}}`, "MESH0702"},
	} {
		refused(t, what, g.Apply(ctx, c.object), c.want)
	}
	as := rest.CopyConfig(g.Config)
	as.Impersonate = rest.ImpersonationConfig{UserName: "mallory"}
	mallory, err := kubernetes.NewForConfig(as)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(c kubernetes.Interface, audience string) error {
		_, err := c.CoreV1().ServiceAccounts("shop").CreateToken(ctx, "cart",
			&authentication.TokenRequest{Spec: authentication.TokenRequestSpec{Audiences: []string{audience}}}, metav1.CreateOptions{})
		return err
	}
	refused(t, "a token for the mesh", ask(mallory, "meshc.dev"), "[token-by-hand]")
	if err := ask(mallory, "vault"); err != nil {
		t.Errorf("another token: %v", err)
	}
	if err := ask(g.Client, "meshc.dev"); err != nil {
		t.Errorf("an administrator's: %v", err)
	}
	checkControllers(t, g.Cluster)
}

// checkControllers: the cluster's own controllers go on writing what follows from others.
func checkControllers(t *testing.T, c *kubetest.Cluster) {
	t.Helper()
	slices, err := c.Client.DiscoveryV1().EndpointSlices("shop").List(t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=cart"})
	if err != nil || len(slices.Items) == 0 {
		t.Errorf("the Service has no slices: %v", err)
	}
}
