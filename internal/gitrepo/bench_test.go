package gitrepo_test

import (
	"bytes"
	"fmt"
	"testing"

	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// manyTags makes a repository with n annotated tags, each an object of its own.
func manyTags(b *testing.B, n int) *gittest.Repo {
	b.Helper()
	r := gittest.New(b)
	h := r.Commit(gittest.Commit{Files: map[string]string{"a": "1"}})
	var in bytes.Buffer
	for i := range n {
		fmt.Fprintf(&in, "tag meshc/prod/%d\nfrom %s\ntagger x <x@x> 1 +0000\ndata 1000\n%0999d\n\n", i+1, h, i)
	}
	r.GitIn(in.Bytes(), "fast-import", "--quiet")
	r.Git("pack-refs", "--all")
	return r
}

// A look at many tags costs in proportion to them, and hardly anything when they
// were read before.
func BenchmarkTags(b *testing.B) {
	for _, n := range []int{2_000, 20_000} {
		r := manyTags(b, n)
		read := func(b *testing.B, repo *gitrepo.Repo) {
			b.Helper()
			s, err := repo.Fetch(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if tags, bad := s.Tags("meshc/"); len(tags) != n || len(bad) > 0 {
				b.Fatalf("%d tags, %v", len(tags), bad)
			}
		}
		b.Run(fmt.Sprintf("first/%d", n), func(b *testing.B) {
			for range b.N {
				repo, err := gitrepo.Open(r.Dir, "refs/heads/main", gitrepo.Options{})
				if err != nil {
					b.Fatal(err)
				}
				read(b, repo)
				repo.Close()
			}
		})
		b.Run(fmt.Sprintf("again/%d", n), func(b *testing.B) {
			repo, err := gitrepo.Open(r.Dir, "refs/heads/main", gitrepo.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer repo.Close()
			read(b, repo)
			for b.Loop() {
				read(b, repo)
			}
		})
		b.Run(fmt.Sprintf("prefix/%d", n), func(b *testing.B) {
			repo, err := gitrepo.Open(r.Dir, "refs/heads/main", gitrepo.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer repo.Close()
			s, err := repo.Fetch(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if len(s.TagNames("meshc/approve/")) > 0 {
					b.Fatal("there are none")
				}
			}
		})
	}
}
