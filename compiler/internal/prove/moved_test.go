package prove

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/internal/space"
)

// TestMoved holds the automaton for what a substitution makes against the substitution itself:
// every atom's witness, and paths at random, are in the pattern exactly if what becomes of them
// is in the one behind.
func TestMoved(t *testing.T) {
	expressions := []string{`/a/(.*)`, `/(\w+)/(\w+)(/.*)?`, `(/a|/a/b)(.*)`, `(?:/([ab]+))*`, `/((a)|b)+`, `(.*?)(/.*)`, `(?i)/A(.*)`, `/(a*)(a*)b`, `(/a)|(/b)`, `^/a(/b)?$`, `/(a|ab)(c|bcd)(d*)`, `.*`}
	substitutions := []string{`/b/\1`, `/\2/\1`, `\0/a`, `/x\1\1`, `\2\1`, `/a/\1/b`, `\3`, `\\\1`, `/a`}
	patterns := []space.Pattern{
		{Kind: space.Exact, Text: "/a/b"}, {Kind: space.Segment, Text: "/a"}, {Kind: space.Prefix, Text: "/b/"}, {Kind: space.Suffix, Text: "/b"},
		{Kind: space.Template, Text: "/a/{x}/b"}, {Kind: space.Regex, Text: `(/[^/]+)+`}, {Kind: space.Spelt, Text: "/a/*"}, {Kind: space.Exact, Text: "/ba/aab"},
		{Kind: space.Template, Text: "/a/{x}/*"}, {Kind: space.Spelt, Text: "/a/{x}"}, {Kind: space.Spelt, Text: "/{x}/b/*"},
	}
	others := []space.Move{
		space.MoveBelow("/", "/a"), space.MoveBelow("/b", "/"), space.MoveBelow("/a", "/a/b"), space.MoveBelow("/a/b", "/b"),
		space.MoveFilled("/{x}/{y}", "/a/{x}/{y}"), space.MoveFilled("/{x}/{y}", "/{y}/b/{x}"), space.MoveFilled("/a/{x}", "/{x}/{x}"), space.MoveFilled("/{x}/a/{y}", "/a/{y}/"),
		space.MoveFilled("/{x}/*", "/*"), space.MoveFilled("/{x}/*", "/a/{x}"), space.MoveFilled("/{x}/{y}/*", "/{y}/b/*"), space.MoveFilled("/b/{x}/*", "/a/{x}/*"), space.MoveFilled("/{x}/{y}/*", "/{y}/{x}/*"),
	}
	rapid.Check(t, func(t *rapid.T) {
		m := space.Move{How: space.Substituted, From: rapid.SampledFrom(expressions).Draw(t, "from"), To: rapid.SampledFrom(substitutions).Draw(t, "to")}
		if rapid.Bool().Draw(t, "by segments") {
			m = rapid.SampledFrom(others).Draw(t, "move")
		}
		is := rapid.SampledFrom(patterns).Draw(t, "is")
		p := space.MovedPattern(m, is)
		all := []space.Pattern{p, {Kind: space.Regex, Text: m.Substitution().From}, {Kind: space.Segment, Text: "/b"}}
		a, err := atomize(all, nil, space.PathUniverse, 300_000)
		var over errStates
		if _, ordered := piecesOf(m); errors.As(err, &over) && !ordered && is.Kind == space.Spelt {
			return // what changes places, or stands twice, in every spelling: told as not compared
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range a.witness {
			if p.Matches(w) != a.in[a.number[p]].has(i) {
				t.Fatalf("%s of %q is %q; the automaton says %v", m.From, w, m.Of(w), a.in[a.number[p]].has(i))
			}
		}
		b := newBuilder()
		if err := b.add(p, 0); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			v := "/" + rapid.StringMatching(`([abcd/A%]|/[ab]/){0,8}`).Draw(t, "value")
			if got := b.takes(v); got != p.Matches(v) {
				t.Fatalf("%q of %q is %q; the automaton says %v", m, v, m.Of(v), got)
			}
		}
	})
}

// takes runs the automaton over a value.
func (b *builder) takes(v string) bool {
	at := slices.Clone(b.start)
	for _, c := range v {
		var next []int32
		for _, p := range at {
			if pos := &b.positions[p]; pos.set != noSet && b.sets[pos.set].has(c) {
				next = append(next, pos.next...)
			}
		}
		slices.Sort(next)
		at = slices.Compact(next)
	}
	return slices.ContainsFunc(at, func(p int32) bool { return b.positions[p].accept != noPattern })
}
