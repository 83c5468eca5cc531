package feed

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/signing"
)

// spoil puts a pipe in the place of a file of the repository; what it returns puts the
// file back.
func (s *site) spoil(name string) (heal func()) {
	s.t.Helper()
	path := filepath.Join(s.repo.Dir, ".git", name)
	kept := filepath.Join(s.t.TempDir(), "kept")
	if err := errors.Join(os.Rename(path, kept), syscall.Mkfifo(path, 0o600)); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		if err := errors.Join(os.Remove(path), os.Rename(kept, path)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// objectFile is the file of an object that has one.
func objectFile(hash string) string { return "objects/" + hash[:2] + "/" + hash[2:] }

// Whatever file of a local repository does not answer, it is told once as the
// source's trouble, never as a commit's; what is served stays, and once the
// repository is well again the next look takes up what is new.
func TestTheFeedOutlastsFilesThatDoNotAnswer(t *testing.T) {
	for name, where := range map[string]func(s *site, commit string) string{
		"HEAD":       func(*site, string) string { return "HEAD" },
		"config":     func(*site, string) string { return "config" },
		"the branch": func(*site, string) string { return "refs/heads/main" },
		"the commit": func(_ *site, commit string) string { return objectFile(commit) },
		"its tree":   func(s *site, commit string) string { return objectFile(s.repo.Git("rev-parse", commit+"^{tree}")) },
		"its file":   func(s *site, commit string) string { return objectFile(s.repo.Git("rev-parse", commit+":mesh.cue")) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "")
			f := s.feed()
			s.want(events(f, 1), Approved)
			next := s.commit(&s.key, "mesh.cue", "1")
			heal := s.spoil(where(s, next))
			got := events(f, 3)
			s.want(got, Unreachable)
			var te *gitrepo.TransportError
			if !errors.As(got[0].Err, &te) || !te.OnDisk || serves(f) != "0" || f.failures != 3 {
				t.Errorf("told %v, serves %q after %d failures", got[0].Err, serves(f), f.failures)
			}
			heal()
			s.want(events(f, 2), Approved, Reachable)
			if serves(f) != "1" || f.Current().Commit() != next {
				t.Errorf("serves %q", serves(f))
			}
		})
	}
}

// A rollback record that cannot be read now must not be taken for none.
func TestARecordThatCannotBeReadIsNotIgnored(t *testing.T) {
	s := newSite(t, "")
	f := s.feed()
	s.want(events(f, 1), Approved)
	from := s.commit(&s.key, "mesh.cue", "1")
	s.want(events(f, 1), Approved)
	s.rollback(from, s.root)
	heal := s.spoil(objectFile(s.repo.Git("rev-parse", "refs/tags/meshc/prod/rollback/1")))
	s.commit(&s.key, "mesh.cue", "2")
	s.want(events(f, 2), Unreachable)
	if serves(f) != "1" {
		t.Errorf("serves %q", serves(f))
	}
	heal()
	s.repo.Git("update-ref", "refs/heads/main", from)
	s.want(events(f, 1), Approved, Reachable)
	if serves(f) != "0" {
		t.Errorf("serves %q", serves(f))
	}
}

// rollback signs a record.
func (s *site) rollback(from, to string) {
	s.t.Helper()
	key, err := signing.Open(context.Background(), s.key.File(s.t), signing.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	repo, err := gitrepo.Open(s.repo.Dir, "refs/heads/main", gitrepo.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer repo.Close()
	snap, err := repo.Fetch(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	a := approval.Author{Dir: s.repo.Dir, Key: key, Ident: gitrepo.Ident{Name: "A", Email: "a@example.test", When: s.clock()}}
	if _, err := a.RollBack(snap, s.trust(), approval.RollbackMessage{Environment: "prod", From: from, To: to, Reason: "broken"}); err != nil {
		s.t.Fatal(err)
	}
}

// A look that takes too long is told as the source's trouble; the time that compiling
// takes does not count.
func TestALookHasAnEnd(t *testing.T) {
	s := newSite(t, "")
	f := s.feed(func(c *Config) { c.Patience = time.Nanosecond })
	got := events(f, 2)
	s.want(got, Unreachable)
	if !strings.Contains(got[0].Err.Error(), "not done within 1ns") {
		t.Errorf("told %v", got[0].Err)
	}
	f.c.Patience = time.Minute
	inside := make(chan bool, 1)
	f.c.Compile = func(ctx context.Context, tree fs.FS, env string, at time.Time) ([]approval.Step, error) {
		l := ctx.(*look)
		inside <- l.timer.Stop() // it does not run meanwhile
		return compile(ctx, tree, env, at)
	}
	s.want(events(f, 1), Approved, Reachable)
	if running := <-inside; running {
		t.Error("compiling takes from the look's time")
	}
}

// A stop ends a look at once, whatever it is doing, and is no failure.
func TestAStopEndsALook(t *testing.T) {
	s := newSite(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	f := s.feed(func(c *Config) {
		c.Compile = func(ctx context.Context, _ fs.FS, _ string, _ time.Time) ([]approval.Step, error) {
			cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	var got []Event
	f.Poll(ctx, func(e Event) { got = append(got, e) })
	s.want(got)
	if f.failures != 0 || f.unreachable != "" {
		t.Errorf("%d failures", f.failures)
	}
}
