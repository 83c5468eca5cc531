package templates_test

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// blocks are the commands in docs/ci.md, by the heading that they stand under, in order.
func blocks(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/ci.md")
	must(t, err)
	out, heading, inside := map[string][]string{}, "", false
	for line := range strings.Lines(string(text)) {
		switch {
		case inside && line == "```\n":
			inside = false
		case inside:
			out[heading][len(out[heading])-1] += line
		case line == "```sh\n":
			inside = true
			out[heading] = append(out[heading], "")
		case strings.HasPrefix(line, "```"):
			t.Errorf("a block that is not run: %q", line)
		case strings.HasPrefix(line, "#"):
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
	}
	return out
}

// Every command in docs/ci.md is run, in its order.
func TestEveryCommandOfTheDocumentIsRun(t *testing.T) {
	said := blocks(t)
	w := newWorld(t)
	robot := gittest.NewKey(t)
	host := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(host.Close)
	run := func(heading, dir string, want ...string) {
		t.Helper()
		if len(said[heading]) == 0 {
			t.Fatalf("%q has no commands", heading)
		}
		env := w.environment(map[string]string{"REGISTRY": strings.TrimPrefix(host.URL, "http://"), "MESHC_INSECURE_REGISTRY": "true", "MESHC_BIN": filepath.Join(w.home, "bin")})
		env = append(env, "PATH="+filepath.Join(w.home, "bin")+string(filepath.ListSeparator)+os.Getenv("PATH"))
		code, out := w.run(t.Context(), dir, env, "bash", "-e", "-u", "-o", "pipefail", "-c", strings.Join(said[heading], "\n"))
		if code != 0 {
			t.Fatalf("%s: %d\n%s", heading, code, out)
		}
		contains(t, heading, out, want...)
		delete(said, heading)
	}

	// In a repository without CI the templates arrive as they are.
	said["Set up"] = append(said["Set up"], append(said["GitHub"], said["GitLab"]...)...)
	delete(said, "GitHub")
	delete(said, "GitLab")
	fresh := t.TempDir()
	run("Set up", fresh)
	for from, to := range map[string]string{"scripts/judge.sh": "ci/meshc/judge.sh", "scripts/version": "ci/meshc/version", "github/meshc-change.yaml": ".github/workflows/meshc-change.yaml", "gitlab/meshc.yaml": ".gitlab-ci.yml"} {
		a, err := os.ReadFile(from)
		must(t, err)
		if b, err := os.ReadFile(filepath.Join(fresh, to)); err != nil || string(a) != string(b) {
			t.Errorf("%s is not %s: %v", to, from, err)
		}
	}

	head := w.change(w.root, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"6s"`)}, "refs/pull/7/head")
	dir := w.gitlabCheckout(w.origin, head, "1")
	parent := filepath.Dir(dir)
	must(t, os.WriteFile(filepath.Join(parent, "trust.yaml"), []byte(w.trust), 0o600))
	must(t, os.WriteFile(filepath.Join(parent, "ci_key"), robot.PEM, 0o600))
	run("Any other CI", dir, "timeout 5s → 6s", "valid: ", `to branch "rendered/prod" of "origin"`, "/shop/mesh:prod, sha256:")
	run("By hand", w.gitlabCheckout(w.origin, head, "1"), "valid: ", "timeout 5s → 6s")
	for heading := range said {
		t.Errorf("the commands under %q are not run", heading)
	}
}
