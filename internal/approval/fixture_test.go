package approval

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
	"meshc.dev/meshc/internal/signing"
)

const repository = "https://git.example.test/mesh.git"

// world is a repository with three teams, a policy, and a compiler of its own:
// real commits, tags and signatures, and releases made from the files' bytes.
type world struct {
	t                    testing.TB
	repo                 *gittest.Repo
	alice, bob, ops, eve gittest.Key
	root                 string
	policy               string
	compiler             string
	now                  time.Time
}

const policyText = `version: meshc.dev/trust/v1
repository: ` + repository + `
ref: refs/heads/main
rootCommit: ROOT
environments:
  prod: {rollbackSigners: [ops]ENVIRONMENT}
signers:
  alice: {keys: [{ssh: "ALICE"}]}
  bob: {keys: [{ssh: "BOB"}]}
  ops: {keys: [{ssh: "OPS"}]}
rules:
  - {paths: ["bookinfo/**"], signers: [alice, ops]}
  - {paths: ["shop/**"], signers: [bob, ops]}
  - {paths: ["*"], signers: [ops]}
  - {paths: ["vault/**"], signers: [alice, bob, ops], threshold: 2}
  - {paths: ["board/**"], signers: [alice, bob], threshold: 2, requireTags: true}
`

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, repo: gittest.New(t), alice: gittest.NewKey(t), bob: gittest.NewKey(t), ops: gittest.NewKey(t), eve: gittest.NewKey(t),
		compiler: "v1", now: gittest.Start().Add(time.Hour), policy: policyText}
	w.root = w.commit(&w.ops, "mesh.cue", "package mesh")
	return w
}

func (w *world) commit(k *gittest.Key, files ...string) string {
	w.t.Helper()
	c := gittest.Commit{Key: k, Files: map[string]string{}}
	for i := 0; i+1 < len(files); i += 2 {
		c.Files[files[i]] = files[i+1]
	}
	return w.repo.Commit(c)
}

// environment replaces the prod environment's extra fields, such as ", position: tag".
func (w *world) environment(s string) { w.policy = strings.Replace(w.policy, "ENVIRONMENT", s, 1) }

func (w *world) replace(old, by string) {
	w.t.Helper()
	if !strings.Contains(w.policy, old) {
		w.t.Fatalf("policy has no %q", old)
	}
	w.policy = strings.Replace(w.policy, old, by, 1)
}

func (w *world) trust() Trust {
	w.t.Helper()
	quoted := func(s string) string { return `"` + s + `"` }
	// With their quotes: a key's base64 has any three letters now and then.
	text := strings.NewReplacer("rootCommit: ROOT", "rootCommit: "+w.root, quoted("ALICE"), quoted(w.alice.Public), quoted("BOB"), quoted(w.bob.Public),
		quoted("OPS"), quoted(w.ops.Public), quoted("EVE"), quoted(w.eve.Public), "ENVIRONMENT", "").Replace(w.policy)
	p := filepath.Join(w.t.TempDir(), "trust.yaml")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	tr, diags := LoadTrust(p)
	if diags.HasErrors() {
		w.t.Fatalf("trust policy: %v", diags)
	}
	return tr
}

func (w *world) snapshot() *gitrepo.Snapshot {
	w.t.Helper()
	r, err := gitrepo.Open(w.repo.Dir, "refs/heads/main", gitrepo.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := r.Fetch(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// compile makes releases from a commit's files. A file "until" holds instants:
// each gives a further step.
func compile(tree fs.FS, env, compiler string, at time.Time) ([]Step, error) {
	var arts []release.Artifact
	var sum strings.Builder
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(tree, p)
		if err != nil {
			return err
		}
		sum.WriteString(p + canon.Digest(b))
		if p != "until" {
			arts = append(arts, release.Artifact{Path: "in/" + p, Bytes: b})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	in := release.Inputs{Environment: env, Tree: canon.Digest([]byte(sum.String())), Compiler: compiler, Schema: "s", Policy: "p"}
	var steps []Step
	froms := []time.Time{{}}
	if raw, err := fs.ReadFile(tree, "until"); err == nil {
		until, err := time.Parse(time.RFC3339, strings.TrimSpace(string(raw)))
		if err != nil {
			return nil, err
		}
		froms = append(froms, until.Add(time.Second))
	}
	for i, from := range froms {
		in.At = at.UTC().Format(time.RFC3339)
		if i > 0 {
			in.At = from.UTC().Format(time.RFC3339)
		}
		r, err := release.Seal(append(arts, release.Artifact{Path: "step", Bytes: []byte{byte('0' + i)}}), in, release.Provenance{})
		if err != nil {
			return nil, err
		}
		steps = append(steps, Step{From: from, Release: r})
	}
	return steps, nil
}

func (w *world) candidate(commit string) Candidate {
	w.t.Helper()
	s := w.snapshot()
	steps, err := w.compile(s)(commit)
	if err != nil {
		w.t.Fatal(err)
	}
	return Candidate{Snapshot: s, Environment: "prod", Commit: commit, Steps: steps, Compiler: w.compiler}
}

// verify judges a commit as a server does.
func (w *world) verify(commit string, s State) (Approved, error) {
	w.t.Helper()
	snap := w.snapshot()
	return Judge(Candidate{Snapshot: snap, Environment: "prod", Commit: commit, Compiler: w.compiler}, s, w.trust(), w.now, w.compile(snap))
}

func (w *world) compile(snap *gitrepo.Snapshot) Compile {
	return func(commit string) ([]Step, error) {
		c, err := snap.Commit(commit)
		if err != nil {
			return nil, err
		}
		tree, err := snap.FS(c)
		if err != nil {
			return nil, err
		}
		return compile(tree, "prod", w.compiler, c.Committer.When)
	}
}

func (w *world) approved(commit string, s State) Approved {
	w.t.Helper()
	a, err := w.verify(commit, s)
	if err != nil {
		w.t.Fatalf("not approved: %v", err)
	}
	return a
}

// refused demands a refusal with this link and code and these words, and a way out.
func (w *world) refused(err error, l Link, code diag.Code, words ...string) {
	w.t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		w.t.Fatalf("got %v, want a refusal for %s", err, l)
	}
	if r.Link != l || r.Code != code {
		w.t.Errorf("refused for %s %s: %v; want %s %s", r.Link, r.Code, err, l, code)
	}
	for _, word := range words {
		if !strings.Contains(r.Error(), word) {
			w.t.Errorf("refusal %q does not say %q", r, word)
		}
	}
	if r.Fix == "" || r.Commit == "" {
		w.t.Errorf("refusal %q without commit or way out", r)
	}
}

func (w *world) author(k gittest.Key) Author {
	w.t.Helper()
	sk, err := signing.Open(context.Background(), k.File(w.t), signing.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return Author{Dir: w.repo.Dir, Key: sk, Ident: gitrepo.Ident{Name: "T", Email: "t@example.test", When: w.now}}
}

func (w *world) approve(k gittest.Key, commit string) {
	w.t.Helper()
	if _, err := w.author(k).Approve(w.candidate(commit), w.trust()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) state(k gittest.Key, commit string) {
	w.t.Helper()
	if _, err := w.author(k).Statement(w.candidate(commit), w.trust()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) rollBack(k gittest.Key, from, to string) {
	w.t.Helper()
	m := RollbackMessage{Environment: "prod", From: from, To: to, Reason: "it broke"}
	if _, err := w.author(k).RollBack(w.snapshot(), w.trust(), m); err != nil {
		w.t.Fatal(err)
	}
}

// tag writes any message as a signed tag.
func (w *world) tag(k gittest.Key, name, commit string, message any) {
	w.t.Helper()
	raw, err := canon.JSON(message)
	if err != nil {
		w.t.Fatal(err)
	}
	n := gitrepo.NewTag{Name: name, Commit: commit, Tagger: gitrepo.Ident{Name: "T", Email: "t@example.test", When: w.now}, Message: string(raw), Replace: true}
	if _, err := gitrepo.WriteTag(w.repo.Dir, n, k.Signer()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) statementFor(commit string, seq int64) StatementMessage {
	w.t.Helper()
	c := w.candidate(commit)
	return StatementMessage{Repository: repository, Commit: commit, Environment: "prod", Compiler: w.compiler, Schema: "s", Policy: "p", Releases: releaseSteps(c.Steps), Seq: seq}
}

func statementName(seq int64) string { return fmt.Sprintf("meshc/prod/%d", seq) }
