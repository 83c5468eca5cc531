package branch_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
	"meshc.dev/meshc/internal/rendered"
	"meshc.dev/meshc/internal/rendered/branch"
)

// site is a clone with a remote, and a key.
type site struct {
	clone  *gittest.Repo
	target branch.Target
	key    gittest.Key
}

func newSite(t *testing.T) site {
	t.Helper()
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	r := gittest.New(t)
	remote := filepath.Join(t.TempDir(), "remote.git")
	r.Git("init", "-q", "--bare", remote)
	r.Git("remote", "add", "origin", remote)
	return site{clone: r, target: branch.Target{Clone: r.Dir, Remote: "origin", Name: "rendered/prod"}, key: gittest.NewKey(t)}
}

// tree is what is pushed for the n-th commit.
func tree(n int64, text string) rendered.Tree {
	commit := strings.Repeat(string("0123456789abcdef"[n%16]), 40)
	return rendered.Tree{
		Label: rendered.Label{Repository: "shop", Environment: "prod", Commit: commit, Release: strings.Repeat("a", 64), Place: approval.Place{Position: n}},
		Files: []gitrepo.File{{Path: "intent.git/HEAD", Bytes: []byte("x")}, {Path: "kubernetes/a/b.yaml", Bytes: []byte(text)}},
	}
}

func (s site) push(t *testing.T, what rendered.Tree, signer gitrepo.Signer) (branch.Pushed, error) {
	t.Helper()
	return s.target.Push(context.Background(), what, branch.Author{Ident: gitrepo.Ident{Name: "A", Email: "a@b", When: gittest.Start()}, Signer: signer})
}

// meddling signs, but first does something, once.
type meddling struct {
	gitrepo.Signer
	first func()
}

func (m *meddling) Sign(r io.Reader) ([]byte, error) {
	if f := m.first; f != nil {
		m.first = nil
		f()
	}
	return m.Signer.Sign(r)
}

// Who is overtaken goes on top of what came first, or is told that it is newer.
func TestSomebodyElseWasFaster(t *testing.T) {
	s := newSite(t)
	first, err := s.push(t, tree(1, "one"), s.key.Signer())
	if err != nil || !first.New {
		t.Fatalf("%+v, %v", first, err)
	}
	other := func(what rendered.Tree) func() {
		return func() {
			if _, err := s.push(t, what, s.key.Signer()); err != nil {
				t.Errorf("the faster one: %v", err)
			}
		}
	}
	p, err := s.push(t, tree(3, "three"), &meddling{s.key.Signer(), other(tree(2, "two"))})
	if err != nil || !p.New {
		t.Fatalf("%+v, %v", p, err)
	}
	if got := s.clone.Git("ls-remote", "origin", "refs/heads/rendered/prod"); !strings.HasPrefix(got, p.Commit) {
		t.Errorf("the branch stands at %s, pushed was %s", got, p.Commit)
	}
	s.clone.Git("fetch", "-q", "origin", "rendered/prod")
	if n := s.clone.Git("rev-list", "--count", "FETCH_HEAD"); n != "3" {
		t.Errorf("the branch has %s commits", n)
	}
	_, err = s.push(t, tree(4, "four"), &meddling{s.key.Signer(), other(tree(5, "five"))})
	wantCode(t, err, diag.CodePush, "which was approved after")
	// The same from two sides is one commit.
	if _, err = s.push(t, tree(6, "six"), &meddling{s.key.Signer(), other(tree(6, "six"))}); err != nil {
		t.Error(err)
	}
	s.clone.Git("fetch", "-q", "origin", "rendered/prod")
	if n := s.clone.Git("rev-list", "--count", "FETCH_HEAD"); n != "5" {
		t.Errorf("the branch has %s commits", n)
	}
}

// Without end there is an end.
func TestAlwaysOvertaken(t *testing.T) {
	s := newSite(t)
	n := int64(1)
	if _, err := s.push(t, tree(n, "x"), s.key.Signer()); err != nil {
		t.Fatal(err)
	}
	var m *meddling
	again := func() {
		n++
		if _, err := s.push(t, tree(n, "x"), s.key.Signer()); err != nil {
			t.Error(err)
		}
	}
	m = &meddling{Signer: signs(func(r io.Reader) ([]byte, error) { again(); return s.key.Signer().Sign(r) })}
	_, err := s.push(t, tree(100, "last"), m)
	wantCode(t, err, diag.CodePush, "somebody else was faster 5 times")
}

type signs func(io.Reader) ([]byte, error)

func (f signs) Sign(r io.Reader) ([]byte, error) { return f(r) }

// What a stranger wrote on the branch is never covered.
func TestForeignBranches(t *testing.T) {
	for name, message := range map[string]string{
		"nothing": "hello", "half": "x\n\nmeshc-repository: shop\nmeshc-environment: prod\n",
		"twice": messageOf(tree(1, "")) + "meshc-place: 0.0\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			h := s.clone.Commit(gittest.Commit{Files: map[string]string{"a": "1"}, Message: message})
			s.clone.Git("push", "-q", "origin", h+":refs/heads/rendered/prod")
			_, err := s.push(t, tree(2, "x"), s.key.Signer())
			wantCode(t, err, diag.CodePush, "not pushed by meshc")
		})
	}
	s := newSite(t)
	s.target.Clone = t.TempDir()
	_, err := s.push(t, tree(1, "x"), s.key.Signer())
	wantCode(t, err, diag.CodeGitFetch, "no clone")
}

func messageOf(t rendered.Tree) string {
	out := "x\n\n"
	for k, v := range t.Label.Values() {
		out += k + ": " + v + "\n"
	}
	return out
}

func wantCode(t *testing.T, err error, code diag.Code, text string) {
	t.Helper()
	var d interface{ Diagnostic() diag.Diagnostic }
	if !errors.As(err, &d) || d.Diagnostic().Code != code || !strings.Contains(err.Error(), text) || d.Diagnostic().Fix == "" {
		t.Errorf("got %v, want %s with %q", err, code, text)
	}
}
