package resolve

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/internal/model"
)

func drawPath(t *rapid.T) model.Path {
	kind := rapid.SampledFrom([]model.PathKind{"", model.PathExact, model.PathPrefix, model.PathTemplate}).Draw(t, "kind")
	if kind == "" {
		return model.Path{}
	}
	segments := []string{"a", "b", "ab"}
	if kind == model.PathTemplate {
		segments = append(segments, "{x}")
	}
	value := ""
	for _, s := range rapid.SliceOfN(rapid.SampledFrom(segments), 0, 3).Draw(t, "segments") {
		value += "/" + s
	}
	if kind == model.PathTemplate && strings.Contains(value, "{") && rapid.Bool().Draw(t, "open") {
		value += "/*"
	}
	if value == "" || kind == model.PathExact && rapid.Bool().Draw(t, "slash") {
		value += "/"
	}
	return model.Path{Kind: kind, Value: value}
}

// Whatever takes all of a path's requests is found, and so is whatever has its rank and
// meets it.
func TestPathIndexLeavesNothingOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		paths := rapid.SliceOfN(rapid.Custom(drawPath), 0, 12).Draw(t, "paths")
		p := drawPath(t)
		x := newPathIndex()
		for i, a := range paths {
			x.put(i, a)
		}
		found := x.over(p)
		if !slices.IsSorted(found) || len(slices.Compact(slices.Clone(found))) != len(found) {
			t.Fatalf("places %v", found)
		}
		for i, a := range paths {
			am, pm := model.Match{Path: a}, model.Match{Path: p}
			both, ok := model.IntersectMatches(am, pm)
			ranked := compareRank(model.Route{Match: am}, model.Route{Match: pm}) == 0
			if ok && (ranked || covers(pm, both)) && !slices.Contains(found, i) {
				t.Fatalf("%v is not among those over %v", a, p)
			}
		}
	})
}
