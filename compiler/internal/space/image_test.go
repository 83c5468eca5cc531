package space_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/internal/space"
)

// Few segments, so that paths and patterns meet.
var (
	segments = rapid.SampledFrom([]string{"a", "b", "ab", "c.d", "%20"})
	paths    = rapid.Custom(func(t *rapid.T) string {
		n := rapid.IntRange(0, 4).Draw(t, "segments")
		if n == 0 {
			return rapid.SampledFrom([]string{"/", "/", "//"}).Draw(t, "root")
		}
		var b strings.Builder
		for range n {
			b.WriteString("/" + segments.Draw(t, "segment"))
		}
		return b.String() + rapid.SampledFrom([]string{"", "", "/"}).Draw(t, "end")
	})
	plain = rapid.Map(paths.Filter(func(p string) bool { return p != "//" }), func(p string) string {
		if p == "/" {
			return p
		}
		return strings.TrimSuffix(p, "/")
	})
	variables = []string{"{x}", "{y}", "{z}"}
	templates = rapid.Custom(func(t *rapid.T) string {
		names := rapid.Permutation(variables).Draw(t, "names")
		var b strings.Builder
		for range rapid.IntRange(1, 4).Draw(t, "segments") {
			s := segments.Draw(t, "segment")
			if len(names) > 0 && rapid.Bool().Draw(t, "variable") {
				s, names = names[0], names[1:]
			}
			b.WriteString("/" + s)
		}
		return b.String() + rapid.SampledFrom([]string{"", "", "/*"}).Draw(t, "end")
	})
	moves = rapid.Custom(func(t *rapid.T) space.Move {
		switch rapid.IntRange(0, 5).Draw(t, "how") {
		case 0:
			return space.Move{How: space.Whole, To: paths.Filter(func(p string) bool { return p != "//" }).Draw(t, "to")}
		case 1, 2:
			return space.MoveBelow(plain.Draw(t, "from"), plain.Draw(t, "to"))
		}
		from := templates.Draw(t, "from")
		end, fewest := rapid.SampledFrom([]string{"", "", "/"}).Draw(t, "end"), 1
		if strings.HasSuffix(from, "*") && rapid.Bool().Draw(t, "open") {
			end, fewest = "/*", 0
		}
		of := slices.DeleteFunc(strings.Split(from, "/"), func(s string) bool { return !space.IsVariable(s) })
		var to strings.Builder
		for range rapid.IntRange(fewest, 4).Draw(t, "segments") {
			s := segments.Draw(t, "segment")
			if len(of) > 0 && rapid.Bool().Draw(t, "variable") {
				s = rapid.SampledFrom(of).Draw(t, "name")
			}
			to.WriteString("/" + s)
		}
		return space.MoveFilled(from, to.String()+end)
	})
	patterns = rapid.Custom(func(t *rapid.T) space.Pattern {
		k := rapid.SampledFrom([]space.Kind{space.Exact, space.Segment, space.Prefix, space.Suffix, space.Template}).Draw(t, "kind")
		text := paths.Draw(t, "text")
		switch k {
		case space.Template:
			text = templates.Draw(t, "template")
		case space.Segment:
			text = plain.Draw(t, "below")
		case space.Prefix:
			text = text[:rapid.IntRange(0, len(text)).Draw(t, "length")]
		case space.Suffix:
			text = text[rapid.IntRange(0, len(text)).Draw(t, "from"):]
		case space.Exact, space.Contains, space.Folded, space.Regex, space.Line, space.Spelt, space.Moved, space.Wild, space.Identified, space.Named, space.Called:
		}
		return space.Pattern{Kind: k, Text: text}
	})
)

// taken is a path that a move takes.
func taken(t *rapid.T, m space.Move) string {
	switch m.How {
	case space.Below:
		rest := paths.Draw(t, "rest")
		if rest == "//" {
			rest = ""
		}
		if m.From == "/" {
			return paths.Draw(t, "path")
		}
		return m.From + rest
	case space.Filled:
		parts := strings.Split(m.From, "/")
		for i, s := range parts {
			if space.IsVariable(s) {
				parts[i] = segments.Draw(t, "value")
			}
		}
		if last := len(parts) - 1; parts[last] == "*" {
			rest := paths.Filter(func(p string) bool { return p != "//" }).Draw(t, "rest")
			parts[last] = rest[1:]
		}
		return strings.Join(parts, "/")
	case space.Whole, space.Substituted: // a substitution is held in prove
	}
	return paths.Draw(t, "path")
}

func takes(m space.Move, path string) bool {
	switch m.How {
	case space.Below:
		return space.Pattern{Kind: space.Segment, Text: m.From}.Matches(path)
	case space.Filled:
		return space.Pattern{Kind: space.Template, Text: m.From}.Matches(path)
	case space.Whole, space.Substituted: // a substitution is held in prove
	}
	return true
}

// before holds what a pattern takes behind a move against what is said of it before.
func before(t *rapid.T) {
	m, p := moves.Draw(t, "move"), patterns.Draw(t, "pattern")
	path := taken(t, m)
	ps, all, err := m.Before(p)
	if err != nil {
		t.Fatal(err)
	}
	is := all || slices.ContainsFunc(ps, func(p space.Pattern) bool { return p.Matches(path) })
	if want := p.Matches(m.Of(path)); is != want {
		t.Fatalf("%+v makes %q of %q, which %+v takes: %v; before the move: %+v, all %v", m, m.Of(path), path, p, want, ps, all)
	}
}

// speltBefore is before for paths in every spelling.
func speltBefore(t *rapid.T) {
	m := moves.Draw(t, "move")
	odd := func(path string) string {
		for range rapid.IntRange(0, 2).Draw(t, "times") {
			at := rapid.IntRange(0, len(path)-1).Draw(t, "at")
			switch c := path[at]; {
			case c == '/':
				path = path[:at] + rapid.SampledFrom([]string{";p", "/;p", "%252f", "%255C", "%3bp"}).Draw(t, "slash") + path[at:]
			case c != '%':
				path = path[:at] + fmt.Sprintf("%%25%x", c) + path[at+1:]
			}
		}
		if strings.HasPrefix(path, "/") {
			return path
		}
		return "/" + path
	}
	text := plain.Draw(t, "text")
	if rapid.Bool().Draw(t, "free") {
		text = templates.Draw(t, "template")
	}
	if !strings.Contains(text, "%") && !strings.HasSuffix(text, "*") { // grants' paths have whole escapes only
		text += rapid.SampledFrom([]string{"", "", "/*"}).Draw(t, "below")
	}
	p := space.Pattern{Kind: space.Spelt, Text: strings.Replace(text, "//", "/", 1)}
	path := taken(t, m)
	switch m.How {
	case space.Below:
		path = m.From + strings.TrimPrefix(odd("/"+strings.TrimPrefix(path, m.From)), "/")
	case space.Filled:
		path = odd(path)
	case space.Whole, space.Substituted:
	}
	if !takes(m, path) {
		return
	}
	ps, all, err := m.Before(p)
	if err != nil {
		t.Fatal(err)
	}
	is := all || slices.ContainsFunc(ps, func(p space.Pattern) bool { return p.Matches(path) })
	if want := p.Matches(m.Of(path)); is != want {
		t.Fatalf("%+v makes %q of %q, which %+v takes: %v; before the move: %+v, all %v", m, m.Of(path), path, p, want, ps, all)
	}
}

// joined holds two moves one after the other against the one that does as both.
func joined(t *rapid.T) {
	m, next := moves.Draw(t, "first"), moves.Draw(t, "second")
	path, both := taken(t, m), m.Then(next)
	if !takes(next, m.Of(path)) {
		return
	}
	if !takes(both, path) {
		t.Fatalf("%+v does not take %q, which %+v takes and %+v then", both, path, m, next)
	}
	if got, want := both.Of(path), next.Of(m.Of(path)); got != want {
		t.Fatalf("%+v makes %q of %q, but %+v and then %+v make %q", both, got, path, m, next, want)
	}
}

const least = 10_000

// often runs a property with at least so many cases, and ends if it holds.
func often(t *testing.T, property func(*rapid.T)) {
	t.Helper()
	for done := 0; done < least; {
		rapid.Check(t, func(t *rapid.T) { property(t); done++ })
	}
}

func TestAPatternBehindAMoveIsSaidOfThePathBefore(t *testing.T) { often(t, before) }

func TestASpellingBehindAMoveIsSaidOfThePathBefore(t *testing.T) { often(t, speltBefore) }

func TestTwoMovesAreOne(t *testing.T) { often(t, joined) }

func FuzzAPatternBehindAMove(f *testing.F) { f.Fuzz(rapid.MakeFuzz(before)) }

func FuzzTwoMoves(f *testing.F) { f.Fuzz(rapid.MakeFuzz(joined)) }

// TestTestsBehindAnImage holds whole conjunctions against each other, headers and hosts
// among them.
func TestTestsBehindAnImage(t *testing.T) {
	names, values := rapid.SampledFrom([]string{"x-a", "x-b", "via"}), rapid.SampledFrom([]string{"", "one", "two", "one,two"})
	lines := rapid.SliceOfN(values, 0, 2)
	often(t, func(t *rapid.T) {
		m := space.Image{Host: rapid.SampledFrom([]string{"", "a.test"}).Draw(t, "host")}
		q := space.Request{Host: rapid.SampledFrom([]string{"a.test", "b.test"}).Draw(t, "host"), Path: paths.Draw(t, "path")}
		if rapid.Bool().Draw(t, "moved") {
			move := moves.Draw(t, "move")
			m.Path, q.Path = &move, taken(t, move)
		}
		for _, n := range rapid.SliceOfNDistinct(names, 0, 2, rapid.ID).Draw(t, "edited") {
			m.Headers = append(m.Headers, space.Edit{Name: n, Clear: rapid.Bool().Draw(t, "clear"), Lines: lines.Draw(t, "lines")})
		}
		for _, n := range []string{"x-a", "x-b", "via"} {
			for _, v := range space.HeaderLines(n, lines.Draw(t, n)) {
				q.Headers = append(q.Headers, space.Header{Name: n, Value: v})
			}
		}
		var when []space.Test
		for range rapid.IntRange(0, 3).Draw(t, "tests") {
			test := space.Test{Dim: rapid.SampledFrom([]space.Dim{space.PathDim, space.HostDim, space.HeaderDim("x-a"), space.HeaderDim("x-b"), space.HeaderDim("via")}).Draw(t, "dim"), Not: rapid.Bool().Draw(t, "not")}
			for range rapid.IntRange(1, 2).Draw(t, "patterns") {
				p := space.Pattern{Kind: rapid.SampledFrom([]space.Kind{space.Exact, space.Prefix, space.Suffix}).Draw(t, "kind"), Text: values.Draw(t, "value")}
				switch test.Dim { //nolint:exhaustive // dimensions are no closed set
				case space.PathDim:
					p = patterns.Draw(t, "pattern")
				case space.HostDim:
					p = space.Pattern{Kind: space.Exact, Text: "a.test"}
				}
				test.Any = append(test.Any, p)
			}
			if _, header := test.Dim.Header(); header && rapid.Bool().Draw(t, "present") {
				test.Any = nil
			}
			when = append(when, test)
		}
		said, possible, err := m.Before(when)
		if err != nil {
			return // what proxies keep as one line
		}
		if got, want := possible && space.Matches(said, q), space.Matches(when, m.Of(q)); got != want {
			t.Fatalf("%+v makes %+v of %+v, for which %+v hold: %v; before: %+v, possible %v", m, m.Of(q), q, when, want, said, possible)
		}
	})
}
