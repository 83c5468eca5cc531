package eval

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/space"
)

// Decide returns what becomes of q in scope d and which pieces of the mesh
// decided it. q.Path must be normalised (Normalise).
func Decide(d space.Decision, q space.Request) space.Answer {
	if r, ok := First(d.Effective, q); ok {
		return space.Answer{Outcome: r.Then, From: r.From}
	}
	return space.Answer{Outcome: space.NotRouted()}
}

// First returns the first rule of l that matches q.
func First(l space.List, q space.Request) (space.Rule, bool) {
	for _, r := range l {
		if Matches(r.When, q) {
			return r, true
		}
	}
	return space.Rule{}, false
}

// Matches reports whether all tests hold for q.
func Matches(when []space.Test, q space.Request) bool {
	for _, t := range when {
		if !holds(t, q) {
			return false
		}
	}
	return true
}

func holds(t space.Test, q space.Request) bool {
	for _, v := range values(t.Dim, q) {
		if len(t.Any) == 0 || slices.ContainsFunc(t.Any, func(p space.Pattern) bool { return p.Matches(v) }) {
			return !t.Not
		}
	}
	return t.Not
}

// values is a dimension's values: one, or a header's lines.
func values(d space.Dim, q space.Request) []string {
	switch d {
	case space.PathDim:
		return []string{q.Path}
	case space.MethodDim:
		return []string{q.Method}
	case space.HostDim:
		return []string{q.Host}
	case space.IdentityDim:
		return []string{q.From}
	}
	if name, ok := d.Query(); ok {
		return []string{q.Parameter(name)}
	}
	var lines []string
	if name, ok := d.Header(); ok {
		for _, h := range q.Headers {
			if h.Name == name {
				lines = append(lines, h.Value)
			}
		}
	}
	return lines
}
