package templates_test

import (
	"path/filepath"
	"testing"
)

// mergeRequest is a merge request on GitLab, number 7 of project 42.
type mergeRequest struct {
	*world
	*review
	api string
}

func newMergeRequest(t *testing.T) *mergeRequest {
	t.Helper()
	m := &mergeRequest{world: newWorld(t), review: &review{token: "of-the-project"}}
	m.api = m.gitlab(t)
	return m
}

// pipelineIn is a pipeline of the merge request in a project: the target's, or the fork's,
// which does not have the target's token.
func (m *mergeRequest) pipelineIn(projectPath string) *pipeline {
	vars := map[string]string{
		"CI_PIPELINE_SOURCE": "merge_request_event", "CI_API_V4_URL": m.api, "CI_PROJECT_PATH": projectPath, "CI_MERGE_REQUEST_PROJECT_PATH": "shop/mesh",
		"CI_MERGE_REQUEST_PROJECT_URL": "file://" + filepath.Dir(m.origin) + "/origin", "CI_MERGE_REQUEST_PROJECT_ID": "42", "CI_MERGE_REQUEST_IID": "7",
		"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "CI_COMMIT_SHA": m.head, "CI_PIPELINE_URL": "https://gitlab.example/shop/mesh/-/pipelines/1234",
	}
	if projectPath == "shop/mesh" {
		vars["MESHC_GITLAB_TOKEN"] = m.token
	}
	return &pipeline{world: m.world, variables: vars, stored: filepath.Join(m.t.TempDir(), "artifacts")}
}

// judged pushes a state of the merge request and lets its pipeline run in the target's
// project, in bash or in a shell that knows POSIX only.
func (m *mergeRequest) judged(on, shell string, files map[string]string) (code int, told, log string) {
	m.t.Helper()
	head := m.change(on, files, "refs/merge-requests/7/head")
	m.set(head)
	p := m.pipelineIn("shop/mesh")
	_, code, log = p.job("meshc judge", m.gitlabCheckout(m.origin, head, "1"), shell)
	ran, told2, more := p.job("meshc comment", m.gitlabCheckout(m.origin, head, "1"), shell)
	if !ran || told2 != 0 {
		m.t.Errorf("nothing was told: %v, %d\n%s", ran, told2, more)
	}
	comments := m.by(project)
	if len(comments) != 1 {
		m.t.Fatalf("there are %d comments: %v\n%s", len(comments), comments, log+more)
	}
	contains(m.t, "comment", comments[0].body, "of "+head+" for prod ([pipeline](https://gitlab.example/shop/mesh/-/pipelines/1234))")
	return code, comments[0].body, log + more
}

func TestMergeRequestsHaveOneComment(t *testing.T) {
	m := newMergeRequest(t)
	impostor := m.add("mallory", "<!-- meshc prod -->\nall is well")
	for range 120 {
		m.add("bob", "a long discussion")
	}
	code, told, log := m.judged(m.root, "bash", map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"6s"`)})
	if code != 0 {
		t.Errorf("a good change: %d\n%s", code, log)
	}
	contains(t, "first comment", told, "<!-- meshc prod -->\n<!-- meshc plan -->\n### meshc plan: ", "timeout 5s → 6s")
	first := m.by(project)[0].id

	code, told, log = m.judged(m.root, "sh", map[string]string{"shop/shop.cue": replaced(t, shop, "timeout", "timout")})
	if code != 3 {
		t.Errorf("an invalid change: %d\n%s", code, log)
	}
	contains(t, "comment", told, "### meshc plan: invalid", "shop/shop.cue:15:", "!timeout 5s")

	broken := m.main(&m.alice, map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `5`)})
	code, told, log = m.judged(broken, "sh", map[string]string{"shop/shop.cue": shop})
	if code != 0 {
		t.Errorf("the change that repairs the base: %d\n%s", code, log)
	}
	contains(t, "comment", told, "Problems of the base, not of this change", "!meshc plan: invalid")

	m.main(&m.alice, map[string]string{"ci/meshc/version": "MESHC_VERSION=main\n", "shop/shop.cue": shop})
	code, told, log = m.judged(broken, "bash", map[string]string{"shop/shop.cue": replaced(t, shop, `"5s"`, `"9s"`)})
	if code == 0 {
		t.Errorf("nothing was looked at: %d\n%s", code, log)
	}
	contains(t, "comment", told, "### meshc plan: there is none", "its log says why")
	contains(t, "log", log, `MESHC_VERSION=main is no version, such as v0.1.0`)

	if ours := m.by(project); len(ours) != 1 || ours[0].id != first {
		t.Errorf("it is not the same comment all the time: %v, not %d", ours, first)
	}
	if theirs := m.by("mallory"); len(theirs) != 1 || theirs[0] != impostor {
		t.Errorf("somebody else's comment was touched: %v", theirs)
	}
}

// A fork's merge request is judged by the target's scripts, version and policies, in both
// projects; but in its own project the author may replace the pipeline as a whole, which
// docs/ci.md says.
func TestAForksMergeRequestCannotChangeItsJudge(t *testing.T) {
	m := newMergeRequest(t)
	code, told, log := m.judged(m.root, "bash", wicked(t))
	if code != 3 {
		t.Errorf("in the target's project: %d\n%s", code, log)
	}
	contains(t, "comment", told, "[no-delete] nobody deletes", "!all is well")

	// The fork's main branch is its author's as well.
	fork := filepath.Join(t.TempDir(), "fork.git")
	m.author.Git("clone", "-q", "--bare", m.origin, fork)
	m.author.Git("-C", fork, "config", "uploadpack.allowAnySHA1InWant", "true")
	m.author.Git("push", "-q", "--force", fork, m.head+":refs/heads/main")
	p := m.pipelineIn("mallory/mesh")
	_, code, log = p.job("meshc judge", m.gitlabCheckout(fork, m.head, "20"), "bash")
	if code != 3 {
		t.Errorf("in the fork's project: %d\n%s", code, log)
	}
	contains(t, "log", log, "[no-delete] nobody deletes", "!all is well")
	if ran, _, _ := p.job("meshc comment", m.gitlabCheckout(fork, m.head, "20"), "bash"); ran {
		t.Error("a fork's pipeline comments, without a token")
	}
}
