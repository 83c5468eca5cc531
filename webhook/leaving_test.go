package webhook

import (
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const elsewhere = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"elsewhere","labels":{"app.kubernetes.io/managed-by":"meshc"}},"spec":{"ports":[{"port":1}]}}`

// TestANamespaceOfTheReleaseIsBeingDeleted: its deletion began when the release had nothing
// in it. What the release has stays, the namespace says why and what to do, and doing it
// helps: it goes, and can be made again.
func TestANamespaceOfTheReleaseIsBeingDeleted(t *testing.T) {
	g := guardedCluster(t)
	ctx := t.Context()
	leave := func(to string) error { return g.Client.CoreV1().Namespaces().Delete(ctx, to, metav1.DeleteOptions{}) }
	g.elsewhere(t, func() error { return leave("shop") }) // its controller begins five seconds later
	said := ""
	g.until(t, "the namespace says why it stays", func() bool {
		ns, err := g.Client.CoreV1().Namespaces().Get(ctx, "shop", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range ns.Status.Conditions {
			if c.Type == core.NamespaceDeletionContentFailure && c.Status == core.ConditionTrue {
				said = c.Message
			}
		}
		return said != ""
	})
	for _, words := range []string{"MESH0703", "is part of the approved release and cannot be deleted", "take it out of the intent and have that approved", "a namespace that is being deleted waits"} {
		if !strings.Contains(said, words) {
			t.Errorf("%q is not in %s", words, said)
		}
	}
	if _, err := g.Client.CoreV1().Services("shop").Get(ctx, "cart", metav1.GetOptions{}); err != nil {
		t.Errorf("what the release has: %v", err)
	}
	if err := g.patch(t, "services", "cart", `{"metadata":{"annotations":{"example.com/a":"b"}}}`, false); err != nil {
		t.Errorf("what it takes at other times: %v", err)
	}
	refused(t, "an edit", g.patch(t, "services", "cart", `{"spec":{"type":"NodePort"}}`, false), "MESH0701")
	if err := leave("shop"); err != nil && !strings.Contains(err.Error(), "MESH0703") && !apierrors.IsConflict(err) {
		t.Errorf("its deletion again: %v", err)
	}

	g.elsewhere(t, func() error { // the way out
		g.until(t, "the namespace is gone", func() bool {
			_, err := g.Client.CoreV1().Namespaces().Get(ctx, "shop", metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		})
		return nil
	})
	if err := g.Apply(ctx, objects(g.release)...); err != nil {
		t.Errorf("the release again: %v", err)
	}
	refused(t, "its deletion", leave("shop"), "MESH0703")
	if at := g.server.inForce(time.Now()); at == nil {
		t.Error("no release")
	}
}

// elsewhere does something while a release holds that has nothing in namespace shop.
func (g *guarded) elsewhere(t *testing.T, do func() error) {
	t.Helper()
	g.while(t, "elsewhere/service-a.yaml", elsewhere, do)
}
