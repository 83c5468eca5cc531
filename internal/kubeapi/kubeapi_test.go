package kubeapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"meshc.dev/meshc/internal/diag"
)

// Without a way to a cluster the text says which one was tried, and what would work.
func TestNoWayToACluster(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"broken": "{", "empty": "", "dangling": "apiVersion: v1\nkind: Config\ncurrent-context: none\n",
		"token of a pipe":     kubeconfig("tokenFile: pipe", ""),
		"key of a pipe":       kubeconfig("client-certificate: pipe, client-key: pipe", ""),
		"authority of a pipe": kubeconfig("token: x", "certificate-authority: pipe, "),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := os.OpenFile(filepath.Join(dir, "pipe"), os.O_RDWR, 0) // nobody says anything, and it does not end
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for _, a := range []Account{
		{Kubeconfig: "/dev/zero"}, {Kubeconfig: filepath.Join(dir, "pipe")}, {Kubeconfig: filepath.Join(dir, "token of a pipe")},
		{Kubeconfig: filepath.Join(dir, "key of a pipe")}, {Kubeconfig: filepath.Join(dir, "authority of a pipe")},
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

// A kubeconfig may name files beside it.
func TestKubeconfig(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"token": "secret", "good": kubeconfig("tokenFile: token", "")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Account{Kubeconfig: filepath.Join(dir, "good")}.Connect()
	if err != nil || c.Config.Host != "https://127.0.0.1:1" || c.Config.BearerTokenFile != filepath.Join(dir, "token") {
		t.Errorf("%+v, %v", c, err)
	}
}

// kubeconfig is one whose user and cluster have these fields.
func kubeconfig(user, cluster string) string {
	return fmt.Sprintf(`{clusters: [{name: c, cluster: {%sserver: "https://127.0.0.1:1"}}], users: [{name: u, user: {%s}}],
contexts: [{name: x, context: {cluster: c, user: u}}], current-context: x}`, cluster, user)
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

// What API servers answer to /version, builds of vendors among them, and what is no API
// server. Of those that are too old the text says which they are.
func TestOldClusters(t *testing.T) {
	info := func(minor, git string) string {
		return fmt.Sprintf(`{"major": "1", "minor": %q, "gitVersion": %q, "gitCommit": "6813625b7cd706db5bc7388921be03071e1a492d", "gitTreeState": "clean",
  "buildDate": "2024-03-15T00:00:00Z", "goVersion": "go1.21.8", "compiler": "gc", "platform": "linux/amd64"}`, minor, git)
	}
	for name, tc := range map[string]struct {
		status     int
		body, want string
	}{
		"1.29":             {http.StatusOK, info("29", "v1.29.3"), "is v1.29.3, and meshc needs 1.30 or later"},
		"1.29 of a vendor": {http.StatusOK, info("29+", "v1.29.15-eks-4096722"), "is v1.29.15-eks-4096722, and"},
		"1.9":              {http.StatusOK, info("9", "v1.9.11"), "is v1.9.11, and"},
		"1.30":             {http.StatusOK, info("30", "v1.30.0"), ""},
		"1.31 of a vendor": {http.StatusOK, info("31+", "v1.31.0-gke.1"), ""},
		"no version":       {http.StatusOK, `{}`, "does not say its version"},
		"no JSON":          {http.StatusOK, `<html>`, "does not say which Kubernetes it is"},
		"no such page":     {http.StatusNotFound, `{}`, "this Kubernetes API has no version"},
		"nobody may ask":   {http.StatusForbidden, `{}`, ""},
		"in trouble":       {http.StatusInternalServerError, `{}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/version" {
					t.Errorf("asked for %q", r.URL.Path)
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			}))
			defer api.Close()
			err := New(&rest.Config{Host: api.URL}).Supported(t.Context())
			var l *diag.ListError
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want == "":
			case !errors.As(err, &l) || l.List[0].Code != diag.CodeKubernetesOld || !strings.Contains(l.List[0].Text, tc.want) || !strings.Contains(l.List[0].Fix, "1.30"):
				t.Error(err)
			}
		})
	}
	if err := New(&rest.Config{Host: "http://127.0.0.1:1"}).Supported(t.Context()); err != nil {
		t.Errorf("nobody answers, which is no verdict: %v", err)
	}
}
