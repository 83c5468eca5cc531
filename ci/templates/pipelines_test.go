package templates_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// The parts of a workflow of GitHub's that the templates use; what else stands in them,
// the schema knows (`make lint`).
type (
	workflow struct {
		On   map[string]any `json:"on"`
		Env  map[string]string
		Jobs map[string]workflowJob
	}
	workflowJob struct {
		Needs, If   string
		Permissions map[string]string
		Env         map[string]string
		Steps       []workflowStep
	}
	workflowStep struct {
		ID, If, Uses, Run string
		Env, With         map[string]any
		ContinueOnError   bool `json:"continue-on-error"`
	}
)

func readYAML[T any](t *testing.T, path string) T {
	t.Helper()
	var v T
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, yaml.Unmarshal(text, &v))
	return v
}

// workflowRun is one run of a workflow: its jobs share what they upload.
type workflowRun struct {
	*world
	workflow workflow
	context  map[string]string // the values of ${{ … }}
	checkout func() string     // what actions/checkout does
	stored   string            // what actions/upload-artifact got
	api      string
}

func (w *world) workflow(file string, context map[string]string) *workflowRun {
	w.t.Helper()
	return &workflowRun{world: w, workflow: readYAML[workflow](w.t, filepath.Join("github", file)), context: context, stored: filepath.Join(w.t.TempDir(), "meshc")}
}

var expression = regexp.MustCompile(`\$\{\{ *([^}]*?) *\}\}`)

func (r *workflowRun) expand(text string) string {
	return expression.ReplaceAllStringFunc(text, func(e string) string {
		name := expression.FindStringSubmatch(e)[1]
		v, ok := r.context[name]
		if !ok {
			r.t.Fatalf("the run has no value for %q", name)
		}
		return v
	})
}

// due reports whether a step runs: by its condition, or as long as all went well.
func (r *workflowRun) due(condition string, failed bool) bool {
	if condition == "" {
		return !failed
	}
	inner := expression.FindStringSubmatch(condition)[1]
	for part := range strings.SplitSeq(inner, " && ") {
		if part == "!cancelled()" {
			continue
		}
		name, op, value := "", "", ""
		if _, err := fmt.Sscanf(part, "%s %s '%s", &name, &op, &value); err != nil {
			r.t.Fatalf("this condition is not understood: %q", part)
		}
		if holds := r.context[name] == strings.TrimSuffix(value, "'"); holds != (op == "==") {
			return false
		}
	}
	return true
}

// job runs a job as it stands in the file and returns whether it failed, and its log.
func (r *workflowRun) job(name string) (bool, string) {
	r.t.Helper()
	job, ok := r.workflow.Jobs[name]
	if !ok {
		r.t.Fatalf("there is no job %q", name)
	}
	env := map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "shop/mesh", "GITHUB_API_URL": r.api}
	for _, from := range []map[string]string{r.workflow.Env, job.Env} {
		for k, v := range from {
			env[k] = r.expand(v)
		}
	}
	dir, failed, log := "", false, ""
	for _, s := range job.Steps {
		if !r.due(s.If, failed) {
			continue
		}
		action, _, _ := strings.Cut(s.Uses, "@")
		switch action {
		case "actions/checkout":
			dir = r.checkout()
		case "actions/upload-artifact":
			_ = os.CopyFS(r.stored, os.DirFS(filepath.Join(dir, s.With["path"].(string)))) // nothing to upload is a warning
		case "actions/download-artifact":
			if err := os.CopyFS(filepath.Join(dir, s.With["path"].(string)), os.DirFS(r.stored)); err != nil && !s.ContinueOnError {
				failed = true
			}
		case "":
			own := env
			if len(s.Env) > 0 {
				own = cloned(env)
				for k, v := range s.Env {
					own[k] = r.expand(v.(string))
				}
			}
			code, out := r.run(r.t.Context(), dir, r.environment(own), "bash", "-e", "-c", s.Run)
			log += out
			failed = failed || code != 0
		default:
			r.t.Fatalf("this action is not known: %s", s.Uses)
		}
	}
	return failed, log
}

func cloned(m map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// The parts of a pipeline of GitLab's that the template uses.
type pipelineJob struct {
	Extends      string
	Image        string
	Needs        []string
	Variables    map[string]string
	BeforeScript []string `json:"before_script"`
	Script       []string
	Rules        []pipelineRule
	Artifacts    struct {
		Paths   []string
		Reports map[string]string
	}
}

type pipelineRule struct {
	If, When  string
	Variables map[string]string
}

// pipeline is one pipeline in the project of a host.
type pipeline struct {
	*world
	variables map[string]string // what GitLab and the project's settings say
	stored    string            // the artifacts
}

// job runs a job as it stands in the file, if it is in the pipeline by its rules, in a
// checkout, with a shell.
func (p *pipeline) job(name, dir, shell string) (ran bool, code int, log string) {
	p.t.Helper()
	all := readYAML[map[string]pipelineJob](p.t, filepath.Join("gitlab", "meshc.yaml"))
	global := readYAML[pipelineJob](p.t, filepath.Join("gitlab", "meshc.yaml")).Variables
	job, ok := all[name]
	if !ok {
		p.t.Fatalf("there is no job %q", name)
	}
	base := all[job.Extends]
	i := slices.IndexFunc(job.Rules, func(r pipelineRule) bool { return p.holds(r.If) })
	if i < 0 {
		return false, 0, ""
	}
	env := cloned(p.variables)
	for _, from := range []map[string]string{global, base.Variables, job.Variables, job.Rules[i].Variables} {
		for k, v := range from {
			env[k] = os.Expand(v, func(name string) string { return p.variables[name] })
		}
	}
	if len(job.Needs) > 0 {
		_ = os.CopyFS(dir, os.DirFS(p.stored)) // a job that failed early has left none
	}
	before := job.BeforeScript
	if before == nil {
		before = base.BeforeScript
	}
	lines := append([]string{"set -eo pipefail"}, append(before, job.Script...)...)
	if shell != "bash" {
		lines[0] = "set -e"
	}
	code, log = p.run(p.t.Context(), dir, p.environment(env), shell, "-c", strings.Join(lines, "\n"))
	expand := func(path string) string {
		return os.Expand(path, func(name string) string { return p.variables[name] })
	}
	for _, report := range job.Artifacts.Reports {
		if _, err := os.Stat(filepath.Join(dir, expand(report))); err != nil && (code == 0 || code == 3) {
			p.t.Errorf("a report is missing after a verdict: %v", err)
		}
	}
	for _, path := range job.Artifacts.Paths {
		path = expand(path)
		_ = os.CopyFS(filepath.Join(p.stored, path), os.DirFS(filepath.Join(dir, path)))
	}
	return true, code, log
}

// holds evaluates the condition of a rule.
func (p *pipeline) holds(condition string) bool {
	value := func(s string) string {
		if name, ok := strings.CutPrefix(s, "$"); ok {
			return p.variables[name]
		}
		return strings.Trim(s, `"`)
	}
	for part := range strings.SplitSeq(condition, " && ") {
		left, right, compared := strings.Cut(part, " == ")
		if compared && value(left) != value(right) || !compared && value(left) == "" {
			return false
		}
	}
	return true
}

// A tag of an action can be moved to other code; a hash cannot. A value of the event that
// stands in a script would be a script.
func TestWorkflowsRunNothingOfAChange(t *testing.T) {
	files, err := filepath.Glob("github/*.yaml")
	must(t, err)
	if len(files) != 2 {
		t.Fatalf("workflows: %v", files)
	}
	hash := regexp.MustCompile(`^actions/[a-z-]+@[0-9a-f]{40}$`)
	for _, f := range files {
		w := readYAML[workflow](t, f)
		for name, job := range w.Jobs {
			if job.Permissions == nil {
				t.Errorf("%s: %s: has the rights that the repository gives to all", f, name)
			}
			for _, s := range job.Steps {
				if s.Uses != "" && !hash.MatchString(s.Uses) {
					t.Errorf("%s: %s: %q is not pinned", f, name, s.Uses)
				}
				if strings.Contains(s.Run, "${{") {
					t.Errorf("%s: %s: a value is pasted into a script: %s", f, name, s.Run)
				}
				if strings.HasPrefix(s.Uses, "actions/checkout@") && (s.With["ref"] != nil || s.With["repository"] != nil || s.With["allow-unsafe-pr-checkout"] != nil) {
					t.Errorf("%s: %s: another commit than the event's is checked out", f, name)
				}
			}
		}
		if _, ok := w.On["pull_request_target"]; !ok {
			continue
		}
		if p := w.Jobs["judge"].Permissions; len(p) != 1 || p["contents"] != "read" {
			t.Errorf("%s: who looks at the change may do more than read: %v", f, p)
		}
		text, err := os.ReadFile(f)
		must(t, err)
		if strings.Contains(string(text), "secrets.") {
			t.Errorf("%s: a secret is near the change", f)
		}
	}
}
