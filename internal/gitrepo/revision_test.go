package gitrepo_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// What people write for a commit is what git takes it for, or is refused.
func TestRevisionsThatAreNone(t *testing.T) {
	r := gittest.New(t)
	first := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	second := r.Commit(gittest.Commit{Files: map[string]string{"a": "2"}})
	side := r.Commit(gittest.Commit{Files: map[string]string{"b": "2"}, Parents: []string{first}, Ref: "refs/heads/side"})
	merge := r.Commit(gittest.Commit{Parents: []string{second, side}})
	r.Git("tag", "-a", "-m", "x", "v1", first)
	r.Git("tag", "-a", "-m", "x", "v2", "v1")
	r.Git("tag", "light", second)
	r.Git("tag", "same", second) // a tag comes before a branch of that name
	r.Git("update-ref", "refs/heads/same", first)
	r.Git("update-ref", "refs/remotes/origin/main", side)
	r.Git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
	r.Git("symbolic-ref", "refs/heads/loop", "refs/heads/loop2")
	r.Git("symbolic-ref", "refs/heads/loop2", "refs/heads/loop")
	r.Git("update-ref", "refs/tags/blob", r.Git("rev-parse", first+":a"))
	for rev, want := range map[string]string{
		"v1": first, "v2": first, "v2^0": first, "light": second, "same": second, "heads/same": first, "origin": side, "origin/main": side, "remotes/origin/main": side,
		"main^2": side, "main^": second, "main~2": first, "main^2^": first, "HEAD^1~1": first, "tags/v1": first, "refs/heads/side": side, merge: merge, strings.ToUpper("head"): merge,
	} {
		if got, err := gitrepo.Resolve(r.Dir, rev); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", rev, got, err, want)
		}
		if git := r.Git("rev-parse", "--verify", rev+"^{commit}"); git != want {
			t.Errorf("git says that %s is %s", rev, git)
		}
	}
	for rev, code := range map[string]diag.Code{
		"main^3": diag.CodeGitMissing, "main~9": diag.CodeGitMissing, "v1^": diag.CodeGitMissing, "nothing": diag.CodeGitMissing, "loop": diag.CodeGitMissing,
		"0000000": diag.CodeGitMissing, "abc": diag.CodeGitMissing, strings.Repeat("1", 40): diag.CodeGitMissing, "blob": diag.CodeGitObject,
		"": diag.CodeGitSource, "-x": diag.CodeGitSource, "a..b": diag.CodeGitSource, "main:a": diag.CodeGitSource, "main^{tree}": diag.CodeGitSource, "main@{1}": diag.CodeGitSource,
		"main~" + strings.Repeat("9", 10): diag.CodeGitSource, "main\nx": diag.CodeGitSource,
	} {
		_, err := gitrepo.Resolve(r.Dir, rev)
		wantCode(t, err, code, "")
	}
}

// A symbolic ref leads to a ref of the repository: what it names elsewhere is nobody's
// branch, even if a commit's hash stands there.
func TestSymbolicRefsThatLeadOut(t *testing.T) {
	r := gittest.New(t)
	head := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git := filepath.Join(r.Dir, ".git")
	write(filepath.Join(r.Dir, "outside"), head)
	write(filepath.Join(git, "refs/heads/half.lock"), head)
	for i, to := range []string{"../outside", "refs/../../outside", filepath.Join(r.Dir, "outside"), "refs/heads/half.lock", "refs/heads/./main", "refs//heads/main", "."} {
		write(filepath.Join(git, "refs/heads/out"), "ref: "+to)
		if got, err := gitrepo.Resolve(r.Dir, "out"); err == nil {
			t.Errorf("%d: a branch that leads to %q is %s", i, to, got)
		} else {
			wantCode(t, err, diag.CodeGitMissing, "the repository does not have it")
		}
		cmd := exec.CommandContext(t.Context(), "git", "-C", r.Dir, "rev-parse", "--verify", "--quiet", "refs/heads/out^{commit}")
		if out, err := cmd.Output(); err == nil {
			t.Errorf("git says that a branch that leads to %q is %s", to, out)
		}
	}
	write(filepath.Join(git, "refs/heads/out"), "ref: refs/heads/main")
	if got, err := gitrepo.Resolve(r.Dir, "out"); err != nil || got != head {
		t.Errorf("a branch that leads to another is %q, %v", got, err)
	}
}

// A short hash is one commit's, or it is said that it is not.
func TestShortHashesOfSeveralCommits(t *testing.T) {
	for _, packedObjects := range []bool{false, true} {
		r := gittest.New(t)
		var hashes []string
		seen := map[string]int{}
		shared := ""
		for i := 0; shared == ""; i++ {
			h := r.Git("commit-tree", "-m", fmt.Sprint(i), r.Git("write-tree"))
			hashes = append(hashes, h)
			if seen[h[:4]]++; seen[h[:4]] > 1 || i == 400 {
				shared = h[:4]
			}
			r.Git("update-ref", fmt.Sprintf("refs/heads/b%d", i), h)
		}
		if packedObjects {
			r.Git("gc", "-q")
		}
		got, err := gitrepo.Resolve(r.Dir, shared)
		if seen[shared] > 1 {
			wantCode(t, err, diag.CodeGitSource, "commits begin with it")
		} else if err != nil {
			t.Errorf("%s is %s, %v", shared, got, err)
		}
		if got, err := gitrepo.Resolve(r.Dir, hashes[0][:10]); err != nil || got != hashes[0] {
			t.Errorf("%s is %s, %v", hashes[0][:10], got, err)
		}
	}
}

// A branch that cannot be read is not what it was when refs were packed.
func TestARefThatCannotBeReadIsNoOlderOne(t *testing.T) {
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	r.Git("pack-refs", "--all")
	path := filepath.Join(r.Dir, ".git/refs/heads/main")
	must(t, os.MkdirAll(filepath.Dir(path), 0o750))
	must(t, syscall.Mkfifo(path, 0o600))
	_, err := gitrepo.Resolve(r.Dir, "main")
	var te *gitrepo.TransportError
	if !errors.As(err, &te) || !te.OnDisk {
		t.Errorf("a pipe: %v", err)
	}
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, nil, 0o600))
	_, err = gitrepo.Resolve(r.Dir, "main")
	wantCode(t, err, diag.CodeGitMissing, "holds neither a hash")
}
