package templates_test

import (
	"encoding/base64"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// After a merge what is approved goes to a branch, signed by CI's key; what is not
// approved does not.
func TestWhatIsMergedIsSignedAndPushed(t *testing.T) {
	w := newWorld(t)
	robot := gittest.NewKey(t)
	review := &review{token: "of-the-job"}
	api := review.github(t)
	push := func() (bool, string) {
		t.Helper()
		head := w.author.Git("rev-parse", "refs/heads/main")
		r := w.workflow("meshc-push.yaml", map[string]string{
			"github.token": review.token, "github.sha": head, "github.event_name": "push", "secrets.MESHC_KEY": string(robot.PEM), "vars.MESHC_TRUST": w.trust,
		})
		r.api, r.checkout = api, func() string { return w.actionsCheckout("main") }
		r.workflow.Jobs["push"].Env["MESHC_PROVE"] = "true"
		return r.job("push")
	}
	w.main(&w.alice, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"6s"`)})
	approved := w.author.Git("rev-parse", "main")
	failed, out := push()
	if failed {
		t.Fatalf("%s", out)
	}
	contains(t, "log", out, " resources accepted by Envoy ", "pushed release ", `to branch "rendered/prod" of "origin"`)
	rendered := func() string {
		return w.author.Git("-C", w.origin, "cat-file", "commit", "refs/heads/rendered/prod")
	}
	contains(t, "the commit on the branch", rendered(), "gpgsig -----BEGIN SSH SIGNATURE-----", "meshc-commit: "+approved)
	contains(t, "its files", w.author.Git("-C", w.origin, "ls-tree", "-r", "--name-only", "rendered/prod"), "kubernetes/shop/service-web.yaml", "intent.git/refs/heads/main")
	if last := review.sarif[len(review.sarif)-1]; last.commit != approved || last.ref != "refs/heads/main" {
		t.Errorf("findings of %s, %s", last.commit, last.ref)
	}

	before := rendered()
	if failed, out := push(); failed || rendered() != before {
		t.Errorf("the same again: %s", out)
	} else {
		contains(t, "log", out, "nothing to push")
	}

	w.main(nil, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"7s"`)})
	if failed, out = push(); failed {
		t.Errorf("what nobody approved: %s", out)
	}
	contains(t, "the commit on the branch", rendered(), "meshc-commit: "+approved)
	contains(t, "log", out, "is not approved, what comes before it is pushed")
}

// Where a release needs a statement, CI signs it, once for each commit.
func TestTheStatementIsSignedOnce(t *testing.T) {
	w := newWorld(t)
	robot := gittest.NewKey(t)
	w.trust = replaced(t, w.trust, "  prod: {}\n", "  prod: {position: tag, statementSigners: [robot]}\n", "signers:\n", "signers:\n  robot: {keys: [{ssh: \""+robot.Public+"\"}]}\n")
	env := map[string]string{"MESHC_ENV": "prod", "MESHC_KEY": robot.File(t), "MESHC_TRUST": w.trust, "MESHC_BRANCH": "rendered/prod", "MESHC_STATEMENT": "true"}
	push := func() string {
		t.Helper()
		dir := w.actionsCheckout("main")
		for _, s := range []string{"install.sh", "push.sh"} {
			if code, out := w.run(t.Context(), dir, w.environment(env), "sh", "ci/meshc/"+s); code != 0 {
				t.Fatalf("%s: %d\n%s", s, code, out)
			}
		}
		return w.author.Git("-C", w.origin, "for-each-ref", "--format=%(refname)", "refs/tags")
	}
	w.main(&w.alice, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"6s"`)})
	for range 2 {
		if tags := push(); tags != "refs/tags/meshc/prod/1" {
			t.Errorf("tags: %q", tags)
		}
	}
	w.main(&w.alice, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"7s"`)})
	if tags := push(); tags != "refs/tags/meshc/prod/1\nrefs/tags/meshc/prod/2" {
		t.Errorf("tags: %q", tags)
	}
	contains(t, "the commit on the branch", w.author.Git("-C", w.origin, "cat-file", "commit", "refs/heads/rendered/prod"), "meshc-commit: "+w.author.Git("rev-parse", "main"))
}

// guarded is a registry that wants a user and a password.
func guarded(t *testing.T, user, password string) string {
	t.Helper()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") != want {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, q)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestGitLabPushesAnArtifact(t *testing.T) {
	w := newWorld(t)
	const password = "of the job: \"ä\\"
	host := guarded(t, "gitlab-ci-token", password)
	trust := filepath.Join(t.TempDir(), "trust.yaml") // a variable of the type file
	must(t, os.WriteFile(trust, []byte(w.trust), 0o600))
	head := w.main(&w.alice, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"6s"`)})
	p := &pipeline{world: w, variables: map[string]string{
		"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main", "CI_REGISTRY_IMAGE": host + "/shop/mesh",
		"CI_REGISTRY_USER": "gitlab-ci-token", "CI_REGISTRY_PASSWORD": password, "MESHC_TRUST": trust, "MESHC_INSECURE_REGISTRY": "true",
	}}
	dir := w.gitlabCheckout(w.origin, head, "20")
	ran, code, out := p.job("meshc push", dir, "bash")
	if !ran || code != 0 {
		t.Fatalf("%v, %d\n%s", ran, code, out)
	}
	contains(t, "log", out, "pushed release ", "to oci://"+host+"/shop/mesh/mesh:prod, sha256:")

	docker := t.TempDir()
	must(t, os.WriteFile(filepath.Join(docker, "config.json"), []byte(`{"auths": {"`+host+`": {"auth": "`+base64.StdEncoding.EncodeToString([]byte("gitlab-ci-token:"+password))+`"}}}`), 0o600))
	code, out = w.run(t.Context(), dir, w.environment(map[string]string{"DOCKER_CONFIG": docker}), built.meshc, "verify", "--repo", "oci://"+host+"/shop/mesh/mesh:prod", "--insecure-registry", "--trust", trust)
	if code != 0 {
		t.Errorf("what was pushed is not approved: %d\n%s", code, out)
	}
	contains(t, "verify", out, head[:12])

	p.variables["CI_COMMIT_BRANCH"] = "other"
	if ran, _, _ := p.job("meshc push", dir, "bash"); ran {
		t.Error("another branch is pushed")
	}
}
