package release_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// Whatever layers two Positions share, what Since says makes one of the other; and
// looked up by path they are what they are as a whole.
func TestPositionsSinceOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := func(i int) string { return fmt.Sprint("service/ns/s", i) }
		var pool []*release.Provenance // for the whole
		for range 4 {
			layer := release.Provenance{}
			for _, path := range []string{"mesh", "gateway/ns/g", unit(0), unit(1) + "/route/a"} {
				if line := rapid.IntRange(0, 2).Draw(t, "line"); line > 0 {
					layer[path] = diag.Pos{Line: line}
				}
			}
			pool = append(pool, &layer)
		}
		draw := func(shared map[string]*release.Provenance) (release.Positions, map[string]*release.Provenance) {
			units := map[string]*release.Provenance{}
			whole := rapid.SliceOfNDistinct(rapid.SampledFrom(pool), 0, 2, func(p *release.Provenance) *release.Provenance { return p }).Draw(t, "whole")
			slices.SortFunc(whole, func(a, b *release.Provenance) int { return slices.Index(pool, a) - slices.Index(pool, b) })
			for i := range 3 {
				if layer, ok := shared[unit(i)]; ok && rapid.Bool().Draw(t, "stays") {
					units[unit(i)] = layer
				} else if rapid.Bool().Draw(t, "is there") {
					units[unit(i)] = &release.Provenance{}
					for _, path := range []string{unit(i), unit(i) + "/route/a", unit(i) + "/route/b"} {
						if line := rapid.IntRange(0, 2).Draw(t, "line"); line > 0 {
							(*units[unit(i)])[path] = diag.Pos{Line: line}
						}
					}
				}
			}
			return release.NewPositions(units, whole...), units
		}
		before, units := draw(nil)
		now, _ := draw(units)
		put, gone := now.Since(before)
		made := before.Provenance()
		for path, at := range put {
			if was, ok := made[path]; ok && was == at {
				t.Fatalf("%s is told, and has not changed", path)
			}
			made[path] = at
		}
		for _, path := range gone {
			delete(made, path)
		}
		if diff := cmp.Diff(now.Provenance(), made); diff != "" {
			t.Fatal(diff)
		}
		for _, path := range []string{"mesh", "none", "gateway/ns/g", unit(0), unit(1) + "/route/a", unit(2) + "/route/b", "service"} {
			want, there := made[path]
			if at, ok := now.At(path); at != want || ok != there {
				t.Fatalf("%s is at %v, %v; want %v, %v", path, at, ok, want, there)
			}
		}
	})
}
