package envoy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawnRoute takes paths as a route does: one, all below, or all that begin so.
type drawnRoute struct {
	path string
	kind int
}

func (r drawnRoute) takes(path string) bool {
	switch r.kind {
	case 0:
		return path == r.path
	case 1:
		return path == r.path || strings.HasPrefix(path, r.path+"/")
	}
	return strings.HasPrefix(path, r.path)
}

// first is the first of these routes that takes a path, -1 for none.
func first(all []drawnRoute, in []int, path string) int {
	for _, i := range in {
		if all[i].takes(path) {
			return i
		}
	}
	return -1
}

// The first route that fits in the leaf of a path is the first one of all, whatever the routes.
func TestALeafAnswersAsTheListDoes(t *testing.T) {
	trees := 0
	rapid.Check(t, func(t *rapid.T) {
		alphabet := rapid.SampledFrom([]string{"ab", "abcdefgh/", "a/"}).Draw(t, "alphabet")
		text := rapid.StringOfN(rapid.RuneFrom([]rune(alphabet)), 0, 9, -1)
		n := rapid.IntRange(treeFrom, 600).Draw(t, "routes")
		seed := rapid.SliceOfN(text, 40, 40).Draw(t, "texts")
		var all []drawnRoute
		var beginnings []string
		for i := range n { // drawn texts, and all pairs of them: many routes of few draws
			path := "/" + seed[i%len(seed)] + seed[i/len(seed)%len(seed)]
			kind := rapid.IntRange(0, 2).Draw(t, "kind")
			all, beginnings = append(all, drawnRoute{path, kind}), append(beginnings, path)
			if rapid.IntRange(0, 40).Draw(t, "any") == 0 {
				all[i], beginnings[i] = drawnRoute{"/" + path[len(path)-1:], 2}, "" // what is not known is in all leaves
			}
		}
		ls := leaves(beginnings)
		whole := make([]int, n)
		for i := range whole {
			whole[i] = i
		}
		if ls == nil {
			return
		}
		trees++
		copies := 0
		for _, l := range ls {
			copies += len(l.routes)
			if !slices.IsSorted(l.routes) {
				t.Fatalf("leaf %q: routes out of order: %v", l.prefix, l.routes)
			}
		}
		if copies > n*3/2 {
			t.Fatalf("%d routes in the leaves of %d", copies, n)
		}
		for range 60 {
			path := "/" + text.Draw(t, "path") + rapid.SampledFrom(seed).Draw(t, "of the routes")
			var in []int // of the longest prefix
			longest := -1
			for _, l := range ls {
				if strings.HasPrefix(path, l.prefix) && len(l.prefix) > longest {
					in, longest = l.routes, len(l.prefix)
				}
			}
			if got, want := first(all, in, path), first(all, whole, path); got != want {
				t.Fatalf("%q: route %d, without the tree %d", path, got, want)
			}
		}
	})
	if trees == 0 {
		t.Error("no tree was drawn")
	}
	if testing.Verbose() {
		t.Log(trees, "trees")
	}
}

// A host of many routes by their paths has short leaves, and one whose routes ask for no path is none.
func TestLeavesAreShort(t *testing.T) {
	var paths []string
	for i := range 5000 {
		paths = append(paths, fmt.Sprintf("/products/%d/reviews", i))
	}
	for _, l := range leaves(append(paths, "", "/")) {
		if len(l.routes) > leafRoutes+2 {
			t.Errorf("%d routes below %s", len(l.routes), l.prefix)
		}
	}
	if ls := leaves(make([]string, 5000)); ls != nil {
		t.Errorf("%d leaves of routes without paths", len(ls))
	}
}
