package feed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// mirror is the site's repository as it is pushed.
func (s *site) mirror() []gitrepo.File {
	s.t.Helper()
	repo, err := gitrepo.Open(s.repo.Dir, "refs/heads/main", gitrepo.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer repo.Close()
	snap, err := repo.Fetch(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	files, err := snap.Mirror()
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}

// carrier carries whatever was put into it last.
type carrier struct {
	version int
	files   []gitrepo.File
	err     error
}

func (c *carrier) put(files []gitrepo.File, err error) {
	c.version++
	c.files, c.err = files, err
}

func (c *carrier) carry(_ context.Context, have string) (gitrepo.Carried, error) {
	v := fmt.Sprint(c.version)
	if c.err != nil || v == have {
		return gitrepo.Carried{}, c.err
	}
	return gitrepo.Carried{Version: v, Files: c.files}, nil
}

func (c *carrier) open(t *testing.T) func(*Config) {
	t.Helper()
	repo, err := gitrepo.OpenCarried("test", "refs/heads/main", c.carry, gitrepo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return func(f *Config) { f.Repo = repo }
}

func (s *site) wantRefused(got []Event, code diag.Code) {
	s.t.Helper()
	s.want(got, Refused)
	if d, ok := got[0].Err.(interface{ Diagnostic() diag.Diagnostic }); !ok || d.Diagnostic().Code != code {
		s.t.Errorf("refused by %v, want %s", got[0].Err, code)
	}
}

// Whoever carries the intent can hold it back, and nothing else.
func TestCarriersProveNothing(t *testing.T) {
	s := newSite(t, "")
	older := s.mirror()
	second := s.commit(&s.key, "mesh.cue", "2")
	newer := s.mirror()
	var c carrier
	c.put(newer, nil)
	f := s.feed(c.open(t))
	s.want(events(f, 1), Approved)
	direct := s.feed(func(c *Config) { c.Dir = "" })
	events(direct, 1)
	if a, b := f.Current().At(s.now).Digest(), direct.Current().At(s.now).Digest(); a != b || a == "" {
		t.Errorf("carried it is release %s, from the repository %s", a, b)
	}
	serving := func(what string) {
		t.Helper()
		if f.Current().Commit() != second {
			t.Errorf("%s: %s is served, not %s", what, f.Current().Commit(), second)
		}
	}

	c.put(older, nil) // correctly signed, and served before
	s.wantRefused(poll(f), diag.CodeNotDescended)
	serving("an older one")
	c.put(newer, nil)
	poll(f)

	other := newSite(t, "")
	c.put(other.mirror(), nil)
	s.wantRefused(poll(f), diag.CodeOtherRepository)
	serving("another repository")

	c.put([]gitrepo.File{{Path: "README", Bytes: []byte("x")}}, nil)
	s.want(poll(f), Unreachable)
	serving("nothing")
	c.put(newer, nil)
	s.want(poll(f), Reachable)

	c.put(nil, &gitrepo.TransportError{Step: "fetching", Err: os.ErrDeadlineExceeded})
	s.want(poll(f), Unreachable)
	serving("an error")
	if f.Condition().Reachable {
		t.Error("the source is called reachable")
	}
	s.commit(nil, "mesh.cue", "unsigned")
	c.put(s.mirror(), nil)
	got := poll(f)
	s.want(got, Refused, Reachable)
	serving("an unsigned commit")

	// A server that starts has what was approved before, and is not led back either.
	c.put(older, nil)
	again := s.feed(c.open(t))
	got = events(again, 1)
	s.want(got, Approved, Refused)
	if again.Current().Commit() != second {
		t.Errorf("after a restart %s is served", again.Current().Commit())
	}
}

func poll(f *Feed) (out []Event) {
	f.Poll(context.Background(), func(e Event) { out = append(out, e) })
	return out
}

// A signed rollback goes back by any way.
func TestCarriedRollback(t *testing.T) {
	s := newSite(t, "rollbackSigners: [alice]")
	s.commit(&s.key, "mesh.cue", "2")
	var c carrier
	c.put(s.mirror(), nil)
	f := s.feed(c.open(t))
	s.want(events(f, 1), Approved)
	s.rollback(f.Current().Commit(), s.root)
	c.put(s.mirror(), nil)
	s.want(poll(f), Approved)
	if f.Current().Commit() != s.root {
		t.Errorf("%s is served", f.Current().Commit())
	}
}

// mounted is a folder that changes as the kubelet changes one: a link is put in the
// place of another, and what that led to is removed.
type mounted struct {
	t   *testing.T
	dir string
	n   int
	old string
}

func (m *mounted) put(files []gitrepo.File) {
	m.n++
	name := fmt.Sprintf("..%d", m.n)
	for _, f := range files {
		p := filepath.Join(m.dir, name, "intent.git", filepath.FromSlash(f.Path))
		m.check(os.MkdirAll(filepath.Dir(p), 0o755))
		m.check(os.WriteFile(p, f.Bytes, 0o644))
	}
	m.check(os.Symlink(name, filepath.Join(m.dir, "..data_tmp")))
	m.check(os.Rename(filepath.Join(m.dir, "..data_tmp"), filepath.Join(m.dir, "..data")))
	if m.n == 1 {
		m.check(os.Symlink(filepath.Join("..data", "intent.git"), filepath.Join(m.dir, "intent.git")))
	} else {
		m.check(os.RemoveAll(filepath.Join(m.dir, m.old)))
	}
	m.old = name
}

func (m *mounted) check(err error) {
	if err != nil {
		m.t.Error(err)
	}
}

// What a mounted folder becomes while it is read is never served by halves, and served
// in the end.
func TestMountedFolderIsSwapped(t *testing.T) {
	s := newSite(t, "")
	m := &mounted{t: t, dir: t.TempDir()}
	m.put(s.mirror())
	repo, err := gitrepo.Open(filepath.Join(m.dir, "intent.git"), "refs/heads/main", gitrepo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	f := s.feed(func(c *Config) { c.Repo = repo })
	s.want(events(f, 1), Approved)
	const changes = 12
	var mirrors [][]gitrepo.File
	var last string
	commits := map[string]bool{}
	for i := range changes {
		last = s.commit(&s.key, "mesh.cue", fmt.Sprint("v", i))
		commits[last] = true
		mirrors = append(mirrors, s.mirror())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, files := range mirrors {
			m.put(files)
		}
	}()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true // and once more, when all is still
		default:
		}
		for _, e := range poll(f) {
			if e.Kind == Approved && !commits[e.Commit] {
				t.Errorf("approved %s", e.Commit)
			}
			if e.Kind == Refused && !strings.Contains(e.Err.Error(), "not in the repository") {
				t.Errorf("%v", e.Err)
			}
		}
	}
	if f.Current().Commit() != last {
		t.Errorf("%s is served, not %s: %v", f.Current().Commit(), last, f.Condition().Wrong)
	}
	// An older folder, put in its place, is refused.
	m.put(mirrors[0])
	got := poll(f)
	if len(got) != 1 || got[0].Kind != Refused || !isCode(got[0].Err, diag.CodeNotDescended) || f.Current().Commit() != last {
		t.Errorf("%+v", got)
	}
}

func isCode(err error, code diag.Code) bool {
	d, ok := err.(interface{ Diagnostic() diag.Diagnostic })
	return ok && d.Diagnostic().Code == code
}
