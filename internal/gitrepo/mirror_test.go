package gitrepo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

func mirrorOf(t *testing.T, r *gittest.Repo) []gitrepo.File {
	t.Helper()
	s, err := fetch(r, gitrepo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := s.Mirror()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// carrying opens what carry gives.
func carrying(t *testing.T, carry gitrepo.Carry, o gitrepo.Options) *gitrepo.Repo {
	t.Helper()
	repo, err := gitrepo.OpenCarried("somewhere", "refs/heads/main", carry, o)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// history makes a repository with merges, tags of all kinds, and files that are links.
func history(t *testing.T, commits int) *gittest.Repo {
	t.Helper()
	k := gittest.NewKey(t)
	r := gittest.New(t)
	for i := range commits {
		h := r.Commit(gittest.Commit{Files: map[string]string{"shop/a.cue": fmt.Sprint(i), fmt.Sprintf("b%d/c.cue", i%7): strings.Repeat("line\n", i+1)}, Key: &k})
		if i%3 == 0 {
			tag := gitrepo.NewTag{Name: fmt.Sprintf("meshc/x/%d", i), Commit: h, Tagger: gitrepo.Ident{Name: "A", Email: "a", When: gittest.Start()}, Message: "m"}
			if _, err := gitrepo.WriteTag(r.Dir, tag, k.Signer()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return r
}

// What is read of a mirror, carried or as a folder, is what is read of the repository.
func TestMirrorReadsTheSame(t *testing.T) {
	r := history(t, 23)
	r.Git("tag", "meshc/light", "HEAD~3")
	want, err := fetch(r, gitrepo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	files := mirrorOf(t, r)
	dir := filepath.Join(t.TempDir(), "intent.git")
	for _, f := range files {
		writeAt(t, filepath.Join(dir, filepath.FromSlash(f.Path)), f.Bytes)
	}
	folder, err := gitrepo.Open(dir, "refs/heads/main", gitrepo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	carried := carrying(t, func(context.Context, string) (gitrepo.Carried, error) {
		return gitrepo.Carried{Version: "1", Files: files}, nil
	}, gitrepo.Options{})
	for name, repo := range map[string]*gitrepo.Repo{"folder": folder, "carried": carried} {
		got, err := repo.Fetch(context.Background())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Head() != want.Head() || !slices.Equal(got.TagNames("meshc/"), want.TagNames("meshc/")) {
			t.Errorf("%s: head %s, tags %v", name, got.Head(), got.TagNames("meshc/"))
		}
		chain, err := got.Chain("", got.Head())
		if err != nil || len(chain) != 23 {
			t.Fatalf("%s: %d commits, %v", name, len(chain), err)
		}
		for _, c := range chain {
			a, erra := got.Changed(c)
			b, errb := want.Changed(c)
			if erra != nil || errb != nil || !slices.Equal(a, b) {
				t.Errorf("%s: commit %s changes %v (%v), want %v (%v)", name, c.Hash, a, erra, b, errb)
			}
		}
		if err := readAll(got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, tag := range want.TagNames("meshc/x/") {
			a, erra := got.Tag(tag)
			b, errb := want.Tag(tag)
			if erra != nil || errb != nil || a.Hash != b.Hash || a.Signature.Armor != b.Signature.Armor {
				t.Errorf("%s: tag %s: %v, %v", name, tag, erra, errb)
			}
		}
	}
	if got := r.Git("--git-dir", dir, "rev-list", "--first-parent", "--count", "main"); got != "23" {
		t.Errorf("git counts %s commits", got)
	}
	r.Git("--git-dir", dir, "verify-pack", filepath.Join(dir, "objects", "pack", filepath.Base(onePack(files))))
}

func onePack(files []gitrepo.File) string {
	i := slices.IndexFunc(files, func(f gitrepo.File) bool { return strings.HasSuffix(f.Path, ".pack") })
	return files[i].Path
}

func writeAt(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// One snapshot is one mirror, and a line that grows leaves most packs alone.
func TestMirrorsShareTheirPacks(t *testing.T) {
	r := history(t, 1)
	all, last, total := map[string]bool{}, 0, 0
	const n = 40
	for i := range n {
		files := mirrorOf(t, r)
		again := mirrorOf(t, r)
		if !slices.EqualFunc(files, again, func(a, b gitrepo.File) bool { return a.Path == b.Path && bytes.Equal(a.Bytes, b.Bytes) }) {
			t.Fatalf("two mirrors of one snapshot differ after %d commits", i)
		}
		last = 0
		for _, f := range files {
			if !strings.HasSuffix(f.Path, ".pack") {
				continue
			}
			last += len(f.Bytes)
			if !all[f.Path] {
				total += len(f.Bytes)
			}
			all[f.Path] = true
		}
		r.Commit(gittest.Commit{Files: map[string]string{"shop/a.cue": fmt.Sprint("v", i)}})
	}
	if total > 7*last { // a pack for each power of two up to 40, and what is written twice
		t.Errorf("%d mirrors take %d bytes of packs, the last one %d", n, total, last)
	}
}

// What merged branches had is not in it; what they brought is.
func TestMirrorLeavesMergedBranchesOut(t *testing.T) {
	r := history(t, 2)
	main := r.Git("rev-parse", "main")
	secret := r.Commit(gittest.Commit{Files: map[string]string{"secret": "draft", "kept": "1"}, Parents: []string{main}, Ref: "refs/heads/side"})
	side := r.Commit(gittest.Commit{Files: map[string]string{"secret": "", "kept": "2"}, Parents: []string{secret}, Ref: "refs/heads/side"})
	r.Commit(gittest.Commit{Parents: []string{main, side}})
	files := mirrorOf(t, r)
	repo := carrying(t, func(context.Context, string) (gitrepo.Carried, error) {
		return gitrepo.Carried{Version: "1", Files: files}, nil
	}, gitrepo.Options{})
	s, err := repo.Fetch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(secret); err == nil {
		t.Error("a commit of a merged branch is in the mirror")
	}
	head, err := s.Commit(s.Head())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Changed(head); err != nil || !slices.Contains(got, "kept") {
		t.Errorf("the merge changes %v, %v", got, err)
	}
}

// What is odd in a tree is the same problem in the mirror.
func TestMirrorCarriesWhatIsRefused(t *testing.T) {
	r := history(t, 2)
	if err := os.Symlink("/etc/passwd", filepath.Join(r.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	r.Commit(gittest.Commit{})
	files := mirrorOf(t, r)
	s, err := carrying(t, func(context.Context, string) (gitrepo.Carried, error) {
		return gitrepo.Carried{Version: "1", Files: files}, nil
	}, gitrepo.Options{}).Fetch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, readAll(s), diag.CodeGitTree, "link")
}

// A carrier is asked each time, and what came of a version is kept.
func TestCarriedVersions(t *testing.T) {
	r := history(t, 3)
	files := mirrorOf(t, r)
	bad := []gitrepo.File{{Path: "README", Bytes: []byte("nothing")}}
	var had []string
	next := gitrepo.Carried{Version: "1", Files: files}
	repo := carrying(t, func(_ context.Context, have string) (gitrepo.Carried, error) {
		had = append(had, have)
		if have == next.Version {
			return gitrepo.Carried{Version: have}, nil
		}
		return next, nil
	}, gitrepo.Options{})
	first, err := repo.Fetch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := repo.Fetch(context.Background()); err != nil || again != first {
		t.Errorf("%p became %p, %v", first, again, err)
	}
	_, err = carrying(t, func(context.Context, string) (gitrepo.Carried, error) { return gitrepo.Carried{}, nil }, gitrepo.Options{}).Fetch(context.Background())
	if te := (*gitrepo.TransportError)(nil); !errors.As(err, &te) {
		t.Errorf("nothing was brought: %v", err)
	}
	next = gitrepo.Carried{Version: "2", Files: bad}
	for range 2 {
		_, err = repo.Fetch(context.Background())
		wantCode(t, err, diag.CodeGitMissing, "no pack")
	}
	next = gitrepo.Carried{Version: "3", Files: files}
	if s, err := repo.Fetch(context.Background()); err != nil || s.Head() != first.Head() {
		t.Errorf("after a bad one: %v", err)
	}
	if want := []string{"", "1", "1", "2", "2"}; !slices.Equal(had, want) {
		t.Errorf("the carrier was told %v, want %v", had, want)
	}
}

// Mirrors come from anybody.
func TestHostileMirrors(t *testing.T) {
	r := history(t, 5)
	files := mirrorOf(t, r)
	change := func(f func(path string, b []byte) []byte) []gitrepo.File {
		var out []gitrepo.File
		for _, file := range files {
			if b := f(file.Path, bytes.Clone(file.Bytes)); b != nil {
				out = append(out, gitrepo.File{Path: file.Path, Bytes: b})
			}
		}
		return out
	}
	isPack := func(p string) bool { return strings.HasSuffix(p, ".pack") }
	for name, c := range map[string]struct {
		files []gitrepo.File
		o     gitrepo.Options
		code  diag.Code
		text  string
	}{
		"no ref": {files: change(func(p string, b []byte) []byte { return keepUnless(p == "refs/heads/main", b) }), code: diag.CodeGitMissing, text: "refs/heads/main"},
		"a ref of words": {files: change(func(p string, b []byte) []byte {
			return replaceIf(p == "refs/heads/main", b, "ref: refs/heads/other\n")
		}), code: diag.CodeGitObject, text: "no hash"},
		"no packs":         {files: change(func(p string, b []byte) []byte { return keepUnless(isPack(p), b) }), code: diag.CodeGitMissing, text: "no pack"},
		"a pack cut short": {files: change(func(p string, b []byte) []byte { return keepHalfIf(isPack(p), b) }), code: diag.CodeGitObject, text: "pack"},
		"packed refs":      {files: change(func(p string, b []byte) []byte { return replaceIf(p == "packed-refs", b, "x\n") }), code: diag.CodeGitObject, text: "packed-refs"},
		"too much":         {files: files, o: gitrepo.Options{Limits: gitrepo.Limits{Inflated: 400}}, code: diag.CodeGitLimit, text: "unpacks"},
		"many refs":        {files: files, o: gitrepo.Options{Limits: gitrepo.Limits{Refs: 1}}, code: diag.CodeGitLimit, text: "refs"},
	} {
		repo := carrying(t, func(context.Context, string) (gitrepo.Carried, error) {
			return gitrepo.Carried{Version: "1", Files: c.files}, nil
		}, c.o)
		_, err := repo.Fetch(context.Background())
		t.Run(name, func(t *testing.T) { wantCode(t, err, c.code, c.text) })
	}
}

func keepUnless(gone bool, b []byte) []byte {
	if gone {
		return nil
	}
	return b
}

func replaceIf(it bool, b []byte, by string) []byte {
	if it {
		return []byte(by)
	}
	return b
}

func keepHalfIf(it bool, b []byte) []byte {
	if it {
		return b[:len(b)/2]
	}
	return b
}
