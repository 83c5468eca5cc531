package model

import (
	"cmp"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// ValueMatch is a condition on one header, or on one parameter of the query; Kind says
// how: "exact", "prefix", "suffix", "present".
type ValueMatch struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Value string `json:"value,omitempty"`
	// Not is the complement, absence included. For headers only.
	Not bool `json:"not,omitempty"`
}

// Match is a conjunction. The zero Match takes everything.
type Match struct {
	Path    Path         `json:"path,omitzero"`
	Methods []string     `json:"methods,omitempty"` // sorted; empty: any
	Headers []ValueMatch `json:"headers,omitempty"` // sorted by name
	// Query is about parameters as they are spelt: escapes are not decoded. One that is
	// there more than once has the first of its values. Sorted by name.
	Query []ValueMatch `json:"query,omitempty"`
	// Scheme is "http" or "https", "" for both. A gateway's route only.
	Scheme string `json:"scheme,omitempty"`
}

// Tests is the match as tests.
func (x Match) Tests() []space.Test {
	var when []space.Test
	if !x.Path.IsZero() {
		when = append(when, space.Test{Dim: space.PathDim, Any: []space.Pattern{x.Path.Pattern()}})
	}
	if len(x.Methods) > 0 {
		t := space.Test{Dim: space.MethodDim}
		for _, m := range x.Methods {
			t.Any = append(t.Any, space.Pattern{Kind: space.Exact, Text: m})
		}
		when = append(when, t)
	}
	for _, h := range x.Headers {
		when = append(when, h.headerTest())
	}
	for _, q := range x.Query {
		when = append(when, space.Test{Dim: space.QueryDim(q.Name), Any: []space.Pattern{space.QueryPattern(space.Kind(q.Kind), q.Value)}})
	}
	if x.Scheme != "" {
		when = append(when, space.Test{Dim: space.SchemeDim, Any: []space.Pattern{{Kind: space.Exact, Text: x.Scheme}}})
	}
	return when
}

func (h ValueMatch) headerTest() space.Test {
	t := space.Test{Dim: space.HeaderDim(h.Name), Not: h.Not}
	if h.Kind != "present" {
		t.Any = []space.Pattern{{Kind: space.Kind(h.Kind), Text: h.Value}}
	}
	return t
}

// IsZero reports whether x takes everything.
func (x Match) IsZero() bool { return len(x.Tests()) == 0 }

// Same reports whether both have the same conditions, whatever free segments of their paths
// are called.
func (x Match) Same(y Match) bool {
	return x.Path.Same(y.Path) && slices.Equal(x.beside(), y.beside())
}

// beside are the conditions beside that on the path, as texts in order.
func (x Match) beside() []string {
	x.Path = Path{}
	var out []string
	for _, t := range x.Tests() {
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
	for _, d := range space.Dimensions() {
		if c := cmp.Compare(bs[d.Name], as[d.Name]); c != 0 && d.Name != string(space.PathDim) {
			return c
		}
	}
	return 0
}

// conditions is how many there are on each dimension.
func (x Match) conditions() map[string]int {
	out := map[string]int{}
	for _, t := range x.Tests() {
		d, _ := t.Dim.Of()
		out[d.Name]++
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
	methods := a.Methods
	switch {
	case len(a.Methods) == 0:
		methods = b.Methods
	case len(b.Methods) > 0:
		methods = slices.DeleteFunc(slices.Clone(a.Methods), func(x string) bool { return !slices.Contains(b.Methods, x) })
		if len(methods) == 0 {
			return Match{}, false
		}
	}
	headers, ok := joinValues(a.Headers, b.Headers)
	if !ok {
		return Match{}, false
	}
	if a.Scheme != "" && b.Scheme != "" && a.Scheme != b.Scheme {
		return Match{}, false
	}
	query, _ := joinValues(a.Query, b.Query)
	return Match{Path: path, Methods: methods, Headers: headers, Query: query, Scheme: cmp.Or(a.Scheme, b.Scheme)}, !otherValues(query, query)
}

func joinValues(a, b []ValueMatch) ([]ValueMatch, bool) {
	if len(a) == 0 || len(b) == 0 {
		return append(slices.Clip(a), b...), true
	}
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, compareValues)
	all = slices.Compact(all)
	for _, h := range all {
		opposite := h
		opposite.Not = !h.Not
		absent := ValueMatch{Name: h.Name, Kind: "present", Not: true}
		// A header may stand on several lines, so two different exact values do not
		// contradict each other; a condition and its complement do.
		if slices.Contains(all, opposite) || (!h.Not && slices.Contains(all, absent)) {
			return nil, false
		}
	}
	return all, true
}

func compareValues(a, b ValueMatch) int {
	c := cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
	if c != 0 || a.Not == b.Not {
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
// and the order by value decides for one that has it twice.
func (x Match) Meets(y Match) bool {
	if _, ok := IntersectMatches(x, y); !ok {
		return false
	}
	return !otherValues(x.Headers, y.Headers)
}

// otherValues reports whether two conditions demand different values under one name.
func otherValues(xs, ys []ValueMatch) bool {
	for _, a := range xs {
		for _, b := range ys {
			if a.Name == b.Name && a.Kind == "exact" && b.Kind == "exact" && !a.Not && !b.Not && a.Value != b.Value {
				return true
			}
		}
	}
	return false
}
