package credentials_test

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/credentials"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/githttp"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
	"meshc.dev/meshc/internal/rendered"
	"meshc.dev/meshc/internal/rendered/registry"
)

// canary is a secret that no text may have, in any form.
const canary = "canary-7f3a9c"

// secret is a folder as it is mounted, which a test fills anew.
func secret(t *testing.T, dir string, files map[string]string) credentials.Folder {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := credentials.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// told is all that an error says, with its way out.
func told(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	var d interface{ Diagnostic() diag.Diagnostic }
	if errors.As(err, &d) {
		text += "; " + d.Diagnostic().Text + "; " + d.Diagnostic().Fix
	}
	return text
}

// says demands an error with words and without secrets.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	text := told(err)
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
	for _, s := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte("ci:" + canary))} {
		if strings.Contains(text, s) {
			t.Errorf("it tells the secret: %s", text)
		}
	}
}

// asking lets in who says a header, and says back what others said.
func asking(want string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		got := q.Header.Get("Authorization")
		if got == want {
			next.ServeHTTP(w, q)
			return
		}
		user, pass, _ := q.BasicAuth()
		said := fmt.Sprintf("ERR you said %s, %s:%s", got, user, pass)
		if strings.HasPrefix(q.URL.Path, "/broken/") { // in Git's own words
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			fmt.Fprintf(w, "001e# service=git-upload-pack\n0000%04x%s", len(said)+4, said)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, said)
	})
}

func basic(user, pass string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+pass))
}

// A private repository over https: by password, by token, by what comes later.
func TestGitOverHTTPS(t *testing.T) {
	r := gittest.New(t)
	head := r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "1"}})
	h, err := githttp.Handler(filepath.Dir(r.Dir))
	if err != nil {
		t.Fatal(err)
	}
	want := basic("ci", canary)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { asking(want, h).ServeHTTP(w, q) }))
	t.Cleanup(s.Close)
	root := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	dir := filepath.Join(t.TempDir(), "secret")
	f := secret(t, dir, nil)
	open := func(path string) *gitrepo.Repo {
		repo, err := gitrepo.Open(s.URL+path, "refs/heads/main", gitrepo.Options{Timeout: 20 * time.Second, Auth: gitrepo.Auth{Renew: func() (gitrepo.Auth, error) { return f.Git(gitrepo.HTTPS) }}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(repo.Close)
		return repo
	}
	repo := open("/" + filepath.Base(r.Dir) + "/.git")
	fetch := func(files map[string]string) error {
		t.Helper()
		secret(t, dir, files)
		snap, err := repo.Fetch(t.Context())
		if err == nil && snap.Head() != head {
			t.Errorf("head %s", snap.Head())
		}
		return err
	}
	says(t, fetch(nil), "what this address needs is not in it", "username and password, or bearerToken")
	says(t, fetch(map[string]string{"username": "ci", "ca.crt": root}), "what this address needs")
	says(t, fetch(map[string]string{"ca.crt": "none", "bearerToken": canary}), "it has no PEM certificate")
	says(t, fetch(map[string]string{"username": "ci", "password": canary}), "certificate")
	says(t, fetch(map[string]string{"username": "me", "password": canary, "ca.crt": root}), "--repo-credentials")
	if err := fetch(map[string]string{"username": "ci\n", "password": canary + "\n", "ca.crt": root}); err != nil {
		t.Error(told(err))
	}
	// It is replaced while it is followed, with a token.
	want = "Bearer " + canary
	says(t, fetch(map[string]string{"username": "ci", "password": canary, "ca.crt": root}), "--repo-credentials")
	if err := fetch(map[string]string{"bearerToken": canary, "ca.crt": root}); err != nil {
		t.Error(told(err))
	}
	want = ""
	repo = open("/broken/x.git")
	says(t, fetch(map[string]string{"username": "ci", "password": canary, "ca.crt": root}), "***")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := credentials.Open(dir); err == nil {
		t.Error("a folder that is not there was taken")
	}
}

func TestGitOverSSH(t *testing.T) {
	key, stranger := gittest.NewKey(t), gittest.NewKey(t)
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "1"}})
	address, known := gittest.SSHServer(t, filepath.Dir(r.Dir), key)
	dir := filepath.Join(t.TempDir(), "secret")
	f := secret(t, dir, nil)
	repo, err := gitrepo.Open(fmt.Sprintf("ssh://git@%s/%s/.git", address, filepath.Base(r.Dir)), "refs/heads/main",
		gitrepo.Options{Timeout: 20 * time.Second, Auth: gitrepo.Auth{Renew: func() (gitrepo.Auth, error) { return f.Git(gitrepo.SSH) }}})
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(files map[string]string) error {
		t.Helper()
		secret(t, dir, files)
		_, err := repo.Fetch(t.Context())
		return err
	}
	says(t, fetch(map[string]string{"identity": string(key.PEM)}), "identity (a private key) and known_hosts")
	says(t, fetch(map[string]string{"identity": canary, "known_hosts": known}), "SSH key", "not encrypted")
	says(t, fetch(map[string]string{"identity": string(stranger.PEM), "known_hosts": known}), "load a key that the server lets in", "identity")
	if err := fetch(map[string]string{"identity": string(key.PEM), "known_hosts": known}); err != nil {
		t.Error(told(err))
	}
}

// A registry by the logins of a Secret.
func TestRegistry(t *testing.T) {
	h := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(asking(basic("ci", canary), h))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	dir := filepath.Join(t.TempDir(), "secret")
	f := secret(t, dir, nil)
	a, err := registry.Parse(registry.Scheme+host+"/shop/mesh:prod", true)
	if err != nil {
		t.Fatal(err)
	}
	a = a.By(f)
	login := func(names ...string) map[string]string {
		var entries []string
		for _, n := range names {
			entries = append(entries, fmt.Sprintf(`%q: {"auth": %q}`, n, base64.StdEncoding.EncodeToString([]byte("ci:"+canary))))
		}
		return map[string]string{".dockerconfigjson": `{"credsStore": "none", "auths": {` + strings.Join(entries, ",") + `}}`}
	}
	push := func(files map[string]string) error {
		t.Helper()
		secret(t, dir, files)
		_, err := a.Push(t.Context(), rendered.Tree{
			Label: rendered.Label{Repository: "shop", Environment: "prod", Commit: strings.Repeat("1", 40), Release: strings.Repeat("a", 64), Place: approval.Place{Position: 1}},
			Files: []gitrepo.File{{Path: "intent.git/HEAD", Bytes: []byte("x")}},
		}, nil)
		return err
	}
	says(t, push(nil), "it is not what `docker login` writes")
	says(t, push(map[string]string{".dockerconfigjson": canary}), "it is not what `docker login` writes")
	says(t, push(login("registry.example")), "it has no login for "+host)
	says(t, push(map[string]string{".dockerconfigjson": `{"auths": {"` + host + `": {"username": "me", "password": "` + canary + `"}}}`}), "does not allow it", "--repo-credentials")
	says(t, push(map[string]string{".dockerconfigjson": `{"auths": {"` + host + `": {"auth": "` + canary + `"}}}`}), "its login for "+host+" is damaged")
	if err := push(login("registry.example", host)); err != nil {
		t.Error(told(err))
	}
	if c, err := a.Carry()(t.Context(), ""); err != nil || c.Version == "" {
		t.Error(told(err))
	}
	// The longest name decides; what only begins alike is another.
	secret(t, dir, map[string]string{".dockerconfigjson": `{"auths": {"https://r.example/": {"username": "all"}, "r.example/shop": {"username": "shop"}, "r.example/shopping": {"username": "none"}}}`})
	for name, want := range map[string]string{"r.example/shop/mesh": "shop", "r.example/other": "all"} {
		by, err := f.Resolve(resource(name))
		if err != nil {
			t.Fatal(err)
		}
		if c, err := by.Authorization(); err != nil || c.Username != want {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

// TestRegistryOfAnUnknownAuthority: ca.crt, with a login and without.
func TestRegistryOfAnUnknownAuthority(t *testing.T) {
	h := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	open := httptest.NewTLSServer(h)
	private := httptest.NewTLSServer(asking(basic("ci", canary), h))
	t.Cleanup(open.Close)
	t.Cleanup(private.Close)
	dir := filepath.Join(t.TempDir(), "secret")
	f := secret(t, dir, nil)
	push := func(s *httptest.Server, files map[string]string) error {
		t.Helper()
		secret(t, dir, files)
		a, err := registry.Parse(strings.Replace(s.URL, "https://", registry.Scheme, 1)+"/shop/mesh:prod", false)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.By(f).Trusting(f.Authority).Push(t.Context(), rendered.Tree{
			Label: rendered.Label{Repository: "shop", Environment: "prod", Commit: strings.Repeat("1", 40), Release: strings.Repeat("a", 64), Place: approval.Place{Position: 1}},
			Files: []gitrepo.File{{Path: "intent.git/HEAD", Bytes: []byte("x")}},
		}, nil)
		return err
	}
	root := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: private.Certificate().Raw}))
	login := fmt.Sprintf(`{"auths": {%q: {"username": "ci", "password": %q}}}`, strings.TrimPrefix(private.URL, "https://"), canary)
	for name, c := range map[string]struct {
		s     *httptest.Server
		files map[string]string
		want  string
	}{
		"login and authority":     {private, map[string]string{".dockerconfigjson": login, "ca.crt": root}, ""},
		"authority alone":         {open, map[string]string{"ca.crt": root}, ""},
		"no authority":            {private, map[string]string{".dockerconfigjson": login}, "certificate"},
		"no login":                {private, map[string]string{"ca.crt": root}, "does not allow it"},
		"an authority that is no": {private, map[string]string{".dockerconfigjson": login, "ca.crt": canary}, "it has no certificate"},
	} {
		err := push(c.s, c.files)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(told(err), c.want)) || err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %s", name, told(err))
		}
	}
}

// resource is a repository's name.
type resource string

var _ authn.Resource = resource("")

func (r resource) String() string { return string(r) }
func (r resource) RegistryStr() string {
	host, _, _ := strings.Cut(string(r), "/")
	return host
}
