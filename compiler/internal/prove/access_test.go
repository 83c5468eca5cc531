package prove_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
)

// in reports whether a value is in a set of a proof.
func in(s prove.Set, v string) bool {
	takes := func(ps []space.Pattern) bool {
		return slices.ContainsFunc(ps, func(p space.Pattern) bool { return p.Matches(v) })
	}
	return takes(s.In) || (s.All || takes(s.Wide)) && !takes(s.Except)
}

// said reports whether a request is one of those that a change is about.
func said(ch prove.AccessChange, q space.Request) bool {
	return in(ch.Who, q.From) && in(ch.Methods, q.Method) && in(ch.Paths, q.Path) && space.Matches(ch.Rest, q)
}

func lets(l space.List, q space.Request) bool {
	r, ok := eval.First(l, q)
	return ok && r.Then.Verdict == space.Forward
}

// Random lists of access: of every request of a grid, what a comparison says of it is
// what the lists say, and every witness is one.
func TestAccessIsComparedExactly(t *testing.T) {
	callers := []string{"", "spiffe://td/ns/a/sa/x", "spiffe://td/ns/a/sa/y", "spiffe://td/ns/b/sa/x", "spiffe://td/ns/c/sa/z", "spiffe://other/ns/a/sa/x"}
	methods := []string{"GET", "POST", "PUT"}
	paths := []string{"/", "/a", "/a/", "/a/b", "/a/b/c", "/b", "/ab", "/a/c"}
	who := []space.Pattern{{Kind: space.Prefix, Text: "spiffe://td/"}, {Kind: space.Prefix, Text: "spiffe://td/ns/a/sa/"}, {Kind: space.Exact, Text: callers[1]}, {Kind: space.Exact, Text: callers[3]}, {Kind: space.Exact, Text: ""}}
	what := []space.Pattern{{Kind: space.Prefix, Text: "/a/"}, {Kind: space.Exact, Text: "/a"}, {Kind: space.Segment, Text: "/a/b"}, {Kind: space.Exact, Text: "/a/b"}, {Kind: space.Template, Text: "/a/{x}"}}
	rapid.Check(t, func(t *rapid.T) {
		some := func(d space.Dim, of []space.Pattern, name string) []space.Test {
			ps := rapid.SliceOfN(rapid.SampledFrom(of), 0, 3).Draw(t, name)
			if len(ps) == 0 {
				return nil
			}
			return []space.Test{{Dim: d, Any: ps, Not: rapid.IntRange(0, 5).Draw(t, "not") == 0}}
		}
		list := func() space.List {
			var l space.List
			for range rapid.IntRange(0, 4).Draw(t, "rules") {
				r := space.Rule{Then: space.Outcome{Verdict: space.Forward}}
				if rapid.IntRange(0, 3).Draw(t, "deny") == 0 {
					r.Then = space.Refused()
				}
				r.When = slices.Concat(some(space.IdentityDim, who, "who"), some(space.PathDim, what, "what"),
					some(space.MethodDim, []space.Pattern{{Kind: space.Exact, Text: "GET"}, {Kind: space.Exact, Text: "POST"}}, "method"))
				if rapid.IntRange(0, 2).Draw(t, "header") == 0 {
					r.When = append(r.When, space.Test{Dim: space.HeaderDim("h"), Any: []space.Pattern{{Kind: space.Exact, Text: "1"}}, Not: rapid.Bool().Draw(t, "without")})
				}
				l = append(l, r)
			}
			return append(l, space.Rule{Then: space.Refused()})
		}
		before, after := list(), list()
		changes, err := prove.CompareAccess(prove.Access{Before: before, After: after}, prove.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for _, ch := range changes {
			if len(ch.Witnesses) == 0 {
				t.Fatalf("no witness of %+v", ch)
			}
			for _, w := range ch.Witnesses {
				if lets(before, w.Before) != !ch.Gained || lets(after, w.After) != ch.Gained || !rough(ch) && !said(ch, w.After) {
					t.Fatalf("%+v is no witness of %+v", w, ch)
				}
			}
		}
		for _, from := range callers {
			for _, m := range methods {
				for _, p := range paths {
					for _, h := range [][]space.Header{nil, {{Name: "h", Value: "1"}}, {{Name: "h", Value: "2"}}} {
						q := space.Request{From: from, Method: m, Path: p, Headers: h}
						for _, gained := range []bool{false, true} {
							want := lets(before, q) == !gained && lets(after, q) == gained
							got := slices.ContainsFunc(changes, func(ch prove.AccessChange) bool { return ch.Gained == gained && !rough(ch) && said(ch, q) })
							if got != want && !slices.ContainsFunc(changes, rough) {
								t.Fatalf("%+v gained=%v: said %v, true is %v\nbefore %+v\nafter %+v\n%+v", q, gained, got, want, before, after, changes)
							}
						}
					}
				}
			}
		}
	})
}

func rough(ch prove.AccessChange) bool { return ch.Who.Rough || ch.Methods.Rough || ch.Paths.Rough }

// A caller with another identity on each side is compared with itself.
func TestAccessOfAMove(t *testing.T) {
	grant := func(id, method string) space.Rule {
		return space.Rule{When: []space.Test{
			{Dim: space.IdentityDim, Any: []space.Pattern{{Kind: space.Exact, Text: id}}},
			{Dim: space.MethodDim, Any: []space.Pattern{{Kind: space.Exact, Text: method}}},
		}, Then: space.Outcome{Verdict: space.Forward}}
	}
	const old, fresh = "spiffe://td/ns/a/sa/old", "spiffe://td/ns/a/sa/new"
	q := prove.Access{
		Before: space.List{grant(old, "GET")}, After: space.List{grant(fresh, "GET"), grant(fresh, "POST")},
		Moves: []prove.Move{{Name: "web", Before: old, After: fresh}}, Absent: []string{old, fresh},
	}
	changes, err := prove.CompareAccess(q, prove.Limits{})
	if err != nil || len(changes) != 1 {
		t.Fatalf("%+v, %v, want one change", changes, err)
	}
	ch := changes[0]
	w := ch.Witnesses[0]
	if !ch.Gained || len(ch.Movers) != 1 || !in(ch.Methods, "POST") || in(ch.Methods, "GET") || in(ch.Who, old) || w.Before.From != old || w.After.From != fresh {
		t.Errorf("%+v, want that web gained POST", ch)
	}
}

// Denies whose paths are spellings of one another: what both refuse is told as left out,
// although each is an odd spelling of the other.
func TestSpellingsOfOneAnotherAreLeftOut(t *testing.T) {
	path := func(text string) space.Test {
		return space.Test{Dim: space.PathDim, Any: []space.Pattern{{Kind: space.Spelt, Text: text}}}
	}
	from := space.Test{Dim: space.IdentityDim, Any: []space.Pattern{{Kind: space.Exact, Text: "spiffe://td/ns/a/sa/x"}}}
	after := space.List{
		{When: []space.Test{path("/A")}, Then: space.Refused()},
		{When: []space.Test{from, path("/a/")}, Then: space.Refused()},
		{Then: space.Outcome{Verdict: space.Forward}},
	}
	changes, err := prove.CompareAccess(prove.Access{Before: space.List{{Then: space.Refused()}}, After: after}, prove.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"/": true, "/b": true, "/a": false, "/a/": false, "/A": false, "/A/": false, "/a/b": true} {
		q := space.Request{From: "spiffe://td/ns/b/sa/y", Method: "GET", Path: path}
		if got := slices.ContainsFunc(changes, func(ch prove.AccessChange) bool { return ch.Gained && said(ch, q) }); got != want {
			t.Errorf("%s: gained is said: %v, want %v", path, got, want)
		}
	}
}
