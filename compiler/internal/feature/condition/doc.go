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
// value begins and ends with nothing, and has nothing somewhere. end are the letters that end a
// value, which is why none has them. ok is false after a problem that is noted.
func written(n intent.Node, x *resolve.Place, end string) (p space.Pattern, ok bool) {
	kind := x.OneOf(n, string(space.Exact), string(space.Prefix), string(space.Suffix), string(space.Contains), string(space.Regex), space.Present)
	p.Kind = space.Kind(kind)
	value := n.Field(kind)
	switch p.Kind {
	case "":
		return p, false
	case space.Present:
	case space.Regex:
		if p.Text, ok = x.Expression(value, "values"); ok {
			p, ok = x.Without(value, p, end)
		}
		if !ok {
			return p, false
		}
	case space.Exact:
		p.Text = value.Str()
	default:
		if p.Text = value.Str(); p.Text == "" {
			p.Kind = space.Present
		}
	}
	return x.AnyCase(n, p), true
}
