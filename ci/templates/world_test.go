package templates_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/gitrepo/gittest"
	"meshc.dev/meshc/internal/programs"
)

// rootPackage and shop are the intent that changes start from.
const (
	rootPackage = `package mesh

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: {
	owner:       "platform"
	trustDomain: "shop.example"
	targets: kubernetes: {}
	environment: prod: capture: "transparent"
}
`
	shop = `package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "shop"
mesh: owner:     "team-shop"
mesh: service: web: {
	port: http: number: 8080
	calls: cart: {}
}
mesh: service: cart: {
	port: http: number: 8081
	version: {v1: {}, v2: {}}
	route: default: {to: {v1: 90, v2: 10}, timeout: "5s"}
	grant: web: {from: ["web"], methods: ["GET"], paths: ["/cart/*"]}
}
`
	noDelete = `package meshc.mesh.own

findings contains {"id": "no-delete", "path": "service/shop/cart", "severity": "deny", "msg": "nobody deletes", "fix": "leave DELETE out"} if {
	some s in input.mesh.services
	some g in s.grants
	some m in g.methods
	m == "DELETE"
}
`
)

// shared are what is the same for all tests: the real meshc, and a module proxy that has
// it under two versions.
type shared struct{ dir, meshc, proxy string }

var built shared

func TestMain(m *testing.M) {
	code, err := withPrograms(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withPrograms(run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "meshc-templates-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	built = shared{dir: dir, meshc: filepath.Join(dir, "real", "meshc"), proxy: filepath.Join(dir, "proxy")}
	if err := programs.Into(context.Background(), filepath.Dir(built.meshc), "meshc"); err != nil {
		return 0, err
	}
	if err := publish(built.proxy, pinned, realMeshc); err != nil {
		return 0, err
	}
	if err := publish(built.proxy, evil, evilMeshc); err != nil {
		return 0, err
	}
	return run(), nil
}

const (
	pinned = "v0.1.0" // what the templates pin
	evil   = "v6.6.6" // what a change would rather be judged by

	// realMeshc is a main package that becomes the real program: the whole module would take
	// minutes to unpack and compile again.
	realMeshc = `package main

import (
	"os"
	"syscall"
)

func main() { panic(syscall.Exec(os.Getenv("REAL_MESHC"), os.Args, os.Environ())) }
`
	evilMeshc = `package main

import "fmt"

func main() { fmt.Println("### all is well, says the author of the change") }
`
)

// publish puts a version of the module meshc.dev/meshc into a folder that the go command
// takes for a module proxy.
func publish(proxy, version, source string) error {
	const module = "meshc.dev/meshc"
	mod := "module " + module + "\n\ngo 1.21\n"
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	files := map[string]string{"go.mod": mod, "cmd/meshc/main.go": source}
	for _, pattern := range []string{"scripts/*", "github/*.yaml", "gitlab/*.yaml"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			files["ci/templates/"+filepath.ToSlash(name)] = string(text)
		}
	}
	for name, text := range files {
		w, err := z.Create(module + "@" + version + "/" + name)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	at := filepath.Join(proxy, module, "@v", version)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	list, err := os.OpenFile(filepath.Join(filepath.Dir(at), "list"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer list.Close()
	if _, err := io.WriteString(list, version+"\n"); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(at+".mod", []byte(mod), 0o600), os.WriteFile(at+".zip", archive.Bytes(), 0o600),
		os.WriteFile(at+".info", []byte(`{"Version": "`+version+`"}`), 0o600))
}

// world is a repository of intent on a host, with the templates in it as docs/ci.md says.
type world struct {
	t      *testing.T
	author *gittest.Repo // where commits are made
	origin string        // the host's bare repository
	alice  gittest.Key   // approves
	root   string        // the first commit
	trust  string        // the trust policy's text
	home   string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, author: gittest.New(t), origin: filepath.Join(t.TempDir(), "origin.git"), alice: gittest.NewKey(t), home: t.TempDir()}
	files := map[string]string{"mesh.cue": rootPackage, "shop/shop.cue": shop, "policies/no-delete.rego": noDelete}
	for from, to := range copied {
		entries, err := os.ReadDir(from)
		must(t, err)
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(from, e.Name()))
			must(t, err)
			files[to+"/"+e.Name()] = string(text)
		}
	}
	w.root = w.author.Commit(gittest.Commit{Files: files, Key: &w.alice})
	w.author.Git("clone", "-q", "--bare", ".", w.origin)
	// Both hosts let anybody fetch a commit by its hash.
	w.author.Git("-C", w.origin, "config", "uploadpack.allowAnySHA1InWant", "true")
	w.author.Git("remote", "add", "origin", w.origin)
	w.trust = fmt.Sprintf("version: meshc.dev/trust/v1\nrepository: shop\nref: refs/heads/main\nrootCommit: %s\nenvironments:\n  prod: {}\nsigners:\n  alice: {keys: [{ssh: %q}]}\nrules:\n  - {paths: [\"**\"], signers: [alice]}\n",
		w.root, w.alice.Public)
	return w
}

// copied are the folders of the templates, and where docs/ci.md has them copied to.
var copied = map[string]string{"scripts": "ci/meshc", "github": ".github/workflows"}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// change commits files ("" removes one, "-> TO" is a link), unsigned, on top of a commit, and pushes that to refs of the host.
func (w *world) change(on string, files map[string]string, refs ...string) string {
	w.t.Helper()
	w.author.Git("checkout", "-q", "--force", "--detach", on)
	w.author.Git("clean", "-q", "-d", "--force")
	for p, text := range files {
		w.write(p, text)
	}
	w.author.Git("add", "-A")
	w.author.Git("commit", "-q", "-m", "change")
	hash := w.author.Git("rev-parse", "HEAD")
	for _, ref := range refs {
		w.author.Git("push", "-q", "--force", "origin", hash+":"+ref)
	}
	return hash
}

func (w *world) write(p, text string) {
	w.t.Helper()
	full := filepath.Join(w.author.Dir, filepath.FromSlash(p))
	if text == "" {
		must(w.t, os.Remove(full))
		return
	}
	must(w.t, os.MkdirAll(filepath.Dir(full), 0o755))
	if to, ok := strings.CutPrefix(text, "-> "); ok {
		must(w.t, os.Symlink(to, full))
		return
	}
	must(w.t, os.WriteFile(full, []byte(text), 0o600))
}

// main commits files on the branch main, signed by key (nil: by nobody), and pushes it.
func (w *world) main(key *gittest.Key, files map[string]string) string {
	w.t.Helper()
	w.author.Git("checkout", "-q", "--force", "main")
	w.author.Git("clean", "-q", "-d", "--force")
	hash := w.author.Commit(gittest.Commit{Files: files, Key: key})
	w.author.Git("push", "-q", "--force", "origin", "main")
	return hash
}

// environment is what a runner gives to a job, with the variables of the job. Nothing of
// the machine's settings of Git and Go has a say, but for Go's cache.
func (w *world) environment(more map[string]string) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.home, "TMPDIR=" + w.t.TempDir(), "LC_ALL=C", "CI=true", "NO_COLOR=1",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0", "XDG_CACHE_HOME=" + filepath.Join(built.dir, "cache"),
		"GOPROXY=file://" + built.proxy, "GONOSUMDB=meshc.dev/meshc", "GOTOOLCHAIN=local", "GOFLAGS=-modcacherw", "GOPATH=" + filepath.Join(w.home, "go"),
		"GOCACHE=" + goCache(w.t), "REAL_MESHC=" + built.meshc,
	}
	for k, v := range more {
		env = append(env, k+"="+v)
	}
	return env
}

func goCache(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// run runs a program and returns its exit code and what it said on both streams.
func (w *world) run(ctx context.Context, dir string, env []string, name string, args ...string) (int, string) {
	w.t.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("%s: %v", name, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// git runs git in a folder as a runner does before a job.
func (w *world) git(dir string, args ...string) string {
	w.t.Helper()
	code, out := w.run(w.t.Context(), dir, w.environment(nil), "git", args...)
	if code != 0 {
		w.t.Fatalf("git %s: %d\n%s", strings.Join(args, " "), code, out)
	}
	return strings.TrimSpace(out)
}

// empty is a fresh repository with a remote.
func (w *world) empty(remote string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	w.git(dir, "init", "-q")
	w.git(dir, "remote", "add", "origin", "file://"+remote)
	return dir
}

// actionsCheckout is what actions/checkout makes of a branch: one commit, and a local
// branch of its name.
func (w *world) actionsCheckout(branch string) string {
	w.t.Helper()
	dir := w.empty(w.origin)
	hash, _, _ := strings.Cut(w.git(dir, "ls-remote", "origin", "refs/heads/"+branch), "\t")
	w.git(dir, "-c", "protocol.version=2", "fetch", "-q", "--no-tags", "--prune", "--no-recurse-submodules", "--depth=1", "origin", "+"+hash+":refs/remotes/origin/"+branch)
	w.git(dir, "checkout", "-q", "--progress", "--force", "-B", branch, "refs/remotes/origin/"+branch)
	return dir
}

// mergeCheckout is what actions/checkout makes for the event pull_request: one commit,
// detached, which is the merge that GitHub has tried.
func (w *world) mergeCheckout(pull, head string) string {
	w.t.Helper()
	base := w.author.Git("rev-parse", "refs/heads/main")
	tree := w.author.Git("merge-tree", "--write-tree", base, head)
	merge := w.author.Git("commit-tree", tree, "-p", base, "-p", head, "-m", "Merge")
	w.author.Git("push", "-q", "--force", "origin", merge+":refs/pull/"+pull+"/merge")
	dir := w.empty(w.origin)
	w.git(dir, "fetch", "-q", "--no-tags", "--prune", "--no-recurse-submodules", "--depth=1", "origin", "+"+merge+":refs/remotes/pull/"+pull+"/merge")
	w.git(dir, "checkout", "-q", "--force", "refs/remotes/pull/"+pull+"/merge")
	return dir
}

// gitlabCheckout is what a runner of GitLab's makes: a commit, detached, with a history
// of the given depth.
func (w *world) gitlabCheckout(remote, hash, depth string) string {
	w.t.Helper()
	dir := w.empty(remote)
	w.git(dir, "fetch", "-q", "--no-recurse-submodules", "--depth", depth, "--prune", "origin", "+"+hash+":refs/pipelines/1234")
	w.git(dir, "checkout", "-f", "-q", hash)
	return dir
}

// replaced is text with each old (of old, new pairs) replaced, which has to be there.
func replaced(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for pair := range slices.Chunk(pairs, 2) {
		if !strings.Contains(text, pair[0]) {
			t.Fatalf("%q is not in\n%s", pair[0], text)
		}
		text = strings.ReplaceAll(text, pair[0], pair[1])
	}
	return text
}

// contains fails for each part that text lacks; a part that begins with "!" must not be
// there.
func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		rest, not := strings.CutPrefix(p, "!")
		if strings.Contains(text, rest) == not {
			t.Errorf("%s: want %q\n%s", what, p, text)
		}
	}
}
