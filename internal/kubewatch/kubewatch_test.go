package kubewatch

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/internal/kubetest"
)

// told is one thing that Follow said.
type told struct {
	values map[string][]byte
	err    error
}

// follower keeps what is told of one Secret.
type follower struct {
	t    *testing.T
	told chan told
}

func follow(t *testing.T, a API, name string) follower {
	t.Helper()
	f := follower{t, make(chan told, 1000)}
	ctx, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { end(); <-done })
	go func() {
		defer close(done)
		a.Follow(ctx, "edge", name, func(v map[string][]byte, err error) { f.told <- told{v, err} })
	}()
	return f
}

// until waits for a value of the key "k", or for an error with these words.
func (f follower) until(value, words string) {
	f.t.Helper()
	var last told
	for end := time.After(time.Minute); ; {
		select {
		case last = <-f.told:
			if last.err == nil && words == "" && string(last.values["k"]) == value {
				return
			}
			if last.err != nil && words != "" && strings.Contains(last.err.Error(), words) {
				return
			}
		case <-end:
			f.t.Fatalf("waiting for %q %q, the last that was told is %q, %v", value, words, last.values, last.err)
		}
	}
}

const rights = `
apiVersion: v1
kind: Namespace
metadata: {name: edge}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: edge, namespace: edge}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: gateway.edge, namespace: edge}
rules: [{apiGroups: [""], resources: [secrets], resourceNames: [%s], verbs: [get, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: gateway.edge, namespace: edge}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: gateway.edge}
subjects: [{kind: ServiceAccount, name: edge, namespace: edge}]
`

// A real API server, and an account that may read what a gateway's Role names.
func TestASecretIsFollowedByItsName(t *testing.T) {
	c := kubetest.ForTest(t, kubetest.Options{Audit: true})
	apply := func(text string) {
		t.Helper()
		if err := c.Apply(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name, value string) {
		t.Helper()
		apply(fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: %s, namespace: edge}, stringData: {k: %q}}", name, value))
	}
	remove := func(name string) {
		t.Helper()
		if err := c.Client.CoreV1().Secrets("edge").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	apply(fmt.Sprintf(rights, "named"))
	put("other", "private")
	a := way(t, c, token(t, c))

	named, other := follow(t, a, "named"), follow(t, a, "other")
	named.until("", "there is no Secret edge/named: make it, as `kubectl -n edge create secret tls named")
	other.until("", "does not let this pod watch Secret edge/other: apply the release's objects")
	put("named", "one")
	named.until("one", "")
	put("named", "two")
	named.until("two", "")
	remove("named")
	named.until("", "there is no Secret edge/named")
	put("named", "three")
	named.until("three", "")

	apply(fmt.Sprintf(rights, "named, other"))
	other.until("private", "")

	// What was asked for is what the Role allows, and nothing that it does not.
	asked, err := c.Asked()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, x := range asked {
		if x.User == "system:serviceaccount:edge:edge" {
			seen[x.Verb+" "+x.Resource] = true
			if x.Namespace != "edge" || x.Resource != "secrets" || x.Name != "named" && x.Name != "other" {
				t.Errorf("it asked for %+v", x)
			}
		}
	}
	if len(seen) != 2 || !seen["get secrets"] || !seen["watch secrets"] {
		t.Errorf("it used %v", seen)
	}
}

// What a gateway's Role does not name stays closed to its account, however it asks.
func TestTheRoleNamesAllThatCanBeRead(t *testing.T) {
	c := kubetest.ForTest(t, kubetest.Options{})
	if err := c.Apply(t.Context(), fmt.Sprintf(rights, "named")); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		verb, object string
		want         string
	}{
		{"get", "secret/named", "yes"}, {"watch", "secret/named", "yes"},
		{"get", "secret/other", "no"}, {"watch", "secret/other", "no"}, {"get", "secrets", "no"}, {"watch", "secrets", "no"},
		{"list", "secrets", "no"}, {"list", "secret/named", "no"}, {"update", "secret/named", "no"}, {"create", "secrets", "no"}, {"delete", "secret/named", "no"},
	} {
		for end := time.Now().Add(time.Minute); ; { // an API server judges by roles as it has seen them
			out, err := c.Kubectl(t.Context(), "auth", "can-i", x.verb, x.object, "-n", "edge", "--as", "system:serviceaccount:edge:edge")
			got := strings.TrimSpace(out)
			if got == x.want {
				break
			}
			if got == "yes" || time.Now().After(end) {
				t.Errorf("%s %s: %q (%v), want %s", x.verb, x.object, got, err, x.want)
				break
			}
		}
	}
}

// Each way in which an API server may not be there is told, and mends itself.
func TestWhatIsWrongWithTheWayThere(t *testing.T) {
	c := kubetest.ForTest(t, kubetest.Options{})
	if err := c.Apply(t.Context(), fmt.Sprintf(rights, "named"), "{apiVersion: v1, kind: Secret, metadata: {name: named, namespace: edge}, stringData: {k: one}}"); err != nil {
		t.Fatal(err)
	}
	good := token(t, c)
	for name, x := range map[string]struct {
		spoil func(*API)
		words string
	}{
		"nobody there":   {func(a *API) { a.Address = "127.0.0.1:1" }, "the Kubernetes API at 127.0.0.1:1 does not answer about Secret edge/named"},
		"no token":       {func(a *API) { remove(t, a.Token) }, "the pod's token for the Kubernetes API cannot be read"},
		"a false token":  {func(a *API) { write(t, a.Token, "false") }, "does not know the pod's token"},
		"no roots":       {func(a *API) { remove(t, a.Roots) }, "the roots of the Kubernetes API cannot be read"},
		"no certificate": {func(a *API) { write(t, a.Roots, "none") }, "has no certificates in PEM"},
		"foreign roots":  {func(a *API) { write(t, a.Roots, string(c.WebhookClientCA)) }, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			a := way(t, c, good)
			spoilt := a
			x.spoil(&spoilt)
			f := follow(t, spoilt, "named")
			f.until("", x.words)
			if spoilt != a {
				return // another address is not mended
			}
			write(t, a.Token, good)
			write(t, a.Roots, string(c.CA))
			f.until("one", "")
		})
	}
}

// token is one of the account for the API server, as a kubelet would lay it.
func token(t *testing.T, c *kubetest.Cluster) string {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for {
		got, err := c.Client.CoreV1().ServiceAccounts("edge").CreateToken(t.Context(), "edge", &authv1.TokenRequest{}, metav1.CreateOptions{})
		if err == nil {
			return got.Status.Token
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func way(t *testing.T, c *kubetest.Cluster, token string) API {
	t.Helper()
	u, err := url.Parse(c.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a := API{Address: u.Host, Token: filepath.Join(dir, "token"), Roots: filepath.Join(dir, corev1.ServiceAccountRootCAKey)}
	write(t, a.Token, token)
	write(t, a.Roots, string(c.CA))
	return a
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
