package prove_test

import (
	"fmt"
	"testing"

	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
)

// typicalService is 5 routes × (mTLS, 3 grants, denial), as eval composes them.
func typicalService(i int, changed bool) space.Decision {
	weight := 100
	if changed {
		weight = 90
	}
	path := func(k space.Kind, p string) space.Test {
		return space.Test{Dim: space.PathDim, Any: []space.Pattern{{Kind: k, Text: p}}}
	}
	from := func(k space.Kind, text string) space.Test {
		return space.Test{Dim: space.IdentityDim, Any: []space.Pattern{{Kind: k, Text: text}}}
	}
	name := fmt.Sprintf("s%d", i)
	routes := [][]space.Test{
		{path(space.Exact, "/healthz")},
		{path(space.Segment, "/"+name+"/api"), {Dim: space.HeaderDim("x-user"), Any: []space.Pattern{{Kind: space.Exact, Text: "jason"}}}},
		{path(space.Segment, "/"+name+"/api")},
		{path(space.Template, "/"+name+"/{id}/x")},
		nil,
	}
	known := from(space.Prefix, "spiffe://td/")
	known.Not = true
	access := []space.Rule{
		{When: []space.Test{known}, Then: space.Outcome{Verdict: space.Denied}},
		{When: []space.Test{from(space.Exact, fmt.Sprintf("spiffe://td/ns/a/sa/c%d", i)), {Dim: space.MethodDim, Any: []space.Pattern{{Kind: space.Exact, Text: "GET"}}}}},
		{When: []space.Test{from(space.Prefix, "spiffe://td/ns/ops/"), path(space.Exact, "/healthz")}},
		{When: []space.Test{from(space.Exact, "spiffe://td/ns/b/sa/d"), path(space.Prefix, "/"+name+"/")}},
		{Then: space.Outcome{Verdict: space.Denied}},
	}
	d := space.Decision{Scope: space.Scope{Kind: "service", ID: "n/" + name, Port: "http"}}
	for k, r := range routes {
		for _, a := range access {
			o := a.Then
			if o.Verdict == "" {
				o = space.Outcome{Verdict: space.Forward, Shares: []space.Share{{Target: name + "/v1", Weight: weight}, {Target: name + "/v2", Weight: 100 - weight}}, Fields: []space.Field{{Feature: "r", Name: "n", Value: fmt.Sprint(k)}}}
			}
			d.Effective = append(d.Effective, space.Rule{When: append(append([]space.Test{}, r...), a.When...), Then: o})
		}
	}
	return d
}

func BenchmarkServices1000AllChanged(b *testing.B) {
	const n = 1000
	before, after := make([]space.Decision, n), make([]space.Decision, n)
	for i := range n {
		before[i], after[i] = typicalService(i, false), typicalService(i, true)
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range n {
			if cs, err := prove.Compare(before[i], after[i], prove.Limits{}); err != nil || len(cs) == 0 {
				b.Fatal(len(cs), err)
			}
		}
	}
}

func gatewayRoutes(n int, kind string, changed func(int) bool) space.Decision {
	d := space.Decision{Scope: space.Scope{Kind: "gateway", ID: "n/edge", Port: "*"}}
	for i := range n {
		p := space.Pattern{Kind: space.Segment, Text: fmt.Sprintf("/svc%d/api/v1", i)}
		if kind == "template" {
			p = space.Pattern{Kind: space.Template, Text: fmt.Sprintf("/api/r%d/{id}/items/{item}", i)}
		}
		version := "v1"
		if changed(i) {
			version = "v2"
		}
		d.Effective = append(d.Effective, space.Rule{
			When: []space.Test{{Dim: space.PathDim, Any: []space.Pattern{p}}},
			Then: space.Outcome{Verdict: space.Forward, Shares: []space.Share{{Target: fmt.Sprintf("n/s%d/http/%s", i, version), Weight: 1}}},
		})
	}
	d.Effective = append(d.Effective, space.Rule{Then: space.Outcome{Verdict: space.NotFound}})
	return d
}

func BenchmarkGateway5000(b *testing.B) {
	none := func(int) bool { return false }
	for name, changed := range map[string]func(int) bool{"oneEdit": func(i int) bool { return i == 2500 }, "allChanged": func(int) bool { return true }} {
		for _, kind := range []string{"prefix", "template"} {
			b.Run(kind+"/"+name, func(b *testing.B) {
				before, after := gatewayRoutes(5000, kind, none), gatewayRoutes(5000, kind, changed)
				b.ReportAllocs()
				for b.Loop() {
					if cs, err := prove.Compare(before, after, prove.Limits{}); err != nil || len(cs) == 0 {
						b.Fatal(len(cs), err)
					}
				}
			})
		}
	}
}

func BenchmarkHeaders200x2Of50(b *testing.B) {
	build := func(version string) space.Decision {
		var d space.Decision
		for i := range 200 {
			test := func(k int) space.Test {
				return space.Test{Dim: space.HeaderDim(fmt.Sprintf("h%d", k%50)), Any: []space.Pattern{{Kind: space.Exact, Text: fmt.Sprint(i % 3)}}}
			}
			d.Effective = append(d.Effective, space.Rule{When: []space.Test{test(i * 7), test(i*13 + 1)}, Then: space.Outcome{Verdict: space.Forward, Shares: []space.Share{{Target: version + fmt.Sprint(i), Weight: 1}}}})
		}
		return d
	}
	before, after := build("a"), build("b")
	b.ReportAllocs()
	for b.Loop() {
		if cs, err := prove.Compare(before, after, prove.Limits{}); err != nil || len(cs) == 0 {
			b.Fatal(len(cs), err)
		}
	}
}
