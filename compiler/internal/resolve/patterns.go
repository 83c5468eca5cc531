package resolve

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
)

// Expression reads a regular expression for whole values of the kind that of names ("paths"), ok
// is false after a problem that is noted. A "^" at its beginning and a "$" at its end say what is so anyway.
func (x *Place) Expression(n intent.Node, of string) (expression string, ok bool) {
	expression = strings.TrimPrefix(n.Str(), "^")
	if cut, found := strings.CutSuffix(expression, "$"); found && !strings.HasSuffix(cut, `\`) {
		expression = cut
	}
	_, err := space.Program(expression)
	switch {
	case expression == "":
		x.Problem(diag.New(diag.CodePath, n.Pos(), "%q takes nothing but the empty value", n.Str()).WithFix("write exact: \"\" instead, or .* for any value"))
		return "", false
	case err != nil:
		x.Problem(diag.New(diag.CodePath, n.Pos(), "%q is no expression for %s: %v", n.Str(), of, err).
			WithFix("write one in RE2's syntax that takes the whole value, such as \"v[0-9]+.*\""))
		return "", false
	case space.Anchored(expression):
		x.Problem(diag.New(diag.CodePath, n.Pos(), "%q looks for an end in the middle: an expression is held against the whole value", n.Str()).
			WithFix("leave out ^ and $, and write .* where something may stand before or behind"))
		return "", false
	}
	if text, is := space.Literal(expression); is {
		x.Problem(diag.Warn(diag.CodePath, n.Pos(), "the expression takes %q and nothing else", text).WithFix("write `exact` instead"))
	}
	return expression, true
}

// AnyCase is the pattern that n says beside p, whatever the case of letters if it says so.
func (x *Place) AnyCase(n intent.Node, p space.Pattern) space.Pattern {
	word := n.Field("ignoreCase")
	switch {
	case !word.Bool():
		return p
	case p.Kind == space.Present:
		x.Problem(diag.New(diag.CodeOneOf, word.Pos(), "`ignoreCase` is about letters, and here any value will do").WithFix("delete it"))
		return p
	case p.Kind != space.Regex && strings.ToLower(p.Text) == strings.ToUpper(p.Text):
		return p
	}
	return space.FoldedPattern(p)
}

// Without is an expression without letters that no value has; ok is false after a problem that is noted.
func (x *Place) Without(n intent.Node, p space.Pattern, letters string) (out space.Pattern, ok bool) {
	if p.Text, ok = space.Without(p.Text, letters); !ok {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "%q takes no value that there can be", n.Str()).WithFix("write what it may look like without %q", letters))
	}
	return p, ok
}

// onPath reads a route's condition on the path. One that goes by characters is a test beside the
// segments that all of its paths have in front: routes are ranked, and found, by those.
func (x *Place) onPath(n intent.Node) model.Match {
	kind := x.OneOf(n, "exact", "prefix", "startsWith", "template", "regex")
	fold := n.Field("ignoreCase")
	switch kind {
	case "":
		return model.Match{}
	case "regex":
		expression, ok := x.Expression(n.Field(kind), "paths")
		if !ok {
			return model.Match{}
		}
		if p, ok := x.Without(n.Field(kind), space.Pattern{Kind: space.Regex, Text: expression}, "?#"); ok {
			return x.byCharacters(n, x.AnyCase(n, p))
		}
		return model.Match{}
	case "template":
		if fold.Bool() {
			x.Problem(diag.New(diag.CodeOneOf, fold.Pos(), "`ignoreCase` is for texts and expressions, and a template is none").WithFix("delete it, or write `regex` instead"))
			return model.Match{}
		}
	}
	p := x.l.path(n, kind)
	if p.IsZero() {
		return model.Match{}
	}
	if kind == "startsWith" {
		return x.byCharacters(n, x.AnyCase(n, space.Pattern{Kind: space.Prefix, Text: p.Value}))
	}
	if folded := x.AnyCase(n, p.Pattern()); folded.Kind == space.Folded {
		return x.byCharacters(n, folded)
	}
	return model.Match{Path: p}
}

// onMethodOfGRPC reads which method of gRPC is called, which is a condition on the path: "/" Service-Name
// "/" method name (PROTOCOL-HTTP2 of grpc.io).
func (x *Place) onMethodOfGRPC(n intent.Node) model.Match {
	service, method := n.Field("service").Str(), n.Field("method").Str()
	switch {
	case service != "" && method != "":
		return model.Match{Path: model.Path{Kind: model.PathExact, Value: "/" + service + "/" + method}}
	case service != "":
		return model.Match{Path: model.Path{Kind: model.PathTemplate, Value: "/" + service + "/{method}"}}
	case method != "":
		return model.Match{Path: model.Path{Kind: model.PathTemplate, Value: "/{service}/" + method}}
	}
	x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "%s does not say what is called", n.Path()).WithFix("write service, method or both"))
	return model.Match{}
}

// byCharacters is the condition that paths are like p. One that no path meets is a mistake.
func (x *Place) byCharacters(n intent.Node, p space.Pattern) model.Match {
	m := model.Match{Path: model.InFront(p), When: []space.Test{{Dim: space.PathDim, Any: []space.Pattern{p}}}}
	hit, err := meets(m, model.Match{})
	if err != nil {
		x.Problem(diag.New(diag.CodePath, n.Pos(), "the condition is too large to be proved for all paths: %v", err).WithFix("let parts take segments, `[^/]+`, instead of anything"))
		return model.Match{}
	}
	if !hit {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "no path is like that").WithFix("write paths as they are after normalisation: they begin with a slash, and hold no //, /./ or /../"))
		return model.Match{}
	}
	return m
}

// meets reports whether some request meets both matches.
func meets(a, b model.Match) (bool, error) {
	list := space.List{{When: a.Tests(), Then: space.Outcome{Verdict: space.Forward}}, {Then: space.Outcome{Verdict: space.Denied}}}
	_, hit, err := prove.Never(space.Scope{Kind: "gateway"}, list, b.Tests(), space.Forward, prove.Limits{})
	return hit, err
}

// disjoint reports whether it is proved that no request meets both matches, for those of which one
// says what values are like by more than their ends.
func disjoint(a, b model.Match) bool {
	like := func(m model.Match) bool {
		return slices.ContainsFunc(m.When, func(t space.Test) bool {
			return slices.ContainsFunc(t.Any, func(p space.Pattern) bool {
				return p.Kind == space.Regex || p.Kind == space.Folded || t.Dim == space.PathDim
			})
		})
	}
	if !like(a) && !like(b) {
		return false
	}
	hit, err := meets(a, b)
	return err == nil && !hit
}
