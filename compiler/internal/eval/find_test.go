package eval_test

import (
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// Of all hosts of a gateway that cover a name, the most specific one answers.
func TestFindGatewayTakesTheMostSpecificHost(t *testing.T) {
	names := []string{"*", "*.b", "*.a.b", "*.c", "a.b", "x.a.b", "b", "a", "c"}
	rapid.Check(t, func(t *rapid.T) {
		var ds []space.Decision
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, len(names), rapid.ID).Draw(t, "hosts") {
			ds = append(ds, space.Decision{Scope: space.Scope{Kind: "gateway", ID: "shop/edge", Port: name}})
		}
		ds = append(ds, space.Decision{Scope: space.Scope{Kind: "gateway", ID: "shop/other", Port: "*"}}, space.Decision{Scope: space.Scope{Kind: "service", ID: "shop/edge", Port: "*"}})
		host := rapid.SampledFrom(append([]string{"A.B", "a.b:80", "a.b.", "y.b", "y.a.b", ".b", "d", ""}, names...)).Draw(t, "host")
		want, known := "", false
		for _, d := range ds {
			if d.Scope.Kind == "gateway" && d.Scope.ID == "shop/edge" && model.HostCovers(d.Scope.Port, eval.CleanHost(host)) && (!known || model.MoreSpecific(d.Scope.Port, want)) {
				want, known = d.Scope.Port, true
			}
		}
		if got, ok := eval.FindGateway(ds, "shop/edge", host); ok != known || got.Scope.Port != want {
			t.Fatalf("%q goes to %q, %v, want %q, %v", host, got.Scope.Port, ok, want, known)
		}
	})
}
