package feed

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
	"meshc.dev/meshc/internal/signing"
)

// site is a repository, a policy with one signer, and a clock.
type site struct {
	t    *testing.T
	repo *gittest.Repo
	key  gittest.Key
	root string
	dir  string
	env  string

	mu  sync.Mutex
	now time.Time
}

func newSite(t *testing.T, env string) *site {
	t.Helper()
	s := &site{t: t, repo: gittest.New(t), key: gittest.NewKey(t), dir: filepath.Join(t.TempDir(), "prod"), env: env, now: gittest.Start().Add(time.Hour)}
	s.root = s.commit(&s.key, "mesh.cue", "0")
	return s
}

func (s *site) commit(k *gittest.Key, path, text string) string {
	s.t.Helper()
	return s.repo.Commit(gittest.Commit{Key: k, Files: map[string]string{path: text}})
}

func (s *site) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *site) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *site) policy() string {
	return `version: meshc.dev/trust/v1
repository: test
ref: refs/heads/main
rootCommit: ` + s.root + `
environments: {prod: {` + s.env + `}}
signers: {alice: {keys: [{ssh: "` + s.key.Public + `"}]}}
rules: [{paths: ["**"], signers: [alice]}]
`
}

func (s *site) trust() approval.Trust {
	s.t.Helper()
	p := filepath.Join(s.t.TempDir(), "trust.yaml")
	text := s.policy()
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	tr, l := approval.LoadTrust(p)
	if l.HasErrors() {
		s.t.Fatal(l)
	}
	return tr
}

// compile makes a release of mesh.cue's bytes.
func compile(_ context.Context, tree fs.FS, env string, at time.Time) ([]approval.Step, error) {
	b, err := fs.ReadFile(tree, "mesh.cue")
	if err != nil {
		return nil, err
	}
	if string(b) == "bad" {
		return nil, errors.New("mesh.cue:1:1: it is bad")
	}
	r, err := release.Seal([]release.Artifact{{Path: "mesh", Bytes: b}},
		release.Inputs{Environment: env, Tree: canon.Digest(b), Compiler: "v1", At: at.Format(time.RFC3339)}, nil)
	return []approval.Step{{Release: r}}, err
}

func (s *site) feed(change ...func(*Config)) *Feed {
	s.t.Helper()
	repo, err := gitrepo.Open(s.repo.Dir, "refs/heads/main", gitrepo.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	c := Config{Repo: repo, Trust: s.trust(), Environment: "prod", Dir: s.dir, Compiler: "v1", Compile: compile, Now: s.clock, Interval: 2 * time.Millisecond}
	for _, f := range change {
		f(&c)
	}
	f, err := New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

// events polls n times and gives what was told.
func events(f *Feed, n int) []Event {
	var out []Event
	f.Restore(func(e Event) { out = append(out, e) })
	for range n {
		f.Poll(context.Background(), func(e Event) { out = append(out, e) })
	}
	return out
}

func (s *site) want(got []Event, kinds ...Kind) {
	s.t.Helper()
	var have []string
	ok := len(got) == len(kinds)
	for i, e := range got {
		have = append(have, string(e.Kind))
		ok = ok && i < len(kinds) && e.Kind == kinds[i]
	}
	if !ok {
		s.t.Fatalf("events %v, want %v (%+v)", have, kinds, got)
	}
}

func serves(f *Feed) string {
	b, _ := f.Current().At(time.Unix(1<<40, 0)).Artifact("mesh")
	return string(b)
}

func TestFollowsTheBranchAndSurvivesARestartWithoutGit(t *testing.T) {
	s := newSite(t, "")
	f := s.feed()
	s.want(events(f, 3), Approved)
	s.commit(&s.key, "mesh.cue", "1")
	s.want(events(f, 2), Approved)
	if err := os.Rename(s.repo.Dir, s.repo.Dir+".gone"); err != nil {
		t.Fatal(err)
	}
	again := s.feed()
	got := events(again, 0)
	s.want(got, Approved)
	if serves(again) != "1" || again.Current().Commit() != f.Current().Commit() {
		t.Errorf("restored %q", serves(again))
	}
}

// Attack 1: an unsigned commit on the branch; the last good stays, told once.
func TestAttack01UnsignedCommit(t *testing.T) {
	s := newSite(t, "")
	f := s.feed()
	s.want(events(f, 1), Approved)
	bad := s.commit(nil, "mesh.cue", "evil")
	got := events(f, 4)
	s.want(got, Refused)
	var r *approval.Refusal
	if !errors.As(got[0].Err, &r) || got[0].Commit != bad || r.Link != approval.LinkSignature {
		t.Errorf("refused with %v", got[0].Err)
	}
	if serves(f) != "0" {
		t.Errorf("serves %q", serves(f))
	}
	s.repo.Git("reset", "-q", "--hard", s.root)
	s.want(events(f, 2))
	s.commit(&s.key, "mesh.cue", "2")
	s.want(events(f, 2), Approved)
}

// TestLine: the newest commits of the ref are known before anything is told of them,
// whether they are approved or not.
func TestLine(t *testing.T) {
	s := newSite(t, "")
	f := s.feed()
	line := func(want ...string) {
		t.Helper()
		if got := f.Condition().Line; !slices.Equal(got, want) {
			t.Errorf("line %v, want %v", got, want)
		}
	}
	line()
	f.Poll(t.Context(), func(Event) { line(s.root) })
	one, two := s.commit(&s.key, "mesh.cue", "1"), s.commit(nil, "mesh.cue", "2")
	told := 0
	f.Poll(t.Context(), func(Event) { told++; line(two, one, s.root) })
	if told != 2 { // one is approved, two refused
		t.Errorf("%d events", told)
	}
	s.repo.Git("reset", "-q", "--hard", one)
	f.Poll(t.Context(), func(Event) {})
	line(one, s.root)
}

func TestBadIntentIsCompiledOnceAndServedNever(t *testing.T) {
	s := newSite(t, "")
	n := 0
	f := s.feed(func(c *Config) {
		c.Interval = time.Hour
		c.Compile = func(ctx context.Context, tree fs.FS, env string, at time.Time) ([]approval.Step, error) {
			n++
			return compile(ctx, tree, env, at)
		}
	})
	s.want(events(f, 1), Approved)
	s.commit(&s.key, "mesh.cue", "bad")
	s.want(events(f, 5), Refused)
	if n != 2 {
		t.Errorf("compiled %d times", n)
	}
	s.commit(&s.key, "mesh.cue", "good")
	s.want(events(f, 5), Approved)
	unsigned := s.commit(nil, "mesh.cue", "x")
	s.want(events(f, 1), Refused)
	if n != 3 {
		t.Errorf("commit %s was compiled though nobody approved it", unsigned)
	}
}

// Attack 5: a remote that keeps answering with what was already seen.
func TestAttack05FreezeIsToldOnceAndServingGoesOn(t *testing.T) {
	s := newSite(t, "freshness: 24h, statementSigners: [alice]")
	f := s.feed()
	s.want(events(f, 2), Approved)
	s.pass(25 * time.Hour)
	got := events(f, 5)
	s.want(got, Stale)
	var stale *StaleError
	if !errors.As(got[0].Err, &stale) || serves(f) != "0" {
		t.Errorf("stale with %v, serves %q", got[0].Err, serves(f))
	}
	s.statement(s.root)
	s.want(events(f, 5), Fresh)
}

// statement signs a new statement about a commit.
func (s *site) statement(commit string) {
	s.t.Helper()
	key, err := signing.Open(context.Background(), s.key.File(s.t), signing.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	repo, err := gitrepo.Open(s.repo.Dir, "refs/heads/main", gitrepo.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	snap, err := repo.Fetch(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := snap.Commit(commit)
	if err != nil {
		s.t.Fatal(err)
	}
	tree, err := snap.FS(c)
	if err != nil {
		s.t.Fatal(err)
	}
	steps, err := compile(context.Background(), tree, "prod", c.Committer.When)
	if err != nil {
		s.t.Fatal(err)
	}
	a := approval.Author{Dir: s.repo.Dir, Key: key, Ident: gitrepo.Ident{Name: "A", Email: "a@example.test", When: s.clock()}}
	if _, err := a.Statement(approval.Candidate{Snapshot: snap, Environment: "prod", Commit: commit, Steps: steps, Compiler: "v1"}, s.trust()); err != nil {
		s.t.Fatal(err)
	}
}

func TestGitDownIsToldOnceAndBacksOff(t *testing.T) {
	s := newSite(t, "")
	f := s.feed(func(c *Config) { c.Interval, c.MaxBackoff = time.Second, 10*time.Second })
	s.want(events(f, 1), Approved)
	if err := os.Rename(s.repo.Dir, s.repo.Dir+".gone"); err != nil {
		t.Fatal(err)
	}
	s.want(events(f, 6), Unreachable)
	if d := f.wait(); d < 10*time.Second || d > 11*time.Second {
		t.Errorf("waits %s after six failures", d)
	}
	if err := os.Rename(s.repo.Dir+".gone", s.repo.Dir); err != nil {
		t.Fatal(err)
	}
	s.want(events(f, 3), Reachable)
	if d := f.wait(); d < time.Second || d > 1100*time.Millisecond || serves(f) != "0" {
		t.Errorf("waits %s, serves %q", d, serves(f))
	}
}

func TestApprovalThatCannotBeStoredIsServedAndToldOnce(t *testing.T) {
	s := newSite(t, "")
	if err := os.WriteFile(s.dir, []byte("a file where the folder should be"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := s.feed()
	f.emit = func(Event) {}
	var got []Event
	for range 3 {
		f.Poll(context.Background(), func(e Event) { got = append(got, e) })
	}
	s.want(got, NotStored, Approved)
	if err := os.Remove(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere/at/all", s.dir); err != nil { // the reason changes, with every look perhaps
		t.Fatal(err)
	}
	s.want(events(f, 3))
	if f.Condition().Wrong[NotStored] == nil {
		t.Error("no problem is left")
	}
	if err := os.Remove(s.dir); err != nil {
		t.Fatal(err)
	}
	s.want(events(f, 1))
	if len(f.Condition().Wrong) > 0 {
		t.Errorf("problems %v", f.Condition().Wrong)
	}
	if a, err := approval.NewStore(s.dir).Restore(); err != nil || a.Commit() != s.root {
		t.Errorf("stored later: %q, %v", a.Commit(), err)
	}
}

// TestRepositoryCuresDamagedBytes: what all stored approvals have in common is stored
// once, so that damage to it leaves none of them; the next look writes it anew.
func TestRepositoryCuresDamagedBytes(t *testing.T) {
	s := newSite(t, "")
	s.want(events(s.feed(), 1), Approved)
	blobs, err := filepath.Glob(filepath.Join(s.dir, "blobs", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatalf("blobs %v, %v", blobs, err)
	}
	for _, b := range blobs {
		if err := os.WriteFile(b, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := s.feed()
	s.want(events(f, 0), Damaged)
	if f.Current().Commit() != "" || f.Condition().Wrong[Damaged] == nil {
		t.Errorf("serves %q, wrong %v", f.Current().Commit(), f.Condition().Wrong)
	}
	s.want(events(f, 1), Damaged, Approved)
	if wrong := f.Condition().Wrong; len(wrong) > 0 {
		t.Errorf("still wrong: %v", wrong)
	}
	if a, err := approval.NewStore(s.dir).Restore(); err != nil || a.Commit() != s.root {
		t.Errorf("stored again: %q, %v", a.Commit(), err)
	}
}

func TestStoredApprovalOfAnotherRepositoryIsNotServed(t *testing.T) {
	s := newSite(t, "")
	s.want(events(s.feed(), 1), Approved)
	other := s.feed(func(c *Config) { c.Trust.Repository = "other" })
	s.want(events(other, 0), Damaged)
	if other.Current().Commit() != "" {
		t.Error("serves another repository's release")
	}
}

// Attack 21: the branch moves between verification and reading, as often as it
// can; what is compiled is always what was verified.
func TestAttack21SwapBetweenVerifyAndRead(t *testing.T) {
	s := newSite(t, "")
	evil := gittest.NewKey(t)
	moves := 0
	f := s.feed(func(c *Config) {
		c.Compile = func(ctx context.Context, tree fs.FS, env string, at time.Time) ([]approval.Step, error) {
			moves++
			s.commit(&evil, "mesh.cue", "evil") // after the history was accepted, before a file is read
			steps, err := compile(ctx, tree, env, at)
			s.repo.Git("gc", "-q", "--prune=now")
			return steps, err
		}
	})
	s.want(events(f, 1), Approved)
	if serves(f) != "0" || moves != 1 {
		t.Fatalf("serves %q after %d moves", serves(f), moves)
	}
	s.want(events(f, 2), Refused)
	if serves(f) != "0" {
		t.Fatalf("serves %q", serves(f))
	}
}

func TestRunEndsWithItsContextAndLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	s := newSite(t, "")
	ctx, cancel := context.WithCancel(context.Background())
	wake := make(chan struct{})
	f := s.feed(func(c *Config) { c.Interval, c.Wake = time.Hour, wake })
	got := make(chan Event, 10)
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, func(e Event) { got <- e }) }()
	next := func() Event {
		t.Helper()
		select {
		case e := <-got:
			return e
		case <-time.After(time.Minute):
			t.Fatal("no event")
			return Event{}
		}
	}
	if e := next(); e.Kind != Approved {
		t.Fatalf("%+v", e)
	}
	c := s.commit(&s.key, "mesh.cue", "1")
	wake <- struct{}{}
	if e := next(); e.Kind != Approved || e.Commit != c {
		t.Fatalf("%+v", e)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	deadline := time.Now().Add(time.Minute)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration is accepted")
	}
	s := newSite(t, "")
	c := s.feed().c
	c.Environment = "none"
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("unknown environment: %v", err)
	}
}
