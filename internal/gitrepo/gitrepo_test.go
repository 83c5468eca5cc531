package gitrepo_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

func snapshot(t *testing.T, r *gittest.Repo, o gitrepo.Options) *gitrepo.Snapshot {
	t.Helper()
	s, err := fetch(r, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fetch(r *gittest.Repo, o gitrepo.Options) (*gitrepo.Snapshot, error) {
	repo, err := gitrepo.Open(r.Dir, "refs/heads/main", o)
	if err != nil {
		return nil, err
	}
	return repo.Fetch(context.Background())
}

func wantCode(t *testing.T, err error, code diag.Code, text string) {
	t.Helper()
	var r *gitrepo.Refused
	if !errors.As(err, &r) || r.Code != code || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %v, want %s with %q", err, code, text)
	}
	if r.Fix == "" {
		t.Errorf("%v: no way out is given", err)
	}
}

func TestCommitsTreesAndChangesOfARealRepository(t *testing.T) {
	k := gittest.NewKey(t)
	for _, packed := range []string{"loose", "packed"} {
		t.Run(packed, func(t *testing.T) {
			r := gittest.New(t)
			r.Commit(gittest.Commit{Files: map[string]string{"mesh.cue": "package m", "shop/a.cue": "a", "shop/b.cue": "b"}, Key: &k})
			c1 := r.Git("rev-parse", "HEAD")
			r.Commit(gittest.Commit{Files: map[string]string{"shop/a.cue": "", "shop/b.cue": "b2", "shop/new/c.cue": "c"}, Key: &k})
			c2 := r.Git("rev-parse", "HEAD")
			if packed == "packed" {
				r.Git("gc", "-q")
			}
			s := snapshot(t, r, gitrepo.Options{})
			if s.Head() != c2 {
				t.Fatalf("head %s, want %s", s.Head(), c2)
			}
			chain, err := s.Chain("", c2)
			if err != nil || len(chain) != 2 || chain[0].Hash != c1 || chain[1].Signature.Kind != gitrepo.SSHSignature {
				t.Fatalf("chain %v, %v", chain, err)
			}
			changed, err := s.Changed(chain[1])
			if got := strings.Join(changed, " "); err != nil || got != "shop/a.cue shop/b.cue shop/new/c.cue" {
				t.Errorf("changed %q, %v", got, err)
			}
			fsys, err := s.FS(chain[1])
			if err != nil {
				t.Fatal(err)
			}
			if err := fstest.TestFS(fsys, "mesh.cue", "shop/b.cue", "shop/new/c.cue"); err != nil {
				t.Error(err)
			}
			if b, err := fs.ReadFile(fsys, "shop/b.cue"); err != nil || string(b) != "b2" {
				t.Errorf("read %q, %v", b, err)
			}
			if got := chain[1].Committer.When; !got.Equal(gittest.Start().Add(60e9)) {
				t.Errorf("date %v", got)
			}
			if _, err := s.Chain(strings.Repeat("1", 40), c2); !errors.Is(err, gitrepo.ErrNotAncestor) {
				t.Errorf("chain from a stranger: %v", err)
			}
		})
	}
}

func TestFetchGivesTheSameSnapshotUntilSomethingMoves(t *testing.T) {
	k := gittest.NewKey(t)
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}, Key: &k})
	repo, err := gitrepo.Open(r.Dir, "refs/heads/main", gitrepo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var snaps []*gitrepo.Snapshot
	for _, then := range []func(){func() {}, func() { r.Commit(gittest.Commit{Files: map[string]string{"a": "2"}}) }, func() { r.Git("tag", "-a", "-m", "x", "meshc/x") }} {
		then()
		s, err := repo.Fetch(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		snaps = append(snaps, s)
	}
	again, err := repo.Fetch(context.Background())
	if err != nil || again != snaps[2] || snaps[0] == snaps[1] || snaps[1] == snaps[2] {
		t.Errorf("snapshots %p, then %p, %v", snaps, again, err)
	}
}

func TestABareRepositoryIsRead(t *testing.T) {
	r := gittest.New(t)
	head := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	bare := filepath.Join(t.TempDir(), "mesh.git")
	r.Git("clone", "-q", "--bare", r.Dir, bare)
	repo, err := gitrepo.Open(bare, "refs/heads/main", gitrepo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := repo.Fetch(context.Background()); err != nil || s.Head() != head {
		t.Errorf("%v, %v", s, err)
	}
}

func TestMissingThingsAreNamed(t *testing.T) {
	repo, err := gitrepo.Open(t.TempDir(), "refs/heads/main", gitrepo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = repo.Fetch(context.Background())
	wantCode(t, err, diag.CodeGitMissing, "no Git repository")
	_, err = fetch(gittest.New(t), gitrepo.Options{})
	wantCode(t, err, diag.CodeGitMissing, "refs/heads/main")
}
