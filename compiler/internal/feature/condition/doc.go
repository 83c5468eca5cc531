// Package condition holds the rows of what a route may demand of requests beside their path: the
// words of `match`, a file for each.
//
// In: the type of a row. Out: the rows, which feature/catalog lists. What a condition tests is a
// dimension of package space.
package condition

import (
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
)

// written reads what a condition on a named value says of it: exactly one of the kinds. Every
// value begins and ends with nothing.
func written(n intent.Node, x *resolve.Place) space.Pattern {
	kind := x.OneOf(n, string(space.Exact), string(space.Prefix), string(space.Suffix), space.Present)
	p := space.Pattern{Kind: space.Kind(kind)}
	if p.Kind != space.Present {
		p.Text = n.Field(kind).Str()
	}
	if p.Text == "" && (p.Kind == space.Prefix || p.Kind == space.Suffix) {
		p.Kind = space.Present
	}
	return p
}
