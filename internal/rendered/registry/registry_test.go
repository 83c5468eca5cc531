package registry_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/rendered"
	"meshc.dev/meshc/internal/rendered/registry"
)

// server is a registry of go-containerregistry's, behind whatever wrap makes of it.
func server(t *testing.T, wrap func(http.Handler) http.Handler) *httptest.Server {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	h := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func at(t *testing.T, s *httptest.Server, rest string) registry.Artifact {
	t.Helper()
	a, err := registry.Parse(registry.Scheme+strings.TrimPrefix(s.URL, "http://")+"/"+rest, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func reference(t *testing.T, s *httptest.Server, rest string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(strings.TrimPrefix(s.URL, "http://") + "/" + rest)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tree(n int64) rendered.Tree {
	commit := strings.Repeat(string("0123456789abcdef"[n%16]), 40)
	return rendered.Tree{
		Label: rendered.Label{Repository: "shop", Environment: "prod", Commit: commit, Release: strings.Repeat("a", 64), Place: approval.Place{Position: n}},
		Files: []gitrepo.File{{Path: "intent.git/HEAD", Bytes: []byte(fmt.Sprint(n))}, {Path: "kubernetes/a/b.yaml", Bytes: []byte("b")}},
	}
}

func push(t *testing.T, a registry.Artifact, n int64) (registry.Pushed, error) {
	t.Helper()
	return a.Push(context.Background(), tree(n), nil)
}

func carry(t *testing.T, a registry.Artifact, have string) (gitrepo.Carried, error) {
	t.Helper()
	return a.Carry()(context.Background(), have)
}

func wantCode(t *testing.T, err error, code diag.Code, text string) {
	t.Helper()
	var d interface{ Diagnostic() diag.Diagnostic }
	if !errors.As(err, &d) || d.Diagnostic().Code != code || !strings.Contains(err.Error(), text) || d.Diagnostic().Fix == "" {
		t.Errorf("got %v, want %s with %q", err, code, text)
	}
}

func TestAddresses(t *testing.T) {
	for address, insecure := range map[string]bool{
		"oci://ghcr.io/shop/mesh:prod": false, "oci://localhost:5000/mesh:prod": true, "oci://127.0.0.1:5000/mesh:prod": true, "oci://[::1]:5000/mesh:prod": true,
		"oci://registry.example:5000/a/b@sha256:" + strings.Repeat("a", 64): false,
	} {
		if a, err := registry.Parse(address, insecure); err != nil || a.String() != address {
			t.Errorf("%s: %v, %v", address, a, err)
		}
	}
	for address, insecure := range map[string]bool{
		"https://ghcr.io/shop/mesh:prod": false, "oci://": false, "oci://mesh:prod": false, "oci://shop/mesh:prod": false, "oci://ghcr.io/shop/mesh": false,
		"oci://ghcr.io/shop/mesh@sha256:abc": false, "oci://user:hidden@ghcr.io/shop/mesh:prod": false, "oci://ghcr.io/shop/mesh:prod?x": false,
		"oci://ghcr.io/SHOP/mesh:prod": false, "oci://ghcr.io/../mesh:prod": false, "oci://ghcr.io/shop/mesh:prod#x": true, "oci://registry.example/mesh:prod": true, "oci://10.0.0.1/mesh:prod": true,
	} {
		_, err := registry.Parse(address, insecure)
		if err == nil {
			t.Errorf("%s is taken", address)
		}
		wantCode(t, err, diag.CodeGitSource, "artifact ")
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("a password is shown: %v", err)
		}
	}
}

// An artifact goes there and back; the same tree is the same digest, in any registry.
func TestThereAndBack(t *testing.T) {
	one, two := server(t, nil), server(t, nil)
	p, err := push(t, at(t, one, "mesh:prod"), 1)
	if err != nil || !p.New || !strings.HasPrefix(p.Digest, "sha256:") {
		t.Fatalf("%+v, %v", p, err)
	}
	if again, err := push(t, at(t, one, "mesh:prod"), 1); err != nil || again.New || again.Digest != p.Digest {
		t.Errorf("%+v, %v", again, err)
	}
	if q, err := push(t, at(t, two, "other/mesh:1"), 1); err != nil || q.Digest != p.Digest {
		t.Errorf("%+v, %v", q, err)
	}
	for _, ref := range []string{"mesh:prod", "mesh@" + p.Digest} {
		c, err := carry(t, at(t, one, ref), "")
		if err != nil || c.Version != p.Digest || len(c.Files) != 1 || c.Files[0].Path != "HEAD" || string(c.Files[0].Bytes) != "1" {
			t.Fatalf("%s: %+v, %v", ref, c, err)
		}
		if c, err := carry(t, at(t, one, ref), p.Digest); err != nil || c.Files != nil {
			t.Errorf("%s: brought again: %+v, %v", ref, c, err)
		}
	}
	// What Flux's OCIRepository takes.
	img, err := remote.Image(reference(t, one, "mesh:prod"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil || len(m.Layers) != 1 || m.Config.MediaType != registry.ConfigType || m.Layers[0].MediaType != registry.LayerType ||
		m.Annotations["dev.meshc.environment"] != "prod" || m.Annotations["org.opencontainers.image.revision"] != "sha1:"+tree(1).Label.Commit {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestTagsKeepTheirOrder(t *testing.T) {
	s := server(t, nil)
	a := at(t, s, "mesh:prod")
	for _, n := range []int64{1, 3} {
		if _, err := push(t, a, n); err != nil {
			t.Fatal(err)
		}
	}
	_, err := push(t, a, 2)
	wantCode(t, err, diag.CodePush, "which was approved after")
	back := tree(2)
	back.Label.Place.Rollbacks = 1
	if p, err := a.Push(t.Context(), back, nil); err != nil || !p.New {
		t.Errorf("a rollback: %v", err)
	}
	other := tree(9)
	other.Label.Environment = "next"
	_, err = a.Push(t.Context(), other, nil)
	wantCode(t, err, diag.CodePush, `environment "prod"`)
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference(t, s, "mesh:foreign"), img); err != nil {
		t.Fatal(err)
	}
	_, err = push(t, at(t, s, "mesh:foreign"), 1)
	wantCode(t, err, diag.CodePush, "not pushed by meshc")
	_, err = push(t, at(t, s, "mesh@sha256:"+strings.Repeat("a", 64)), 1)
	wantCode(t, err, diag.CodePush, "no place to push to")
	_, err = carry(t, at(t, s, "mesh:none"), "")
	wantCode(t, err, diag.CodeGitMissing, "does not have it")
}

// Progress comes to its end.
func TestProgress(t *testing.T) {
	var done, total int64
	if _, err := at(t, server(t, nil), "mesh:prod").Push(t.Context(), tree(1), func(d, n int64) { done, total = d, n }); err != nil {
		t.Fatal(err)
	}
	if done == 0 || done != total {
		t.Errorf("%d of %d", done, total)
	}
}

// The user of the docker config is who pushes and reads, and nobody is told the password.
func TestCredentials(t *testing.T) {
	const password = "hidden-7"
	s := server(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if user, pass, ok := q.BasicAuth(); !ok || user != "ci" || pass != password {
				w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, q)
		})
	})
	a := at(t, s, "mesh:prod")
	_, err := push(t, a, 1)
	wantCode(t, err, diag.CodeGitFetch, "does not allow it (401)")
	login := func(password string) {
		config, err := json.Marshal(map[string]any{"auths": map[string]any{strings.TrimPrefix(s.URL, "http://"): map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("ci:" + password))}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), config, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	login("wrong-" + password)
	_, err = push(t, a, 1)
	wantCode(t, err, diag.CodeGitFetch, "does not allow it (401)")
	if strings.Contains(err.Error(), password) {
		t.Errorf("the password is shown: %v", err)
	}
	login(password)
	if _, err := push(t, a, 1); err != nil {
		t.Fatal(err)
	}
	if c, err := carry(t, a, ""); err != nil || len(c.Files) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

// A registry that stumbles is asked again.
func TestServerErrorsAreTriedAgain(t *testing.T) {
	var fail atomic.Int32
	s := server(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if strings.Contains(q.URL.Path, "/manifests/") && fail.Add(1)%2 == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			h.ServeHTTP(w, q)
		})
	})
	a := at(t, s, "mesh:prod")
	if _, err := push(t, a, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := carry(t, a, ""); err != nil {
		t.Error(err)
	}
	down := server(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	})
	_, err := carry(t, at(t, down, "mesh:prod"), "")
	wantCode(t, err, diag.CodeGitFetch, "503")
}

// changed answers some paths itself.
func changed(change func(w http.ResponseWriter, q *http.Request) bool) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.Method == http.MethodGet && change(w, q) {
				return
			}
			h.ServeHTTP(w, q)
		})
	}
}

// A registry is anybody: each of these ends within bounds, and nothing else is reached.
func TestHostileRegistries(t *testing.T) {
	var reached atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer elsewhere.Close()
	endless := func(w http.ResponseWriter) {
		for b := bytes.Repeat([]byte(" "), 1<<20); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}
	manifest := func(q *http.Request) bool { return strings.Contains(q.URL.Path, "/manifests/") }
	blob := func(q *http.Request) bool { return strings.Contains(q.URL.Path, "/blobs/") }
	var on atomic.Bool
	for name, c := range map[string]struct {
		change func(w http.ResponseWriter, q *http.Request) bool
		code   diag.Code
		text   string
	}{
		"a manifest elsewhere": {func(w http.ResponseWriter, q *http.Request) bool {
			if manifest(q) {
				http.Redirect(w, q, elsewhere.URL, http.StatusTemporaryRedirect)
			}
			return manifest(q)
		}, diag.CodeGitFetch, "followed for content alone"},
		"content over plain HTTP elsewhere": {func(w http.ResponseWriter, q *http.Request) bool {
			if blob(q) {
				http.Redirect(w, q, "http://storage.example/x?X-Signature=hidden", http.StatusTemporaryRedirect)
			}
			return blob(q)
		}, diag.CodeGitFetch, "plain HTTP"},
		"a cloud's credentials": {func(w http.ResponseWriter, q *http.Request) bool {
			if blob(q) {
				http.Redirect(w, q, "https://169.254.169.254/latest", http.StatusTemporaryRedirect)
			}
			return blob(q)
		}, diag.CodeGitFetch, "denied"}, // by the library, before us
		"an endless manifest": {func(w http.ResponseWriter, q *http.Request) bool {
			if manifest(q) {
				endless(w)
			}
			return manifest(q)
		}, diag.CodeGitFetch, "too long"},
		"endless content": {func(w http.ResponseWriter, q *http.Request) bool {
			if blob(q) {
				endless(w)
			}
			return blob(q)
		}, diag.CodeArtifact, "another digest"},
		"other content": {func(w http.ResponseWriter, q *http.Request) bool {
			if blob(q) {
				_, _ = w.Write([]byte("other"))
			}
			return blob(q)
		}, diag.CodeGitFetch, ""},
		"another manifest by digest": {func(w http.ResponseWriter, q *http.Request) bool {
			if strings.Contains(q.URL.Path, "/manifests/sha256:") {
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				_, _ = w.Write([]byte(`{"schemaVersion":2}`))
				return true
			}
			return false
		}, diag.CodeGitFetch, "digest"},
		"words": {func(w http.ResponseWriter, q *http.Request) bool {
			if manifest(q) {
				w.WriteHeader(http.StatusTeapot)
				_, _ = fmt.Fprintf(w, `{"errors":[{"code":"X","message":%q}]}`, strings.Repeat("buy ", 1000))
			}
			return manifest(q)
		}, diag.CodeGitFetch, "buy"},
	} {
		t.Run(name, func(t *testing.T) {
			on.Store(false)
			s := server(t, changed(func(w http.ResponseWriter, q *http.Request) bool { return on.Load() && c.change(w, q) }))
			a := at(t, s, "mesh:prod")
			if _, err := push(t, a, 1); err != nil {
				t.Fatal(err)
			}
			on.Store(true)
			got, err := carry(t, a, "")
			wantCode(t, err, c.code, c.text)
			if got.Files != nil || (err != nil && (len(err.Error()) > 700 || strings.Contains(err.Error(), "hidden"))) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	if reached.Load() > 0 {
		t.Error("another server was reached")
	}
}

// What is in a registry may be anything.
func TestOtherArtifacts(t *testing.T) {
	s := server(t, nil)
	two, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	index, err := random.Index(100, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	one, err := random.Image(100, 1) // of Docker's type, and no mesh
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(remote.Write(reference(t, s, "xx:two"), two), remote.Write(reference(t, s, "xx:one"), one),
		remote.WriteIndex(reference(t, s, "xx:index"), index)); err != nil {
		t.Fatal(err)
	}
	for tag, code := range map[string]diag.Code{"two": diag.CodeArtifact, "index": diag.CodeArtifact, "one": diag.CodeNoEvidence} {
		c, err := carry(t, at(t, s, "xx:"+tag), "")
		if err != nil || c.Refused == nil || c.Refused.Code != code || c.Version == "" {
			t.Errorf("%s: %+v, %v", tag, c, err)
		}
	}
	if _, err := push(t, at(t, s, "mesh:prod"), 1); err != nil {
		t.Fatal(err)
	}
	small := rendered.DefaultLimits()
	small.Packed = 50
	c, err := carry(t, at(t, s, "mesh:prod").Within(small), "")
	if err != nil || c.Refused == nil || !strings.Contains(c.Refused.Reason, "more than 50 bytes") {
		t.Errorf("%+v, %v", c, err)
	}
}

// Without the flag nothing is said in the clear, not even to this machine.
func TestPlainHTTPTakesTheFlag(t *testing.T) {
	var asked atomic.Int32
	s := server(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { asked.Add(1); h.ServeHTTP(w, q) })
	})
	a, err := registry.Parse(registry.Scheme+strings.TrimPrefix(s.URL, "http://")+"/mesh:prod", false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = push(t, a, 1)
	wantCode(t, err, diag.CodeGitFetch, "reading oci://")
	if asked.Load() > 0 {
		t.Errorf("asked %d times", asked.Load())
	}
}
