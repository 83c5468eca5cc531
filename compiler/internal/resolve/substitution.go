package resolve

import (
	"regexp"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/prove"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
)

// foreignGroup is how other programs name what a group took.
var foreignGroup = regexp.MustCompile(`\$(?:[0-9]|\{[^}]*\})`)

// Substitution reads an expression and what stands in place of the paths that it takes, nil
// after a problem that is noted. The next proxy normalises what it gets and decides on that, so
// every path that the route takes has to become one that is normalised.
func (x *Place) Substitution(n intent.Node) *space.Move {
	pattern, to := n.Field("pattern"), n.Field("to")
	if _, err := space.Program(pattern.Str()); err != nil {
		x.Problem(diag.New(diag.CodePath, pattern.Pos(), "%q is no expression for paths: %v", pattern.Str(), err).
			WithFix("write one in RE2's syntax that takes the whole path, such as \"/v[0-9]+/(.*)\""))
		return nil
	}
	if i := foreignGroup.FindString(to.Str()); i != "" {
		x.Problem(diag.New(diag.CodePath, to.Pos(), "%s stands for itself here, and for no group", i).WithFix("%s", `write \1 for what the first group took, such as #"/new/\1"#`))
		return nil
	}
	parts, err := space.Parts(to.Str())
	if err != nil {
		x.Problem(diag.New(diag.CodePath, to.Pos(), "%q is no substitution: %v", to.Str(), err).
			WithFix("%s", `let \1 to \9 stand for what the groups took, \0 for the whole path, such as #"/new/\1"#`))
		return nil
	}
	if groups := space.Groups(pattern.Str()); slices.ContainsFunc(parts, func(p space.Part) bool { return p.Group > groups }) {
		x.Problem(diag.New(diag.CodeUnknown, to.Pos(), "the substitution names a group that %q does not have: it has %d", pattern.Str(), groups).
			WithFix("put what is meant in parentheses there, or name another group"))
		return nil
	}
	m := space.Move{How: space.Substituted, From: pattern.Str(), To: to.Str()}
	stray, used, err := prove.Substituted(m, x.Match.Tests())
	switch {
	case err != nil:
		x.Problem(diag.New(diag.CodePath, pattern.Pos(), "the expression is too large to be proved for all paths: %v", err).WithFix("let groups take segments, `[^/]+`, instead of anything, or write one route for each case"))
		return nil
	case !used:
		x.Problem(diag.New(diag.CodeOneOf, pattern.Pos(), "the expression takes none of the paths that the route matches, so it changes nothing").
			WithFix("let it take the whole path as the route gets it, or match other paths"))
		return nil
	case stray != "":
		x.Problem(diag.New(diag.CodePath, to.Pos(), "path %q becomes %q, which %s", stray, m.Of(stray), whyStray(m.Of(stray))).
			WithFix("let the expression take fewer paths, or match fewer: every path that the route takes has to become a normalised one"))
		return nil
	}
	return &m
}

// whyStray completes "the path …".
func whyStray(path string) string {
	switch {
	case !strings.HasPrefix(path, "/"):
		return "does not begin with a slash"
	case strings.ContainsAny(path, "?#"):
		return "holds more than a path"
	default:
		return "the next proxy would read as another path"
	}
}
