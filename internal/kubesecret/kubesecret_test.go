package kubesecret_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubesecret"
	"meshc.dev/meshc/internal/kubetest"
)

// role is what the documentation says that a server needs.
func role(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/kubernetes-serving.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(raw), "```yaml\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n")
	if !ok {
		t.Fatal("the documentation has no Role")
	}
	text, _, _ := strings.Cut(rest, "```")
	return "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n" + text
}

const server = "meshc-serve"

var name = kubesecret.Name{Namespace: "meshc-system", Name: "meshc-authority"}

type cluster struct{ *kubetest.Cluster }

func newCluster(t *testing.T) cluster {
	t.Helper()
	c := cluster{kubetest.ForTest(t, kubetest.Options{Users: []kubetest.User{{Name: server}, {Name: "nobody"}}})}
	if err := c.Apply(t.Context(), `{apiVersion: v1, kind: Namespace, metadata: {name: meshc-system}}`, role(t), `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: meshc-serve, namespace: meshc-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: meshc-serve}
subjects: [{kind: User, name: meshc-serve, apiGroup: rbac.authorization.k8s.io}]
`, empty); err != nil {
		t.Fatal(err)
	}
	return c
}

const empty = `{apiVersion: v1, kind: Secret, metadata: {name: meshc-authority, namespace: meshc-system}}`

func (c cluster) store(t *testing.T, user string, of kubesecret.Name) kept.Store {
	t.Helper()
	config, _, err := c.As(user)
	if err != nil {
		t.Fatal(err)
	}
	s, err := kubesecret.New(kubeapi.New(config), of, kubesecret.RootsKey)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// replica opens the authority as a server with a state folder of its own does.
func (c cluster) replica(t *testing.T) (*ca.Authority, error) {
	t.Helper()
	return ca.Open(t.Context(), t.TempDir(), ca.Options{TrustDomain: "mesh.local", Clock: time.Now, Roots: c.store(t, server, name)})
}

func (c cluster) change(t *testing.T, do func(*core.Secret)) {
	t.Helper()
	api := c.Client.CoreV1().Secrets(name.Namespace)
	for {
		s, err := api.Get(t.Context(), name.Name, metav1.GetOptions{})
		if err == nil {
			do(s)
			_, err = api.Update(t.Context(), s, metav1.UpdateOptions{})
		}
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "modified") {
			t.Fatal(err)
		}
	}
}

func wants(t *testing.T, err error, code diag.Code, texts ...string) {
	t.Helper()
	var l *diag.ListError
	if !errors.As(err, &l) || l.List[0].Code != code || l.List[0].Fix == "" {
		t.Errorf("%v, want %s with a fix", err, code)
		return
	}
	for _, text := range texts {
		if whole := fmt.Sprint(l.List[0].Text, " fix: ", l.List[0].Fix); !strings.Contains(whole, text) {
			t.Errorf("%s: want %q", whole, text)
		}
	}
}

// Servers of one cluster share one authority in a Secret, with the rights that are
// documented, and what is wrong with it is told and left alone.
func TestOneAuthorityInASecret(t *testing.T) {
	c := newCluster(t)
	ctx := t.Context()

	const replicas = 6
	all := make([]*ca.Authority, replicas)
	var group sync.WaitGroup
	for i := range all {
		group.Go(func() {
			var err error
			if all[i], err = c.replica(t); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, a := range all {
		if !a.Bundle().Equal(all[0].Bundle()) {
			t.Fatal("replicas that started at once have roots of their own")
		}
	}
	again, err := c.replica(t)
	if err != nil || !again.Bundle().Equal(all[0].Bundle()) {
		t.Fatalf("a replica that starts again: %v", err)
	}

	for i := range all { // all at once, and one does
		group.Go(func() {
			if err := all[i].Rotate(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, a := range append(all, again) {
		if _, err := a.Maintain(ctx); err != nil {
			t.Fatal(err)
		}
		if n := len(a.Fingerprints()); n != 2 || !a.Bundle().Equal(all[0].Bundle()) {
			t.Errorf("%d roots, or others than the first has", n)
		}
	}

	var whole map[string][]byte
	c.change(t, func(s *core.Secret) { whole = s.Data })
	_, key, _ := strings.Cut(string(whole[kubesecret.RootsKey]), `PRIVATE KEY-----\n`)
	key = key[:60]
	broken := func(t *testing.T, code diag.Code, texts ...string) {
		t.Helper()
		before, err := c.Client.CoreV1().Secrets(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, starts := c.replica(t)
		_, runs := all[0].Maintain(ctx)
		for _, err := range []error{starts, runs} {
			wants(t, err, code, append(texts, `Secret "meshc-system/meshc-authority"`)...)
			if err != nil && strings.Contains(err.Error(), key) {
				t.Errorf("the error shows the key: %v", err)
			}
		}
		after, err := c.Client.CoreV1().Secrets(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
		if err != nil || after.ResourceVersion != before.ResourceVersion {
			t.Errorf("it was written over: %v", err)
		}
		if all[0].Ready() != nil {
			t.Error("the running one has stopped")
		}
	}
	t.Run("garbage", func(t *testing.T) {
		c.change(t, func(s *core.Secret) { s.Data = map[string][]byte{kubesecret.RootsKey: []byte("\x00" + key)} })
		broken(t, diag.CodeAuthorityState, "no roots that this program wrote", "put its data back from a backup; or empty it", "kubectl -n meshc-system patch secret meshc-authority")
	})
	t.Run("something else's", func(t *testing.T) {
		c.change(t, func(s *core.Secret) { s.Data = map[string][]byte{"tls.key": []byte(key)} })
		broken(t, diag.CodeAuthorityState, `has the key "tls.key", which is not ours`)
	})
	t.Run("emptied", func(t *testing.T) {
		c.change(t, func(s *core.Secret) { s.Data = nil })
		if _, err := all[0].Maintain(ctx); err != nil {
			t.Fatal(err)
		}
		if a, err := c.replica(t); err != nil || !a.Bundle().Equal(all[0].Bundle()) {
			t.Errorf("not put back: %v", err)
		}
	})
	recreate := func(t *testing.T, text string) {
		t.Helper()
		if err := c.Client.CoreV1().Secrets(name.Namespace).Delete(ctx, name.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if text != "" {
			if err := c.Apply(ctx, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("another type", func(t *testing.T) {
		recreate(t, `{apiVersion: v1, kind: Secret, type: kubernetes.io/tls, metadata: {name: meshc-authority, namespace: meshc-system}, data: {tls.crt: "", tls.key: ""}}`)
		broken(t, diag.CodeAuthorityState, `is of type "kubernetes.io/tls"`)
	})
	t.Run("immutable", func(t *testing.T) {
		recreate(t, strings.Replace(empty, "kind: Secret", "kind: Secret, immutable: true", 1))
		broken(t, diag.CodeAuthorityState, "is immutable")
	})
	t.Run("gone and made again", func(t *testing.T) {
		recreate(t, "")
		_, err := all[0].Maintain(ctx)
		wants(t, err, diag.CodeAuthorityState, `there is no Secret "meshc-system/meshc-authority"`, "kubectl -n meshc-system create secret generic meshc-authority")
		_, err = c.replica(t)
		wants(t, err, diag.CodeAuthorityState, "there is no Secret")
		if err := c.Apply(ctx, empty); err != nil {
			t.Fatal(err)
		}
		if _, err := all[0].Maintain(ctx); err != nil {
			t.Fatal(err)
		}
		if a, err := c.replica(t); err != nil || !a.Bundle().Equal(all[0].Bundle()) {
			t.Errorf("not put back: %v", err)
		}
	})
	t.Run("rights", func(t *testing.T) {
		_, err := c.store(t, "nobody", name).Read(ctx)
		wants(t, err, diag.CodeKubernetesRights, "get Secret", `resourceNames: ["meshc-authority"], verbs: [get, update]`)
		_, err = c.store(t, server, kubesecret.Name{Namespace: "meshc-system", Name: "other"}).Read(ctx)
		wants(t, err, diag.CodeKubernetesRights)
	})
	t.Run("no API server", func(t *testing.T) {
		nowhere := rest.CopyConfig(c.Config)
		nowhere.Host = "https://127.0.0.1:1"
		s, err := kubesecret.New(kubeapi.New(nowhere), name, kubesecret.RootsKey)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Read(ctx)
		wants(t, err, diag.CodeKubernetesAway)
	})
	t.Run("somebody is faster", func(t *testing.T) {
		s := c.store(t, server, name)
		text, err := s.Read(ctx)
		if err != nil || text.Now.IsZero() || time.Since(text.Now).Abs() > time.Minute {
			t.Fatalf("%v, %v", text.Now, err)
		}
		c.change(t, func(s *core.Secret) { s.Labels = map[string]string{"a": "b"} })
		if _, err := s.Replace(ctx, text, text.Data); !errors.Is(err, kept.ErrConflict) {
			t.Errorf("written over: %v", err)
		}
		var won int
		var mu sync.Mutex
		if text, err = s.Read(ctx); err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			group.Go(func() {
				_, err := s.Replace(ctx, text, []byte{byte(i)})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, kept.ErrConflict) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if won != 1 {
			t.Errorf("%d replaced the same text", won)
		}
	})
}

func TestParseName(t *testing.T) {
	for text, ok := range map[string]bool{
		"secret/a/b": true, "secret/a/b.c": true, "": false, "a/b": false, "secret/a": false, "secret/a/b/c": false, "secret//b": false, "secret/a/": false,
		"secret/A/b": false, "secret/a/../b": false, "configmap/a/b": false, "secret/a/b ": false,
	} {
		if n, got := kubesecret.ParseName(text); got != ok || ok && n.String() != text {
			t.Errorf("%q: %v, %v", text, n, got)
		}
	}
}
