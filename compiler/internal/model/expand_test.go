package model

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

type note struct {
	Text string `json:"text"`
}

func (note) TraitName() string { return "note" }

type mark struct {
	N int `json:"n"`
}

func (mark) TraitName() string { return "mark" }

func TestIntersectPaths(t *testing.T) {
	exact := func(v string) Path { return Path{PathExact, v} }
	prefix := func(v string) Path { return Path{PathPrefix, v} }
	template := func(v string) Path { return Path{PathTemplate, v} }
	for _, c := range []struct {
		a, b, want Path
		ok         bool
	}{
		{Path{}, Path{}, Path{}, true},
		{Path{}, exact("/a"), exact("/a"), true},
		{exact("/a"), exact("/a"), exact("/a"), true},
		{exact("/a"), exact("/b"), Path{}, false},
		{exact("/a/"), prefix("/a"), exact("/a/"), true},
		{exact("/ab"), prefix("/a"), Path{}, false},
		{prefix("/a"), prefix("/a/b"), prefix("/a/b"), true},
		{prefix("/a/b"), prefix("/"), prefix("/a/b"), true},
		{prefix("/a"), prefix("/ab"), Path{}, false},
		{template("/t/{x}"), exact("/t/1"), exact("/t/1"), true},
		{template("/t/{x}"), exact("/t/"), Path{}, false},
		{template("/t/{x}"), prefix("/t"), template("/t/{x}"), true},
		{template("/t/{x}"), prefix("/"), template("/t/{x}"), true},
		{template("/t/{x}"), prefix("/t/1"), exact("/t/1"), true},
		{template("/t/{x}"), prefix("/t/1/2"), Path{}, false},
		{template("/{a}/x"), template("/y/{b}"), exact("/y/x"), true},
		{template("/{a}/{b}"), template("/{b}/z"), template("/{a}/z"), true},
		{template("/{a}"), template("/{a}/{b}"), Path{}, false},
	} {
		for _, pair := range [][2]Path{{c.a, c.b}, {c.b, c.a}} {
			got, ok := IntersectPaths(pair[0], pair[1])
			if ok != c.ok {
				t.Errorf("%v with %v: possible = %v, want %v", pair[0], pair[1], ok, c.ok)
			} else if ok && got != c.want && !(got.Kind == PathTemplate && c.want.Kind == PathTemplate) {
				t.Errorf("%v with %v = %v, want %v", pair[0], pair[1], got, c.want)
			}
		}
	}
}

// The intersection takes a path exactly if both sides take it.
func TestIntersectPathsIsConjunction(t *testing.T) {
	seg := rapid.SampledFrom([]string{"a", "b", "ab", "{x}", "{y}"})
	path := rapid.Custom(func(t *rapid.T) Path {
		parts := rapid.SliceOfNDistinct(seg, 0, 3, rapid.ID[string]).Draw(t, "parts")
		v := "/" + strings.Join(parts, "/")
		if strings.Contains(v, "{") {
			return Path{PathTemplate, v}
		}
		return Path{rapid.SampledFrom([]PathKind{PathExact, PathPrefix}).Draw(t, "kind"), v}
	})
	probe := rapid.Custom(func(t *rapid.T) string {
		return "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab", "", "c"}), 0, 4).Draw(t, "probe"), "/")
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, p := path.Draw(t, "a"), path.Draw(t, "b"), probe.Draw(t, "p")
		got, ok := IntersectPaths(a, b)
		if both := a.Takes(p) && b.Takes(p); both != (ok && got.Takes(p)) {
			t.Fatalf("%v and %v on %q: both %v, intersection %v (%v)", a, b, p, both, got, ok)
		}
	})
}

func TestIntersectMatches(t *testing.T) {
	where := func(ts ...space.Test) Match { return NewMatch(Path{}, ts...) }
	x := space.Values(space.HeaderDim("x"), "1")
	notX := x
	notX.Not = true
	if _, ok := IntersectMatches(where(x), where(notX)); ok {
		t.Error("a condition and its complement count as possible")
	}
	if _, ok := IntersectMatches(where(x), where(space.Test{Dim: x.Dim, Not: true})); ok {
		t.Error("a value and an absent header count as possible")
	}
	y := space.Values(space.HeaderDim("x"), "2")
	if m, ok := IntersectMatches(where(x), where(y)); !ok || len(m.When) != 2 {
		t.Error("two lines of one header are possible")
	}
	if where(x).Meets(where(y)) {
		t.Error("two values of one header count as those of one request")
	}
	if m, ok := IntersectMatches(where(space.Values(space.MethodDim, "GET", "PUT")), where(space.Values(space.MethodDim, "POST", "PUT"))); !ok || !m.Same(where(space.Values(space.MethodDim, "PUT"))) {
		t.Errorf("a method of both lists is %v, %v", m, ok)
	}
	for _, d := range []space.Dim{space.MethodDim, space.SchemeDim} {
		if _, ok := IntersectMatches(where(space.Values(d, "a")), where(space.Values(d, "b"))); ok {
			t.Errorf("%s: disjoint values count as possible", d)
		}
	}
	q := func(v string) space.Test {
		return space.Test{Dim: space.QueryDim("q"), Any: []space.Pattern{space.QueryPattern(space.Exact, v)}}
	}
	if _, ok := IntersectMatches(where(q("1")), where(q("2"))); ok {
		t.Error("two first values of one parameter count as possible")
	}
}

// What mesh.json says of a match is what is read of it.
func TestMatchInJSON(t *testing.T) {
	header, _ := space.HeaderDim("").Of()
	query, _ := space.QueryDim("").Of()
	m := NewMatch(Path{PathPrefix, "/a"}, space.Values(space.MethodDim, "GET", "PUT"), space.Values(space.SchemeDim, "https"),
		header.Test("b", true, space.Pattern{Kind: space.Suffix, Text: "x"}), header.Test("a", false, space.Pattern{Kind: space.Present}),
		header.Test("a", true, space.Pattern{Kind: space.Exact, Text: "1"}, space.Pattern{Kind: space.Prefix, Text: "2"}),
		query.Test("q", false, space.Pattern{Kind: space.Exact, Text: ""}), query.Test("r", false, space.Pattern{Kind: space.Present}),
		query.Test("s", false, space.Pattern{Kind: space.Suffix, Text: "y"}))
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"headers":[{"name":"a","any":[{"kind":"exact","value":"1"},{"kind":"prefix","value":"2"}],"not":true},{"name":"a","kind":"present"},{"name":"b","kind":"suffix","value":"x","not":true}],` +
		`"methods":["GET","PUT"],"path":{"kind":"prefix","value":"/a"},"query":[{"name":"q","kind":"exact"},{"name":"r","kind":"present"},{"name":"s","kind":"suffix","value":"y"}],"scheme":"https"}`
	if string(raw) != want {
		t.Errorf("have %s\nwant %s", raw, want)
	}
	var again Match
	if err := json.Unmarshal(raw, &again); err != nil || !again.Same(m) {
		t.Errorf("read again it is %v, %v", again, err)
	}
	for _, bad := range []string{`{"cook":[]}`, `{"methods":"GET"}`, `{"headers":["a"]}`, `{"scheme":["http"]}`} {
		if err := json.Unmarshal([]byte(bad), &again); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

func expandMesh() *Mesh {
	uncond := func(name string, traits trait.Set, to ...Target) Route {
		return Route{Name: name, To: to, Traits: traits}
	}
	return (&Mesh{
		Services: []*Service{
			{ID: "shop/cond", Name: "cond", Versions: []Version{{Name: "v1"}, {Name: "v2"}}, Routes: []Route{
				{Name: "testers", Match: NewMatch(Path{}, space.Values(space.HeaderDim("u"), "t")), To: []Target{{Version: "v2", Weight: 100}}},
				{Name: "api", Match: Match{Path: Path{PathPrefix, "/other"}}, To: []Target{{Version: "v1", Weight: 100}}},
			}},
			{ID: "shop/one", Name: "one", Routes: []Route{uncond("default", trait.Of(note{"inner"}, mark{1}), Target{Version: "a", Weight: 34}, Target{Version: "b", Weight: 33}, Target{Version: "c", Weight: 33})}},
			{ID: "shop/two", Name: "two", Routes: []Route{uncond("default", trait.Of(note{"inner"}), Target{Version: "v", Weight: 100}, Target{Version: "w", Weight: 0})}},
		},
		Externals: []*External{{ID: "shop/ext", Name: "ext"}},
	}).Build()
}

func describe(es []EffectiveRoute) []string {
	var out []string
	for _, e := range es {
		s := e.Outer.Name + ">"
		for i, r := range e.Inner {
			if i > 0 {
				s += ">"
			}
			s += r.Route.Name
		}
		s += " " + e.Match.Path.Value
		for _, t := range e.To {
			s += fmt.Sprintf(" %s@%s=%d", t.Service, t.Version, t.Weight)
		}
		if e.NotFound {
			s += " 404"
		}
		out = append(out, s)
	}
	return out
}

func TestGatewayRoutes(t *testing.T) {
	m := expandMesh()
	h := Host{Name: "*", Routes: []Route{
		{Name: "cond", Match: Match{Path: Path{PathPrefix, "/c"}}, To: []Target{{Service: "shop/cond", Port: "http", Weight: 100}}},
		{Name: "split", Match: Match{Path: Path{PathPrefix, "/s"}}, Traits: trait.Of(note{"outer"}), To: []Target{
			{Service: "shop/one", Port: "http", Weight: 50}, {Service: "shop/two", Port: "http", Weight: 50},
		}},
		{Name: "ext", To: []Target{{Service: "shop/ext", Port: "http", Weight: 100}}},
	}}
	got := m.GatewayRoutes(&Gateway{Namespace: "edge", Account: "edge"}, h)
	want := []string{
		"cond>testers /c shop/cond@v2=1",
		"cond> /c 404",
		"split> /s shop/one@a=34 shop/one@b=33 shop/one@c=33 shop/two@v=100",
		"ext>  shop/ext@=1",
	}
	if g := describe(got); !slices.Equal(g, want) {
		t.Errorf("got  %q\nwant %q", g, want)
	}
	if v, _ := trait.Get[note](got[2].Traits); v.Text != "outer" {
		t.Errorf("the gateway's value gave way to the service's: %q", v.Text)
	}
	if !slices.Equal(got[2].Lost, []string{"mark"}) {
		t.Errorf("lost = %q, want the trait in which the destinations differ", got[2].Lost)
	}
	if got[3].External == nil {
		t.Error("external destination is not told")
	}
}
