package envoy

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"meshc.dev/meshc/compiler/internal/space"
)

const (
	root = "/"
	// Groups is how many parts of a match a substitution of RE2 can name.
	Groups = 9
)

// Moving says a move of the path as a route's action has it: as prefix_rewrite or as
// regex_rewrite. Envoy puts prefix_rewrite in place of what the route's match took, a whole
// path if that is no prefix, and joins it with the rest as it is. Where that is not what is
// meant, an anchored expression says it; it replaces what it matches of the path without the
// query.
func Moving(r *routev3.Route, m space.Move, x *Ctx) (prefix string, regex *matcherv3.RegexMatchAndSubstitute) {
	if m.How == space.Below && r.GetMatch().GetPathSeparatedPrefix() == m.From && !strings.HasSuffix(m.To, root) {
		return m.To, nil
	}
	pattern, to, used := movingExpression(m)
	if used > Groups {
		x.Problem("name fewer segments, or replace a prefix", "the path is made of %d segments of the request's, and at most %d can be taken", used, Groups)
	}
	return "", &matcherv3.RegexMatchAndSubstitute{Pattern: &matcherv3.RegexMatcher{Regex: pattern}, Substitution: to}
}

// movingExpression says a move in RE2: what is replaced, by what, and how many groups that names.
func movingExpression(m space.Move) (pattern, to string, used int) {
	switch m.How {
	case space.Below:
		from := regexp.QuoteMeta(strings.TrimSuffix(m.From, root))
		if strings.HasSuffix(m.To, root) {
			from += "/*" // slashes behind it go with it
		}
		return "^" + from, m.To, 0
	case space.Filled:
		closed, rest := space.CutOpen(m.From)
		made, open := space.CutOpen(m.To)
		want := strings.Split(made, root)
		numbers := map[string]string{}
		from := strings.Split(closed, root)
		for i, s := range from {
			switch {
			case !space.IsVariable(s):
				from[i] = regexp.QuoteMeta(s)
			case slices.Contains(want, s):
				numbers[s] = `\` + strconv.Itoa(len(numbers)+1)
				from[i] = "([^/]+)"
			default:
				from[i] = "[^/]+"
			}
		}
		for i, s := range want {
			if n, ok := numbers[s]; ok {
				want[i] = n
			}
		}
		used = len(numbers)
		if rest {
			from = append(from, "(.*)")
		}
		if open {
			used++
			want = append(want, `\`+strconv.Itoa(used))
		}
		return "^" + strings.Join(from, root) + "$", strings.Join(want, root), used
	case space.Substituted:
		return "^(?:" + m.From + ")$", m.To, 0
	default:
		return "^/.*", m.To, 0
	}
}
