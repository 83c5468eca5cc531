package templates_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pullRequest is a pull request on GitHub, number 7.
type pullRequest struct {
	*world
	*review
	api string
}

func newPullRequest(t *testing.T) *pullRequest {
	t.Helper()
	p := &pullRequest{world: newWorld(t), review: &review{token: "of-the-job"}}
	p.api = p.github(t)
	return p
}

// judged pushes a state of the pull request and lets the workflow run. It returns whether
// the check failed, the comment and the log.
func (p *pullRequest) judged(on string, files map[string]string) (failed bool, told, log string) {
	p.t.Helper()
	head := p.change(on, files, "refs/pull/7/head")
	p.set(head)
	failed, log = p.workflowOf(head)
	comments := p.by(bot)
	if len(comments) != 1 {
		p.t.Fatalf("there are %d comments: %v\n%s", len(comments), comments, log)
	}
	contains(p.t, "comment", comments[0].body, "of "+head+" for prod ([log](https://github.example/shop/mesh/actions/runs/99))")
	return failed, comments[0].body, log
}

func (p *pullRequest) workflowOf(head string) (failed bool, log string) {
	p.t.Helper()
	r := p.workflow("meshc-change.yaml", map[string]string{
		"github.event.pull_request.number": "7", "github.event.pull_request.head.sha": head, "github.event.pull_request.base.ref": "main",
		"github.token": p.token, "github.server_url": "https://github.example", "github.repository": "shop/mesh", "github.run_id": "99",
	})
	r.api, r.checkout = p.api, func() string { return p.actionsCheckout("main") }
	failed, log = r.job("judge")
	told, more := r.job("tell")
	if told {
		p.t.Errorf("nothing was told:\n%s", more)
	}
	return failed, log + more
}

func TestPullRequestsHaveOneComment(t *testing.T) {
	p := newPullRequest(t)
	impostor := p.add("mallory", "<!-- meshc prod -->\nall is well")
	for range 150 {
		p.add("bob", "a long discussion")
	}
	main := p.root

	failed, told, log := p.judged(main, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"6s"`)})
	if failed {
		t.Errorf("a good change fails:\n%s", log)
	}
	contains(t, "first comment", told, "<!-- meshc prod -->\n<!-- meshc plan -->\n### meshc plan: ", "timeout 5s → 6s", "policies evaluated")
	first := p.by(bot)[0].id

	t.Run("the next state", func(t *testing.T) {
		failed, told, log := p.judged(main, map[string]string{"shop/shop.cue": replaced(t, shop, `"GET"`, `"GET", "POST"`)})
		if failed {
			t.Errorf("a good change fails:\n%s", log)
		}
		contains(t, "comment", told, "widening", "POST", "!timeout 5s")
	})
	t.Run("invalid", func(t *testing.T) {
		failed, told, log := p.judged(main, map[string]string{"shop/shop.cue": replaced(t, shop, "timeout", "timout")})
		if !failed {
			t.Errorf("an invalid change passes:\n%s", log)
		}
		contains(t, "comment", told, "### meshc plan: invalid", "shop/shop.cue:15:", "MESH0102", "!POST")
		contains(t, "log", log, "::error file=shop/shop.cue,line=15")
		last := p.sarif[len(p.sarif)-1]
		if last.commit != p.head || last.ref != "refs/pull/7/head" {
			t.Errorf("findings of %s, %s", last.commit, last.ref)
		}
		contains(t, "findings", last.text, `"uri": "shop/shop.cue"`, `"ruleId": "MESH0102"`)
	})
	t.Run("denied", func(t *testing.T) {
		failed, told, log := p.judged(main, map[string]string{"shop/shop.cue": replaced(t, shop, `"GET"`, `"DELETE"`)})
		if !failed {
			t.Errorf("a denied change passes:\n%s", log)
		}
		contains(t, "comment", told, "[no-delete] nobody deletes")
	})
	t.Run("a tree that no server takes", func(t *testing.T) {
		failed, told, log := p.judged(main, map[string]string{".github/x": "-> ../mesh.cue"})
		if !failed {
			t.Errorf("it passes:\n%s", log)
		}
		contains(t, "comment", told, "### meshc plan: there is none", "MESH0502", ".github/x")
		contains(t, "log", log, "::error ", "MESH0502")
		contains(t, "findings", p.sarif[len(p.sarif)-1].text, "MESH0502")
	})
	t.Run("no policy any more", func(t *testing.T) {
		failed, told, log := p.judged(main, map[string]string{"policies/no-delete.rego": ""})
		if failed {
			t.Errorf("who may, decides by the comment:\n%s", log)
		}
		contains(t, "comment", told, "### meshc plan: weakening", "policy no-delete.rego: removed")
	})
	t.Run("a new package", func(t *testing.T) {
		failed, told, log := p.judged(main, map[string]string{"more/more.cue": replaced(t, shop, "package shop", "package more", `"shop"`, `"more"`)})
		if failed {
			t.Errorf("a good change fails:\n%s", log)
		}
		contains(t, "comment", told, "more/cart")
	})
	t.Run("behind main", func(t *testing.T) {
		p.main(&p.alice, map[string]string{"other/other.cue": replaced(t, shop, "package shop", "package other", `"shop"`, `"other"`)})
		failed, told, log := p.judged(main, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"7s"`)})
		if failed {
			t.Errorf("a good change fails:\n%s", log)
		}
		contains(t, "comment", told, "timeout 5s → 7s", "!other/")
	})
	t.Run("a conflict", func(t *testing.T) {
		p.main(&p.alice, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"8s"`)})
		failed, told, log := p.judged(main, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"9s"`)})
		if !failed {
			t.Errorf("what cannot be merged passes:\n%s", log)
		}
		contains(t, "comment", told, "The change has conflicts with its target", "!timeout")
	})
	t.Run("a broken base", func(t *testing.T) {
		broken := p.main(&p.alice, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `5`)})
		failed, told, log := p.judged(broken, map[string]string{"shop/shop.cue": shop})
		if failed {
			t.Errorf("the change that repairs it fails:\n%s", log)
		}
		contains(t, "comment", told, "### meshc plan: ", "Problems of the base, not of this change", "shop/shop.cue:15:", "does not compile: compared with", "!conflicts")
	})
	t.Run("no report", func(t *testing.T) {
		// As if install.sh could not get the pinned version.
		p.main(&p.alice, map[string]string{"shop/shop.cue": shop, "ci/meshc/version": "MESHC_VERSION=v0.9.9\n"})
		failed, told, log := p.judged(p.author.Git("rev-parse", "main"), map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"9s"`)})
		if !failed {
			t.Errorf("nothing was looked at and it passes:\n%s", log)
		}
		contains(t, "comment", told, "### meshc plan: there is none", "its log says why", "!Problems")
	})

	if ours := p.by(bot); len(ours) != 1 || ours[0].id != first {
		t.Errorf("it is not the same comment all the time: %v, not %d", ours, first)
	}
	if theirs := p.by("mallory"); len(theirs) != 1 || theirs[0] != impostor {
		t.Errorf("somebody else's comment was touched: %v", theirs)
	}
}

// A run that has been overtaken, and two that were there at one time.
func TestTheNewestRunHasTheLastWord(t *testing.T) {
	p := newPullRequest(t)
	old := p.change(p.root, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"6s"`)}, "refs/pull/7/head")
	p.set(p.change(p.root, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"7s"`)}, "refs/pull/7/head"))
	failed, log := p.workflowOf(old)
	if len(p.by(bot)) != 0 || !failed {
		t.Errorf("a run that was overtaken failed: %v, and told %v\n%s", failed, p.by(bot), log)
	}
	contains(t, "log", log, "any more: a later run judges it", "a later run comments")

	one := p.add(bot, "<!-- meshc prod -->\none")
	p.add(bot, "<!-- meshc prod -->\ntwo")
	other := p.add(bot, "<!-- meshc stage -->\nof another environment")
	if failed, log := p.workflowOf(p.head); failed {
		t.Errorf("a good change fails:\n%s", log)
	}
	if ours := p.by(bot); len(ours) != 2 || ours[0].id != one.id || ours[1] != other {
		t.Errorf("comments: %v", ours)
	}
}

// wicked is a change that would rather be judged by itself.
func wicked(t *testing.T) map[string]string {
	t.Helper()
	well := "#!/bin/sh\nmkdir -p meshc-out\necho '### all is well, says the author of the change' | tee meshc-out/plan.md\n"
	out := map[string]string{
		"meshc-$CI_COMMIT_SHA/plan.md":  "### all is well, says the author of the change\n",
		"shop/shop.cue":                 replaced(t, shop, `"GET"`, `"DELETE"`),
		"policies/no-delete.rego":       "",
		"ci/meshc/version":              "MESHC_VERSION=" + evil + "\n",
		"ci/meshc/scripts/judge.sh":     well,
		"go.mod":                        "module evil\n\ngo 1.21\n\nreplace meshc.dev/meshc => ./evil\n",
		"go.work":                       "go 1.21\n\nuse ./evil\n",
		"evil/go.mod":                   "module meshc.dev/meshc\n\ngo 1.21\n",
		"evil/cmd/meshc/main.go":        evilMeshc,
		"meshc-out/plan.md":             "### all is well, says the author of the change\n",
		".gitattributes":                "* merge=evil filter=evil export-ignore\n",
		".gitlab-ci.yml":                "all well: {script: [\"true\"]}\n",
		".github/workflows/meshc.yaml":  "on: pull_request_target\n",
		"ci/meshc/sneaked-in.sh":        well,
		"cue.mod/pkg/evil.example/x.go": evilMeshc,
	}
	for _, s := range []string{"install.sh", "judge.sh", "fetch.sh", "plan.sh", "vet.sh", "comment.sh", "comment-github.sh", "comment-gitlab.sh"} {
		out["ci/meshc/"+s] = well
	}
	return out
}

// A fork's pull request changes neither what judges it nor what with.
func TestAForkCannotChangeItsJudge(t *testing.T) {
	p := newPullRequest(t)
	failed, told, log := p.judged(p.root, wicked(t))
	if !failed {
		t.Errorf("it passes:\n%s", log)
	}
	contains(t, "comment", told, "[no-delete] nobody deletes", "widening", "policy no-delete.rego: removed", "!all is well")
	contains(t, "log", log, "!all is well")
}

// With any other CI the scripts are called in whatever it has checked out: here what
// GitHub makes for the event pull_request, one commit, detached, a merge.
func TestScriptsInAMergeCheckout(t *testing.T) {
	w := newWorld(t)
	head := w.change(w.root, map[string]string{"shop/shop.cue": replaced(t, shop, `"GET"`, `"DELETE"`), "policies/no-delete.rego": ""}, "refs/pull/7/head")
	dir := w.mergeCheckout("7", head)
	env := w.environment(map[string]string{"MESHC_TARGET": "main", "MESHC_SOURCE": "refs/pull/7/head", "MESHC_HEAD": head, "MESHC_REPORTS": "sarif junit"})
	if code, out := w.run(t.Context(), dir, env, "sh", "ci/meshc/install.sh"); code != 0 {
		t.Fatalf("install: %d\n%s", code, out)
	}
	code, out := w.run(t.Context(), dir, env, "sh", "ci/meshc/judge.sh")
	if code != 3 {
		t.Errorf("judge: %d\n%s", code, out)
	}
	contains(t, "log", out, "[no-delete] nobody deletes", "valid: ") // the plan; vet asks what would hold after the merge
	for _, f := range []string{"plan.md", "vet.sarif", "vet.xml", "head"} {
		if text, err := os.ReadFile(filepath.Join(dir, "meshc-out", f)); err != nil || len(text) == 0 {
			t.Errorf("%s: %v", f, err)
		}
	}
	if status := w.git(dir, "status", "--porcelain"); strings.Contains(strings.ReplaceAll(status, "?? meshc-out/", ""), "?") {
		t.Errorf("the checkout is changed: %s", status)
	}
	if now := w.git(dir, "rev-parse", "HEAD^2"); now != head {
		t.Errorf("HEAD is another: %s", now)
	}
}
