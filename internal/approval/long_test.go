package approval

import (
	"fmt"
	"testing"

	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// BenchmarkVerifyNextCommit is the work between a fetched commit and its approval,
// without compiling, behind a history of a thousand commits.
func BenchmarkVerifyNextCommit(b *testing.B) {
	w := newWorld(b)
	parent := w.root
	tree := w.repo.Git("rev-parse", "HEAD^{tree}")
	for i := range 1000 {
		parent = w.repo.Commit(gittest.Commit{Key: &w.ops, Tree: tree, Parents: []string{parent}, Message: fmt.Sprint(i)})
	}
	w.now = w.now.Add(1000 * 60e9)
	s := w.approved(parent, State{}).State()
	next := w.repo.Commit(gittest.Commit{Key: &w.ops, Tree: tree, Parents: []string{parent}})
	c, t := w.candidate(next), w.trust()
	for b.Loop() {
		if _, err := Next(c, s, t, w.now); err != nil {
			b.Fatal(err)
		}
		if _, err := Verify(c, s, t, w.now); err != nil {
			b.Fatal(err)
		}
	}
}
