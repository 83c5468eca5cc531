package install_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/install"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubetest"
)

// site is a cluster, and the objects of an installation in a namespace of its own.
type site struct {
	*kubetest.Cluster
	objects []*unstructured.Unstructured
}

func (s site) in(t *testing.T, namespace string) site {
	t.Helper()
	tree, err := install.Tree(install.Settings{Namespace: namespace, Image: "none@sha256:" + strings.Repeat("0", 64), Repository: "https://git.example/x",
		Environment: "prod", TrustDomain: "mesh.local", Poll: time.Minute, Audit: time.Minute, Trust: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	if s.objects, err = install.Render(tree, install.Single); err != nil {
		t.Fatal(err)
	}
	return s
}

// apply is what `meshc install --apply` does, to its end.
func (s site) apply(t *testing.T, c *rest.Config, force bool, tell func(install.Change)) error {
	t.Helper()
	to, err := install.NewCluster(kubeapi.New(c), force)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := to.Plan(t.Context(), s.objects)
	if err != nil {
		return err
	}
	return to.Apply(t.Context(), changes, tell)
}

func none(install.Change) {}

// changes is how many objects an apply would change.
func (s site) changes(t *testing.T) int {
	t.Helper()
	to, err := install.NewCluster(kubeapi.New(s.Config), false)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := to.Plan(t.Context(), s.objects)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range plan {
		if !c.Same() {
			n++
		}
	}
	return n
}

// refused demands problems with a code, words and a way out.
func refused(t *testing.T, err error, words ...string) {
	t.Helper()
	var list *diag.ListError
	if !errors.As(err, &list) {
		t.Errorf("got %v", err)
		return
	}
	var all string
	for _, d := range list.List {
		if d.Fix == "" {
			t.Errorf("no way out: %v", d)
		}
		all += string(d.Code) + " " + d.Text + "; " + d.Fix + "\n"
	}
	for _, w := range words {
		if !strings.Contains(all, w) {
			t.Errorf("it does not say %q:\n%s", w, all)
		}
	}
}

func TestApply(t *testing.T) {
	c := kubetest.ForTest(t, kubetest.Options{Users: []kubetest.User{{Name: "stranger"}, {Name: "half"}}})
	s := site{Cluster: c}
	t.Run("NoRights", func(t *testing.T) { s.in(t, "rights").noRights(t) })
	t.Run("Conflict", func(t *testing.T) { s.in(t, "conflict").conflict(t) })
	t.Run("Interrupted", func(t *testing.T) { s.in(t, "interrupted").interrupted(t) })
	t.Run("Deleted", func(t *testing.T) { s.in(t, "deleted").deleted(t) })
}

// Who may not do all of it changes nothing, and is told all that is missing.
func (s site) noRights(t *testing.T) {
	stranger, _, err := s.As("stranger")
	if err != nil {
		t.Fatal(err)
	}
	refused(t, s.apply(t, stranger, false, none), "MESH0650 you may not get Namespace rights", "you may not get ClusterRole rights-meshc-server", "administers the cluster")
	// Half of the rights: namespaces and what is in them, but no roles.
	if err := s.Apply(t.Context(), `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: half}
rules:
- {apiGroups: ["", apps], resources: ["*"], verbs: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: half}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: half}
subjects: [{kind: User, name: half, apiGroup: rbac.authorization.k8s.io}]
`); err != nil {
		t.Fatal(err)
	}
	half, _, err := s.As("half")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 { // authorizers follow their objects
		if err = s.apply(t, half, false, none); err != nil && !strings.Contains(err.Error(), "get Namespace") {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	refused(t, err, "MESH0650 you may not get ClusterRole rights-meshc-server")
	if _, err := s.Client.CoreV1().Namespaces().Get(t.Context(), "rights", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("something was applied: %v", err)
	}
}

// What another manager applied stays his, with an error that names him and the field, until
// it is taken by force; then he is told in his turn.
func (s site) conflict(t *testing.T) {
	if err := s.apply(t, s.Config, false, none); err != nil {
		t.Fatal(err)
	}
	sets := s.Client.AppsV1().StatefulSets("conflict")
	his, err := json.Marshal(map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": install.ServerSet}, "spec": map[string]any{"replicas": 3}})
	if err != nil {
		t.Fatal(err)
	}
	take := func(force bool) error {
		_, err := sets.Patch(t.Context(), install.ServerSet, types.ApplyPatchType, his, metav1.PatchOptions{FieldManager: "scaler", Force: &force})
		return err
	}
	replicas := func() int32 {
		t.Helper()
		have, err := sets.Get(t.Context(), install.ServerSet, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return *have.Spec.Replicas
	}
	if err := take(true); err != nil {
		t.Fatal(err)
	}
	refused(t, s.apply(t, s.Config, false, none), "MESH0650 StatefulSet conflict/meshc-server has fields that somebody else applied", `"scaler"`, ".spec.replicas", "--force-conflicts")
	if n := replicas(); n != 3 {
		t.Errorf("%d replicas", n)
	}
	var told []install.Change
	if err := s.apply(t, s.Config, true, func(c install.Change) { told = append(told, c) }); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || len(told[0].Fields) != 1 || told[0].Fields[0] != "spec.replicas: 3 → 1" || replicas() != 1 {
		t.Errorf("taken by force: %+v, %d replicas", told, replicas())
	}
	if err := take(false); !apierrors.IsConflict(err) {
		t.Errorf("the other manager: %v", err)
	}
	// What others set beside ours is theirs.
	if _, err := sets.Patch(t.Context(), install.ServerSet, types.MergePatchType, []byte(`{"metadata":{"annotations":{"team":"a"}}}`), metav1.PatchOptions{FieldManager: "team"}); err != nil {
		t.Fatal(err)
	}
	if n := s.changes(t); n != 0 {
		t.Errorf("%d objects would change", n)
	}
}

// An apply that ends in the middle says how far it came; the next one goes on from there.
func (s site) interrupted(t *testing.T) {
	to, err := install.NewCluster(kubeapi.New(s.Config), false)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := to.Plan(t.Context(), s.objects)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := 0
	err = to.Apply(ctx, plan, func(install.Change) {
		if done++; done == 7 {
			stop()
		}
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "after 7 objects were applied") {
		t.Errorf("it ended with %v", err)
	}
	if n := s.changes(t); n != len(plan)-7 {
		t.Errorf("%d of %d objects are left, after 7", n, len(plan))
	}
	again := 0
	if err := s.apply(t, s.Config, false, func(install.Change) { again++ }); err != nil || again != len(plan)-7 {
		t.Errorf("the second time: %v, %d objects", err, again)
	}
	if n := s.changes(t); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}

// Nothing is applied where all is being deleted.
func (s site) deleted(t *testing.T) {
	if err := s.Apply(t.Context(), "{apiVersion: v1, kind: Namespace, metadata: {name: deleted}}", "{apiVersion: v1, kind: ConfigMap, metadata: {name: held, namespace: deleted, finalizers: [test.example/held]}}"); err != nil {
		t.Fatal(err)
	}
	if err := s.Client.CoreV1().Namespaces().Delete(t.Context(), "deleted", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	refused(t, s.apply(t, s.Config, false, none), "MESH0650 the API server does not take StatefulSet deleted/meshc-server: its namespace is being deleted", "kubectl wait --for=delete namespace/deleted")
	if _, err := s.Client.RbacV1().ClusterRoles().Get(t.Context(), "deleted-meshc-server", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("something was applied: %v", err)
	}
}
