package gitrepo_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// ancestry is what a test knows of the commits that it made: each one's ancestors, itself
// among them.
type ancestry map[string]map[string]bool

// bases are the common ancestors that no other one has.
func (h ancestry) bases(a, b string) []string {
	var common, out []string
	for c := range h[a] {
		if h[b][c] {
			common = append(common, c)
		}
	}
	for _, c := range common {
		if !slices.ContainsFunc(common, func(d string) bool { return d != c && h[d][c] }) {
			out = append(out, c)
		}
	}
	return out
}

func (h ancestry) ahead(this, other string) int {
	n := 0
	for c := range h[other] {
		if !h[this][c] {
			n++
		}
	}
	return n
}

// Where two commits parted, in histories with merges, several roots, and dates that go back.
func TestMergeBase(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7)) //nolint:gosec // the same histories each time
	repo, tree := gittest.New(t), ""
	known := ancestry{}
	var all []string
	for i := range 60 {
		parents := []string{}
		for range r.IntN(4) {
			if i > 0 {
				if p := all[max(0, i-1-r.IntN(8))]; !slices.Contains(parents, p) {
					parents = append(parents, p)
				}
			}
		}
		when := gittest.Start().Add(time.Duration(i-r.IntN(4)) * time.Minute)
		hash := repo.Commit(gittest.Commit{Tree: tree, Parents: parents, When: when, Message: strconv.Itoa(i)})
		known[hash] = map[string]bool{hash: true}
		for _, p := range parents {
			for c := range known[p] {
				known[hash][c] = true
			}
		}
		all = append(all, hash)
	}
	parted := 0
	for range 200 {
		a, b := all[r.IntN(len(all))], all[r.IntN(len(all))]
		s, err := gitrepo.At(repo.Dir, b, gitrepo.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.MergeBase(a, b)
		if err != nil {
			t.Fatal(err)
		}
		want := known.bases(a, b)
		if len(want) == 0 && got.Commit != "" || len(want) > 0 && !slices.Contains(want, got.Commit) || got.Ahead != known.ahead(a, b) {
			t.Errorf("%.8s and %.8s: got %+v, want one of %v, %d ahead", a, b, got, want, known.ahead(a, b))
		}
		if len(want) > 0 && want[0] != a && want[0] != b {
			parted++
		}
	}
	if parted < 20 {
		t.Errorf("only %d pairs had parted", parted)
	}
}
