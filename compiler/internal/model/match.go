package model

import (
	"cmp"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// Match is a conjunction. The zero Match takes everything. Its JSON is an object with a
// field for each word of a route's match: see MarshalJSON.
type Match struct {
	Path Path
	// When are the conditions beside that on the path, in the order of NewMatch.
	When []space.Test
}

// NewMatch is the conjunction of a condition on the path and of tests on other dimensions,
// which it sorts.
func NewMatch(p Path, when ...space.Test) Match {
	when = slices.Clone(when)
	slices.SortFunc(when, compareTests)
	return Match{Path: p, When: when}
}

// Posted are the requests by which something is asked, or left, at a path: calls of gRPC are.
func Posted(path string) Match {
	return NewMatch(Path{Kind: PathExact, Value: path}, space.Values(space.MethodDim, "POST"))
}

// Tests is the match as tests.
func (x Match) Tests() []space.Test {
	if x.Path.IsZero() || slices.ContainsFunc(x.When, func(t space.Test) bool { return x.follows(t) }) {
		return slices.Clip(x.When)
	}
	return append([]space.Test{{Dim: space.PathDim, Any: []space.Pattern{x.Path.Pattern()}}}, x.When...)
}

// follows reports whether the condition on the path follows from a test: it is what stands in front.
func (x Match) follows(t space.Test) bool {
	return t.Dim == space.PathDim && !t.Not && len(t.Any) == 1 && InFront(t.Any[0]) == x.Path
}

// ByCharacters reports whether x says of paths what one condition on segments does not.
func (x Match) ByCharacters() bool {
	return slices.ContainsFunc(x.When, func(t space.Test) bool { return t.Dim == space.PathDim && !t.Not })
}

// Opposites holds where none of the conditions of x does, each by itself.
func (x Match) Opposites() Match {
	when := slices.Clone(x.Tests())
	for i := range when {
		when[i].Not = !when[i].Not
	}
	return NewMatch(Path{}, when...)
}

// InFront is the narrowest prefix of whole segments that all paths have which p takes.
func InFront(p space.Pattern) Path {
	whole := p.Begins()
	if i := strings.LastIndexByte(whole, '/'); i > 0 {
		return Path{Kind: PathPrefix, Value: whole[:i]}
	}
	return Path{Kind: PathPrefix, Value: "/"}
}

// IsZero reports whether x takes everything.
func (x Match) IsZero() bool { return x.Path.IsZero() && len(x.When) == 0 }

// AsksCaller reports whether x has a condition on who calls.
func (x Match) AsksCaller() bool {
	return slices.ContainsFunc(x.When, func(t space.Test) bool { return t.Dim == space.CallerDim })
}

// Late are the tests of what is only known behind the first choice of a route (space.Dimension.Late).
func (x Match) Late() []space.Test {
	var out []space.Test
	for _, t := range x.When {
		if dim, _ := t.Dim.Of(); dim.Late {
			out = append(out, t)
		}
	}
	return out
}

// AnyCaller stands for whoever calls, where all is asked that some route may mean.
const AnyCaller = "*"

// EachCaller stands for all who may call, told apart by what routes ask of them.
const EachCaller = ""

// ForCaller is what x demands of the requests of one account beside that they are its own; false
// if it takes none of them.
func (x Match) ForCaller(account string) (Match, bool) {
	if !x.AsksCaller() {
		return x, true
	}
	return Match{Path: x.Path, When: slices.DeleteFunc(slices.Clone(x.When), func(t space.Test) bool { return t.Dim == space.CallerDim })}, account == AnyCaller || x.Admits(space.CallerDim, account)
}

// RoutesFor are those of routes that take requests of one account, in order, with what they
// demand of these; with EachCaller all as they are.
func RoutesFor(account string, rs []Route) []Route {
	if account == EachCaller || !slices.ContainsFunc(rs, func(r Route) bool { return r.Match.AsksCaller() }) {
		return rs
	}
	var out []Route
	for _, r := range rs {
		var ok bool
		if r.Match, ok = r.Match.ForCaller(account); ok {
			out = append(out, r)
		}
	}
	return out
}

// Admits reports whether a request that x takes may have that value of a dimension that
// each request has one of.
func (x Match) Admits(d space.Dim, value string) bool {
	return !slices.ContainsFunc(x.Tests(), func(t space.Test) bool { return t.Dim == d && !t.Admits(value) })
}

// On is what x demands of one dimension beside the path.
func (x Match) On(d space.Dim) Match {
	return Match{When: slices.DeleteFunc(slices.Clone(x.When), func(t space.Test) bool { return t.Dim != d })}
}

// Listed are the values that x lists for a dimension that each request has one of, nil if it lists none.
func (x Match) Listed(d space.Dim) []string {
	var out []string
	for _, t := range x.On(d).When {
		for _, p := range t.Any {
			out = append(out, p.Text)
		}
	}
	return out
}

// Same reports whether both have the same conditions, whatever free segments of their paths
// are called.
func (x Match) Same(y Match) bool {
	return x.Path.Same(y.Path) && slices.Equal(x.beside(), y.beside())
}

// beside are the conditions beside that on the path, as texts in order.
func (x Match) beside() []string {
	var out []string
	for _, t := range x.When {
		key := t.Key()
		if t.Not { // behind the same condition without
			key = strings.TrimPrefix(key, "!") + "!"
		}
		out = append(out, key)
	}
	slices.Sort(out)
	return out
}

// CompareSpecific orders by how specific matches are beside the path: the one with more
// conditions on the first dimension (space.Dimensions) in which they differ comes first.
func CompareSpecific(a, b Match) int {
	as, bs := a.conditions(), b.conditions()
	for i := range as {
		if c := cmp.Compare(bs[i], as[i]); c != 0 {
			return c
		}
	}
	return 0
}

// conditions is how many there are on each dimension, beside the path.
func (x Match) conditions() []int {
	out := make([]int, len(space.Dimensions()))
	for _, t := range x.When {
		out[t.Dim.Index()]++
	}
	return out
}

// CompareConditions is any order by what conditions beside the path say.
func CompareConditions(a, b Match) int { return slices.Compare(a.beside(), b.beside()) }

// IntersectMatches returns the conjunction of a and b, and whether a request can
// meet it. Only plain contradictions are recognised; a combination that is
// impossible for a subtler reason stays, and simply never matches.
func IntersectMatches(a, b Match) (Match, bool) {
	path, ok := IntersectPaths(a.Path, b.Path)
	if !ok {
		return Match{}, false
	}
	when, ok := joinTests(a.When, b.When)
	if path.Kind != PathExact {
		return Match{Path: path, When: when}, ok
	}
	var open []space.Test // what the one path does not decide
	for _, t := range when {
		switch {
		case t.Dim != space.PathDim:
			open = append(open, t)
		case !t.Admits(path.Value):
			return Match{}, false
		}
	}
	return Match{Path: path, When: open}, ok
}

// joinTests is the conjunction of tests, and false if some of them contradict each other.
func joinTests(a, b []space.Test) ([]space.Test, bool) {
	if len(a) == 0 || len(b) == 0 {
		return append(slices.Clip(a), b...), true
	}
	var all []space.Test
	keys := map[string]bool{}
	for _, t := range slices.Concat(a, b) {
		if i := slices.IndexFunc(all, func(o space.Test) bool { return oneOfBoth(o, t) }); i >= 0 {
			all[i].Any = slices.DeleteFunc(slices.Clone(all[i].Any), func(p space.Pattern) bool { return !slices.Contains(t.Any, p) })
			if len(all[i].Any) == 0 {
				return nil, false
			}
			continue
		}
		if key := t.Key(); !keys[key] {
			keys[key] = true
			all = append(all, t)
		}
	}
	// There may be several values of what a test is about, so two different exact ones do not
	// contradict each other; a condition and its complement do, and what is there and absent.
	for _, t := range all {
		opposite, absent := t, space.Test{Dim: t.Dim, Not: true}
		opposite.Not = !t.Not
		if keys[opposite.Key()] || !t.Not && keys[absent.Key()] {
			return nil, false
		}
	}
	slices.SortFunc(all, compareTests)
	return all, true
}

// oneOfBoth reports whether both tests list the values that the only one of a dimension may
// be: together they list those that are in both.
func oneOfBoth(a, b space.Test) bool {
	if a.Dim != b.Dim || !listsValues(a) || !listsValues(b) {
		return false
	}
	dim, _ := a.Dim.Of()
	return !dim.Lines
}

// listsValues reports whether a test lists the values that it takes.
func listsValues(t space.Test) bool {
	return !t.Not && len(t.Any) > 0 && !slices.ContainsFunc(t.Any, func(p space.Pattern) bool { return p.Kind != space.Exact })
}

// compareTests orders conditions by their dimension, its name and what they say of it; one
// stands before its complement.
func compareTests(a, b space.Test) int {
	if c := cmp.Or(cmp.Compare(a.Dim.Index(), b.Dim.Index()), cmp.Compare(a.Dim, b.Dim)); c != 0 {
		return c
	}
	dim, _ := a.Dim.Of()
	if c := slices.CompareFunc(writtenIn(dim, a), writtenIn(dim, b), func(p, q space.Pattern) int {
		return cmp.Or(cmp.Compare(p.Kind, q.Kind), cmp.Compare(p.Text, q.Text))
	}); c != 0 || a.Not == b.Not {
		return c
	}
	if b.Not {
		return -1
	}
	return 1
}

// Meets reports whether one request can be taken by both matches, for the
// purpose of finding conflicts: two different exact values of one header are
// taken as exclusive, because a request has such a header once in all practice,
// and the order by value decides for one that has it twice. Claims are lists in all practice.
func (x Match) Meets(y Match) bool {
	if _, ok := IntersectMatches(x, y); !ok {
		return false
	}
	for _, a := range x.When {
		for _, b := range y.When {
			if dim, _ := a.Dim.Of(); a.Dim == b.Dim && !dim.Late && listsValues(a) && listsValues(b) && !slices.ContainsFunc(a.Any, func(p space.Pattern) bool { return slices.Contains(b.Any, p) }) {
				return false
			}
			if a.Dim == b.Dim && (excludes(a, b) || excludes(b, a)) {
				return false
			}
		}
	}
	return true
}

// excludes reports whether a test lists values of a dimension that each request has one of, none of which the other
// one takes.
func excludes(a, b space.Test) bool {
	dim, _ := a.Dim.Of()
	return !dim.Lines && listsValues(a) && !slices.ContainsFunc(a.Any, func(p space.Pattern) bool { return b.Admits(p.Text) })
}
