package flux

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshc.dev/meshc/internal/child"
	"meshc.dev/meshc/internal/demo/people"
	"meshc.dev/meshc/internal/freeport"
	"meshc.dev/meshc/internal/githttp"
	"meshc.dev/meshc/internal/kubetest"
	"meshc.dev/meshc/internal/kubetest/flux"
	"meshc.dev/meshc/internal/programs"
)

// root is the repository's top folder.
const root = "../.."

// rig is a cluster with Flux and meshc's webhook, and the repositories that they follow:
// intent on main, which people sign; what it compiles to on rendered/kubernetes, which CI
// signs with a PGP key; and the teams' own objects.
type rig struct {
	*kubetest.Cluster
	whole *testing.T // the test
	t     *testing.T // its present step
	flux  *flux.Flux
	dir   string
	meshc string
	repo  *people.Repo // main; its origin has all branches
	gpg   string       // home of CI's key
}

// rendered and apps are folders of work trees, beside the repository.
const (
	rendered = "rendered"
	apps     = "apps"
)

func start(t *testing.T) *rig {
	t.Helper()
	// A home of gpg's has sockets, whose paths are short.
	dir, err := os.MkdirTemp("", "meshc-flux-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{whole: t, t: t, dir: dir, meshc: filepath.Join(dir, "meshc"), gpg: filepath.Join(dir, "gpg")}
	if err := programs.Into(t.Context(), dir, "meshc"); err != nil {
		t.Fatal(err)
	}
	r.Cluster = kubetest.ForTest(t, kubetest.Options{})
	r.flux = flux.ForTest(t, r.Cluster)
	r.repositories()
	r.webhook()
	r.follow()
	r.serve("server", "flux://gitrepository/flux-system/mesh")
	return r
}

// repositories makes them, with a first release that is signed by everybody who has to.
func (r *rig) repositories() {
	r.t.Helper()
	var public map[string]string
	var err error
	if r.repo, public, err = people.New(r.t.Context(), "git", "", r.dir); err != nil {
		r.t.Fatal(err)
	}
	if err := os.CopyFS(r.repo.Work, os.DirFS("testdata/shop")); err != nil {
		r.t.Fatal(err)
	}
	first := r.intend(people.Carol, "first release")
	if err := os.WriteFile(filepath.Join(r.dir, "trust.yaml"), []byte(people.TrustPolicy(first, "kubernetes", public)), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Mkdir(r.gpg, 0o700); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", r.gpg, "--kill", "all").Run() })
	r.run(r.dir, 0, "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "ci@shop.example", "ed25519", "sign", "0")
	r.run(r.dir, 0, "git", "clone", "--quiet", r.repo.Origin, rendered)
	r.render()
	r.run(r.dir, 0, "git", "init", "--quiet", "--initial-branch=main", "--bare", "apps.git")
	r.run(r.dir, 0, "git", "clone", "--quiet", "apps.git", apps)
	r.git(apps, "switch", "--quiet", "--orphan", "main")
}

// webhook starts meshc's and waits until the API server asks it.
func (r *rig) webhook() {
	r.t.Helper()
	guard, http := r.address(), r.address()
	c, err := child.Start(child.Spec{Path: r.meshc, Dir: r.dir, Log: filepath.Join(r.dir, "webhook.log"), Bound: true, Args: []string{
		"webhook", "--repo", r.repo.Origin, "--trust", "trust.yaml", "--env", "kubernetes", "--poll", "200ms", "--kubeconfig", r.Kubeconfig,
		"--state", "guard", "--listen", guard, "--url", "https://" + guard, "--http", http,
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.stop(c, "webhook")
	r.until("the API server asks the webhook", func() error {
		_, err := r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(r.t.Context(), "meshc-guard", metav1.GetOptions{})
		return err
	})
}

// serve starts a meshc serve of a name, which reads what Flux has fetched instead of a
// repository.
func (r *rig) serve(name, source string) {
	r.t.Helper()
	c, err := child.Start(child.Spec{Path: r.meshc, Dir: r.dir, Log: filepath.Join(r.dir, name+".log"), Bound: true, Args: []string{
		"serve", "--repo", source, "--trust", "trust.yaml", "--env", "kubernetes", "--poll", "200ms", "--kubeconfig", r.Kubeconfig,
		"--state", name, "--trust-domain", "shop.example", "--listen", r.address(), "--http", r.address(),
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.stop(c, name)
}

// serves waits until a server has a commit of the intent.
func (r *rig) serves(name, commit string) {
	r.t.Helper()
	r.until(name+" has "+commit[:12], func() error {
		out, err := exec.CommandContext(r.t.Context(), r.meshc, "status", "--state", filepath.Join(r.dir, name), "-o", "json").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var s struct{ Commit string }
		if err := json.Unmarshal(out, &s); err != nil || s.Commit != commit {
			return fmt.Errorf("it has %q, %w", s.Commit, errors.Join(err))
		}
		return nil
	})
}

// stop ends a program with the test, and shows the end of its log if that failed.
func (r *rig) stop(c *child.Child, name string) {
	r.whole.Cleanup(func() {
		c.Stop(5 * time.Second)
		if r.whole.Failed() {
			lines := strings.Split(strings.TrimSpace(r.log(name)), "\n")
			r.whole.Log(name + ":\n" + strings.Join(lines[max(0, len(lines)-20):], "\n"))
		}
	})
}

func (r *rig) log(name string) string {
	text, err := os.ReadFile(filepath.Join(r.dir, name+".log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (r *rig) address() string {
	r.t.Helper()
	address, err := freeport.Address()
	if err != nil {
		r.t.Fatal(err)
	}
	return address
}

// follow applies the example's files for Flux, with our address instead of theirs, and
// tries again soon.
func (r *rig) follow() {
	r.t.Helper()
	handler, err := githttp.Handler(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	host := httptest.NewServer(handler)
	r.t.Cleanup(host.Close)
	r.run(r.dir, 0, "gpg", "--armor", "--output", "ci.asc", "--export", "ci@shop.example")
	if _, err := r.Kubectl(r.t.Context(), "-n", flux.Namespace, "create", "secret", "generic", "mesh-signers", "--from-file=ci.asc="+filepath.Join(r.dir, "ci.asc")); err != nil {
		r.t.Fatal(err)
	}
	for _, file := range []string{"mesh.yaml", "apps.yaml"} {
		text, err := os.ReadFile(filepath.Join(root, "examples", "flux", file))
		if err != nil {
			r.t.Fatal(err)
		}
		here := strings.NewReplacer("https://git.example/mesh.git", host.URL+"/origin.git", "https://git.example/apps.git", host.URL+"/apps.git",
			"retryInterval: 15s", "retryInterval: 1s", "retryInterval: 1m", "retryInterval: 1s").Replace(string(text))
		if here == string(text) || strings.Contains(here, "git.example") {
			r.t.Fatalf("%s is not what was expected:\n%s", file, here)
		}
		if err := r.Apply(r.t.Context(), here); err != nil {
			r.t.Fatal(err)
		}
	}
}

// run runs a program in a folder and returns what it prints, both kinds.
func (r *rig) run(dir string, want int, name string, args ...string) string {
	r.t.Helper()
	c := exec.CommandContext(r.t.Context(), name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GNUPGHOME="+r.gpg, "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	out, err := c.CombinedOutput()
	if code := c.ProcessState.ExitCode(); code != want {
		r.t.Fatalf("%s %s: exit code %d instead of %d, %v\n%s", name, strings.Join(args, " "), code, want, err, out)
	}
	return string(out)
}

// git runs it in a work tree as CI.
func (r *rig) git(tree string, args ...string) string {
	r.t.Helper()
	return strings.TrimSpace(r.run(filepath.Join(r.dir, tree), 0, "git",
		append([]string{"-c", "user.name=ci", "-c", "user.email=ci@shop.example", "-c", "user.signingkey=ci@shop.example"}, args...)...))
}

// intend commits the intent as it lies there, signed by somebody, and pushes it.
func (r *rig) intend(who, message string) string {
	r.t.Helper()
	hash, err := r.repo.Commit(r.t.Context(), who, who != people.Nobody, message)
	if err != nil {
		r.t.Fatal(err)
	}
	r.push()
	return hash
}

func (r *rig) push(flags ...string) {
	r.t.Helper()
	if _, err := r.repo.Run(r.t.Context(), append([]string{"push", "--quiet", "origin", "main"}, flags...)...); err != nil {
		r.t.Fatal(err)
	}
}

// render does what CI does after a merge: it pushes what is approved, signed. It returns
// the branch's head, which lies in the rendered tree then.
func (r *rig) render() string {
	r.t.Helper()
	r.run(r.dir, 0, r.meshc, "push", "--repo", "mesh", "--trust", "trust.yaml", "--env", "kubernetes", "--branch", "rendered/kubernetes", "--key", "gpg:ci@shop.example")
	r.git(rendered, "fetch", "--quiet")
	r.git(rendered, "switch", "--quiet", "--force-create", "rendered/kubernetes", "origin/rendered/kubernetes")
	return r.git(rendered, "rev-parse", "HEAD")
}

// publish commits and pushes a work tree.
func (r *rig) publish(tree, message, sign string) string {
	r.t.Helper()
	r.git(tree, "add", "--all")
	r.git(tree, "commit", "--quiet", "--allow-empty", "-m", message, sign)
	r.git(tree, "push", "--quiet", "--force", "origin", "HEAD")
	return r.git(tree, "rev-parse", "HEAD")
}

// until asks until the answer is no error.
func (r *rig) until(what string, ask func() error) time.Duration {
	r.t.Helper()
	began := time.Now()
	for {
		err := ask()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > time.Minute {
			r.t.Fatalf("it never came to pass that %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// becomes waits until the state of one of Flux's objects is as wanted. Flux is told to
// look, so that nothing waits for an interval.
func (r *rig) becomes(kind flux.Kind, name, what string, ok func(flux.State) bool) flux.State {
	r.t.Helper()
	var s flux.State
	if err := r.flux.Reconcile(r.t.Context(), flux.GitRepository, name); err != nil {
		r.t.Fatal(err)
	}
	took := r.until(string(kind)+" "+name+" "+what, func() (err error) {
		if s, err = r.flux.State(r.t.Context(), kind, name); err != nil {
			return err
		}
		if !ok(s) {
			text, err := json.Marshal(s)
			return errors.Join(errors.New(string(bytes.TrimSpace(text))), err)
		}
		return nil
	})
	r.t.Logf("%s %s %s after %v", string(kind), name, what, took.Round(time.Millisecond))
	return s
}

// applied waits until a commit of the rendered branch is.
func (r *rig) applied(commit string) {
	r.t.Helper()
	r.becomes(flux.Kustomization, "mesh", "has "+commit[:12], func(s flux.State) bool { return s.Has(commit) })
}
