package eval

import "meshc.dev/meshc/compiler/internal/space"

// Decide returns what becomes of q in scope d and which pieces of the mesh
// decided it. q.Path must be normalised (Normalise).
func Decide(d space.Decision, q space.Request) space.Answer {
	if r, ok := First(d.Effective, q); ok {
		return space.Answer{Outcome: r.Then, From: r.From, Image: r.Image}
	}
	return space.Answer{Outcome: space.NotRouted()}
}

// First returns the first rule of l that matches q.
func First(l space.List, q space.Request) (space.Rule, bool) {
	for _, r := range l {
		if space.Matches(r.When, q) {
			return r, true
		}
	}
	return space.Rule{}, false
}
