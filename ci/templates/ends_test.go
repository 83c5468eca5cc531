package templates_test

import (
	"os"
	"path/filepath"
	"testing"
)

// Scripts end with the codes that docs/ci.md says, whatever Git, curl or the shell end
// with: 2 would be "something served changes". What is misspelt is told.
func TestScriptsEndAsTheySay(t *testing.T) {
	w := newWorld(t)
	dir := w.actionsCheckout("main")
	change := map[string]string{"MESHC_TARGET": "main", "MESHC_SOURCE": "refs/heads/main"}
	for name, c := range map[string]struct {
		script string
		more   map[string]string
		code   int
		says   string
	}{
		"no target":          {"judge.sh", map[string]string{"MESHC_TARGET": ""}, 1, "name the branch that the change is for"},
		"a target not there": {"judge.sh", map[string]string{"MESHC_TARGET": "nope"}, 1, "refs/heads/nope"},
		"no remote":          {"fetch.sh", map[string]string{"MESHC_REMOTE": "nope"}, 1, "'nope' does not appear to be a git repository"},
		"moved on":           {"fetch.sh", map[string]string{"MESHC_HEAD": "0123"}, 4, "a later run judges it"},
		"a report":           {"vet.sh", map[string]string{"MESHC_REPORTS": "junit sarfi"}, 1, "MESHC_REPORTS names sarfi, which is none"},
		"no policy":          {"push.sh", nil, 1, "the trust policy, as a file or as text"},
		"nowhere to push":    {"push.sh", map[string]string{"MESHC_TRUST": "x"}, 1, "MESHC_BRANCH or MESHC_ARTIFACT"},
		"no ref":             {"push.sh", map[string]string{"MESHC_TRUST": "x", "MESHC_BRANCH": "x", "MESHC_REF": "refs/heads/nope"}, 1, "refs/heads/nope"},
		"no token":           {"comment-github.sh", nil, 1, "GITHUB_TOKEN"},
		"nobody answers": {"comment-gitlab.sh", map[string]string{
			"MESHC_GITLAB_TOKEN": "x", "CI_API_V4_URL": "http://127.0.0.1:1", "CI_MERGE_REQUEST_PROJECT_ID": "1", "CI_MERGE_REQUEST_IID": "1",
		}, 1, "curl: "},
	} {
		t.Run(name, func(t *testing.T) {
			tmp := t.TempDir()
			env := append(w.environment(change), "TMPDIR="+tmp)
			for k, v := range c.more {
				env = append(env, k+"="+v)
			}
			code, out := w.run(t.Context(), dir, env, "sh", filepath.Join("ci/meshc", c.script))
			if code != c.code {
				t.Errorf("%d, not %d\n%s", code, c.code, out)
			}
			contains(t, "log", out, c.says)
			nothingIn(t, tmp)
		})
	}
}

// A job that is cancelled leaves no key behind.
func TestACancelledPushLeavesNoKey(t *testing.T) {
	w := newWorld(t)
	dir := w.actionsCheckout("main")
	bin := t.TempDir()
	// Git, where the job is cancelled while it fetches.
	must(t, os.WriteFile(filepath.Join(bin, "git"), []byte("#!/bin/sh\ncase $1 in\nfetch) cat \"$TMPDIR\"/*/key && kill -s \"$BY\" $PPID ;;\nesac\n"), 0o700))
	for signal, code := range map[string]int{"INT": 130, "TERM": 143} {
		t.Run(signal, func(t *testing.T) {
			tmp := t.TempDir()
			env := append(w.environment(map[string]string{"MESHC_BIN": bin, "MESHC_TRUST": "x", "MESHC_KEY": "the key", "MESHC_BRANCH": "x", "BY": signal}), "TMPDIR="+tmp)
			got, out := w.run(t.Context(), dir, env, "sh", "ci/meshc/push.sh")
			if got != code || out != "the key\n" {
				t.Errorf("%d, not %d\n%s", got, code, out)
			}
			nothingIn(t, tmp)
		})
	}
}

func nothingIn(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range left {
		t.Errorf("left behind: %s", e.Name())
	}
}
