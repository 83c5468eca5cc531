package kubeapi

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"meshc.dev/meshc/internal/diag"
)

// Without a way to a cluster the text says which one was tried, and what would work.
func TestNoWayToACluster(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"broken": "{", "empty": "", "dangling": "apiVersion: v1\nkind: Config\ncurrent-context: none\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []Account{
		{Kubeconfig: filepath.Join(dir, "nowhere")}, {Kubeconfig: filepath.Join(dir, "broken")}, {Kubeconfig: filepath.Join(dir, "empty")}, {Kubeconfig: filepath.Join(dir, "dangling")},
		{Kubeconfig: filepath.Join(dir, "empty"), InCluster: true}, {InCluster: true},
	} {
		_, err := a.Connect()
		var l *diag.ListError
		if !errors.As(err, &l) || l.List[0].Code != diag.CodeKubeconfig || l.List[0].Fix == "" {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

// What an API server says becomes what somebody can do about it.
func TestErrorsAreExplained(t *testing.T) {
	of := schema.GroupResource{Group: "discovery.k8s.io", Resource: "endpointslices"}
	for want, err := range map[string]error{
		"MESH0616: the Kubernetes API does not let meshc watch endpointslices.discovery.k8s.io": apierrors.NewForbidden(of, "", errors.New("no")),
		"MESH0616: the Kubernetes API does not know who meshc is":                               apierrors.NewUnauthorized("no"),
		"MESH0617: this Kubernetes API has no endpointslices.discovery.k8s.io":                  apierrors.NewNotFound(of, ""),
		"MESH0615: the Kubernetes API does not answer (watch endpointslices.discovery.k8s.io)":  errors.New("connection refused"),
	} {
		d := Explain(err, "watch", "endpointslices", "discovery.k8s.io")
		if got := string(d.Code) + ": " + d.Text; !strings.HasPrefix(got, want) || d.Fix == "" {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if d := Explain(apierrors.NewForbidden(of, "", errors.New("no")), "watch", "endpointslices", "discovery.k8s.io"); !strings.Contains(d.Fix, `apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["watch"]`) {
		t.Errorf("the fix is %q", d.Fix)
	}
}
