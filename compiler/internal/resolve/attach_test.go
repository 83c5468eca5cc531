package resolve

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// What is delegated is kept to, or a request shows that it is not: a match that is
// taken for inside takes no path outside, and the request that is shown is one.
func TestAttachedRoutesStayInside(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b", "a.b", "orders"})
	literal := rapid.Custom(func(t *rapid.T) string {
		return "/" + strings.Join(rapid.SliceOfN(segment, 1, 3).Draw(t, "segments"), "/")
	})
	delegated := rapid.Custom(func(t *rapid.T) model.Path {
		p := literal.Draw(t, "path")
		if rapid.Bool().Draw(t, "below") {
			return model.Path{Kind: model.PathBelow, Value: p + "/"}
		}
		return model.Path{Kind: model.PathExact, Value: p}
	})
	taken := func(t *rapid.T, allowed []model.Path) model.Path {
		p := literal.Draw(t, "path")
		if rapid.Bool().Draw(t, "near") { // one that may be inside
			p = strings.TrimSuffix(rapid.SampledFrom(allowed).Draw(t, "delegated").Value, "/") + rapid.SampledFrom([]string{"", p}).Draw(t, "below")
		}
		switch kind := rapid.SampledFrom([]model.PathKind{"", model.PathExact, model.PathPrefix, model.PathTemplate}).Draw(t, "kind"); kind {
		case model.PathTemplate:
			parts := strings.Split(p, "/")
			parts[rapid.IntRange(1, len(parts)-1).Draw(t, "free")] = "{x}"
			return model.Path{Kind: kind, Value: strings.Join(parts, "/")}
		case "":
			return model.Path{}
		default:
			return model.Path{Kind: kind, Value: p}
		}
	}
	insides, outsides := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		allowed := rapid.SliceOfN(delegated, 1, 4).Draw(t, "delegated")
		m := model.Match{Path: taken(t, allowed)}
		if rapid.Bool().Draw(t, "header") {
			m.When = []space.Test{{Dim: space.HeaderDim("x-a"), Any: []space.Pattern{{Kind: space.Exact, Text: "1"}}, Not: rapid.Bool().Draw(t, "not")}}
		}
		isInside := func(path string) bool {
			return slices.ContainsFunc(allowed, func(p model.Path) bool { return p.Takes(path) })
		}
		at, outside, err := takesOutside(m, allowed)
		if err != nil {
			t.Fatal(err)
		}
		if outside {
			if outsides++; !m.Path.Takes(at.Path) || isInside(at.Path) {
				t.Fatalf("%q is shown as taken by %v outside of %v", at.Path, m.Path, allowed)
			}
			return
		}
		insides++
		for range 20 {
			path := literal.Draw(t, "request") + rapid.SampledFrom([]string{"", "/", "/c", "c"}).Draw(t, "tail")
			if m.Path.Takes(path) && !isInside(path) {
				t.Fatalf("%q is taken by %v outside of %v", path, m.Path, allowed)
			}
		}
	})
	t.Logf("%d inside, %d outside", insides, outsides)
	if insides < 2 || outsides < 10 {
		t.Errorf("%d inside and %d outside: the drawn cases say too little", insides, outsides)
	}
}
