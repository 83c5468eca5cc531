package fluxsource_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/internal/rendered"
	"meshc.dev/meshc/internal/rendered/fluxsource"
)

func TestAddresses(t *testing.T) {
	for _, good := range []string{"flux://gitrepository/flux-system/mesh", "flux://ocirepository/a/b.c"} {
		if s, err := fluxsource.Parse(good); err != nil || s.String() != good {
			t.Errorf("%q: %v, %v", good, s, err)
		}
	}
	for _, bad := range []string{"flux://", "flux://bucket/a/b", "flux://gitrepository/a", "flux://gitrepository/a/b/c", "flux://gitrepository//b", "flux://gitrepository/../b", "flux://gitrepository/a/B"} {
		_, err := fluxsource.Parse(bad)
		wantCode(t, err, diag.CodeGitSource, "no source of Flux's")
	}
}

// What Flux installs, as far as it matters here: source-controller itself is another's test.
const definition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gitrepositories.source.toolkit.fluxcd.io}
spec:
  group: source.toolkit.fluxcd.io
  scope: Namespaced
  names: {kind: GitRepository, plural: gitrepositories, singular: gitrepository, listKind: GitRepositoryList}
  versions:
  - {name: v1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

// site is a cluster with a source, and a server of artifacts.
type site struct {
	cluster *kubetest.Cluster
	server  *httptest.Server
	answer  atomic.Pointer[http.HandlerFunc]
	repo    *gitrepo.Repo
}

func (s *site) open(t *testing.T) {
	t.Helper()
	src, err := fluxsource.Parse("flux://gitrepository/default/mesh")
	if err != nil {
		t.Fatal(err)
	}
	carry, err := src.Carry(kubeapi.New(s.cluster.Config), rendered.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if s.repo, err = gitrepo.OpenCarried(src.String(), "refs/heads/main", carry, gitrepo.Options{}); err != nil {
		t.Fatal(err)
	}
}

// serve answers with these bytes.
func (s *site) serve(raw []byte) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) })
	s.answer.Store(&h)
}

// status says what source-controller would.
func (s *site) status(t *testing.T, status map[string]any) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		t.Fatal(err)
	}
	r := s.cluster.Dynamic.Resource(schema.GroupVersionResource{Group: "source.toolkit.fluxcd.io", Version: "v1", Resource: "gitrepositories"}).Namespace("default")
	if _, err := r.Patch(t.Context(), "mesh", types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
}

func artifact(url, digest string) map[string]any {
	return map[string]any{"artifact": map[string]any{"url": url, "digest": digest, "path": "x.tar.gz", "revision": "rendered/prod@sha1:0", "lastUpdateTime": "2026-01-02T12:00:00Z"}}
}

func sha(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (s *site) refused(t *testing.T, code diag.Code, text string) {
	t.Helper()
	_, err := s.repo.Fetch(context.Background())
	wantCode(t, err, code, text)
}

func wantCode(t *testing.T, err error, code diag.Code, text string) {
	t.Helper()
	var d interface{ Diagnostic() diag.Diagnostic }
	if !errors.As(err, &d) || d.Diagnostic().Code != code || !strings.Contains(err.Error(), text) || d.Diagnostic().Fix == "" {
		t.Errorf("got %v, want %s with %q", err, code, text)
	}
}

func archive(t *testing.T, r *gittest.Repo) []byte {
	t.Helper()
	repo, err := gitrepo.Open(r.Dir, "refs/heads/main", gitrepo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := repo.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files, err := snap.Mirror()
	if err != nil {
		t.Fatal(err)
	}
	var tree rendered.Tree
	for _, f := range files {
		tree.Files = append(tree.Files, gitrepo.File{Path: rendered.IntentDir + "/" + f.Path, Bytes: f.Bytes})
	}
	raw, err := tree.Archive()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// A source on a real API server, from before it exists until the API server is gone.
func TestSource(t *testing.T) {
	c, err := kubetest.Start(t.Context(), kubetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	s := &site{cluster: c}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { (*s.answer.Load())(w, q) }))
	t.Cleanup(s.server.Close)
	s.open(t)
	s.refused(t, diag.CodeGitMissing, "no such object")
	if err := c.Apply(t.Context(), definition, "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: mesh, namespace: default}\n"); err != nil {
		t.Fatal(err)
	}
	s.refused(t, diag.CodeGitMissing, "Flux has not fetched it yet")
	s.status(t, map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "False", "message": "authentication required"}}})
	s.refused(t, diag.CodeGitMissing, "Flux has not fetched it yet: authentication required")

	s.status(t, artifact(s.server.URL, ""))
	s.refused(t, diag.CodeArtifact, "no digest")
	r := gittest.New(t)
	head := r.Commit(gittest.Commit{Files: map[string]string{"mesh.cue": "1"}})
	raw := archive(t, r)
	var good *gitrepo.Snapshot
	t.Run("an artifact", func(t *testing.T) { good = s.follows(t, raw, head) })
	t.Run("others", func(t *testing.T) { s.hostile(t, raw) })
	s.serve(raw)
	s.status(t, artifact(s.server.URL, sha(raw)))
	c.Stop()
	if _, err := s.repo.Fetch(context.Background()); err == nil {
		t.Error("an API server that is gone has an artifact")
	} else {
		wantCode(t, err, diag.CodeKubernetesAway, "does not answer")
	}
	if _, err := good.Commit(head); err != nil {
		t.Errorf("what was read before is gone: %v", err)
	}
}

// follows takes an artifact once, and again only when its digest is another.
func (s *site) follows(t *testing.T, raw []byte, head string) *gitrepo.Snapshot {
	t.Helper()
	var asked atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable) // a controller that restarts
			return
		}
		_, _ = w.Write(raw)
	})
	s.answer.Store(&h)
	s.status(t, artifact(s.server.URL+"/a.tar.gz", sha(raw)))
	first, err := s.repo.Fetch(context.Background())
	if err != nil || first.Head() != head {
		t.Fatal(err)
	}
	if again, err := s.repo.Fetch(context.Background()); err != nil || again != first || asked.Load() != 2 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
	long := sha512.Sum512(raw)
	s.status(t, artifact(s.server.URL+"/a.tar.gz", "sha512:"+hex.EncodeToString(long[:])))
	if again, err := s.repo.Fetch(context.Background()); err != nil || again.Head() != head || asked.Load() != 3 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
	return first
}

func (s *site) hostile(t *testing.T, raw []byte) {
	other := bytes.Clone(raw)
	other[len(other)-1] ^= 1
	s.serve(other)
	s.status(t, artifact(s.server.URL, sha(raw)))
	s.refused(t, diag.CodeArtifact, "what was fetched has sha256:"+strings.TrimPrefix(sha(other), "sha256:"))
	for _, digest := range []string{"", "md5:abc", "sha256:", sha(raw)[:20]} {
		s.serve(raw)
		s.status(t, artifact(s.server.URL, digest))
		s.refused(t, diag.CodeArtifact, "digest")
	}
	for name, c := range map[string]struct {
		url, text string
		code      diag.Code
	}{
		"a file":                     {"file:///etc/passwd", "no plain http or https URL", diag.CodeGitFetch},
		"credentials":                {strings.Replace(s.server.URL, "://", "://u:hidden@", 1), "no plain http or https URL", diag.CodeGitFetch},
		"a cloud's credentials":      {"http://169.254.169.254/latest", "not fetched from there", diag.CodeGitFetch},
		"the same as IPv6":           {"http://[::ffff:169.254.169.254]/latest", "not fetched from there", diag.CodeGitFetch},
		"nobody":                     {"http://127.0.0.1:1/x", "127.0.0.1:1", diag.CodeGitFetch},
		"something that is no text%": {"http://%zz", "no plain http or https URL", diag.CodeGitFetch},
	} {
		t.Run(name, func(t *testing.T) {
			s.status(t, artifact(c.url, sha(raw)))
			s.refused(t, c.code, c.text)
		})
	}
	var reached atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reached.Store(true); _, _ = w.Write(raw) }))
	defer elsewhere.Close()
	redirect := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, elsewhere.URL, http.StatusFound) })
	s.answer.Store(&redirect)
	s.status(t, artifact(s.server.URL, sha(raw)))
	s.refused(t, diag.CodeGitFetch, "it answers 302")
	if reached.Load() {
		t.Error("a redirect was followed")
	}
	endless := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for b := make([]byte, 1<<20); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	s.answer.Store(&endless)
	s.refused(t, diag.CodeArtifact, "digest")
	// A tarball of the intent itself has no commits; nothing is asked for again.
	plain, err := rendered.Tree{Files: []gitrepo.File{{Path: "mesh.cue", Bytes: []byte("1")}}}.Archive()
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	count := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); _, _ = w.Write(plain) })
	s.answer.Store(&count)
	s.status(t, artifact(s.server.URL, sha(plain)))
	for range 2 {
		s.refused(t, diag.CodeNoEvidence, "it has no intent.git")
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
	s.status(t, map[string]any{"artifact": map[string]any{"url": map[string]any{}, "digest": fmt.Sprint(1)}})
	_, err = s.repo.Fetch(context.Background())
	wantCode(t, err, diag.CodeArtifact, "cannot be read")
}
