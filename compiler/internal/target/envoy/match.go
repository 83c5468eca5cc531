package envoy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// Condition says how a test on a dimension, or on one of a family, reads in a route's match.
// Only OnMatch, OnField, OnHeaders and OnParameters make one. The zero Condition counts as
// refused.
type Condition struct {
	lower func(m *routev3.RouteMatch, name string, t space.Test) error
	// proxyless is the form that gRPC programs without a proxy understand; nil if they have none.
	proxyless func(m *routev3.RouteMatch, name string, t space.Test) error
}

// Conditions maps the name of a dimension (space.Dimension) to its conditions' form.
type Conditions map[string]Condition

// OnMatch lowers a test by f, which adds to a match. name is that within the family, "" of a
// dimension that is alone. An error is what Envoy cannot say.
func OnMatch(f func(m *routev3.RouteMatch, name string, t space.Test) error) Condition {
	return Condition{lower: f}
}

// OnField lowers a test of what Envoy has in a header that each request has once, such as ":method".
func OnField(header string) Condition {
	c := OnMatch(func(m *routev3.RouteMatch, _ string, t space.Test) error {
		s, err := stringMatcher(t.Any)
		h := stringHeader(header, s)
		h.InvertMatch = t.Not
		m.Headers = append(m.Headers, h)
		return err
	})
	if header == ":method" {
		c.proxyless = callMethod
	}
	return c
}

// OnHost lowers a test of the host that a request asks for.
func OnHost() Condition {
	return OnMatch(func(m *routev3.RouteMatch, _ string, t space.Test) error {
		h := stringHeader(hostField, hostString(t.Any))
		h.InvertMatch = t.Not
		m.Headers = append(m.Headers, h)
		return nil
	})
}

// hostField is the header in which Envoy has the host that a request asks for, as it was sent but for one dot at
// its end.
const hostField = ":authority"

// hostString takes the hosts that one of the patterns takes, at any port and in letters of either case.
func hostString(any []space.Pattern) *matcherv3.StringMatcher {
	each := make([]string, len(any))
	for i, p := range any {
		each[i] = p.Expression()
	}
	return regexString("(?i)(?:" + strings.Join(each, "|") + ")(?::[0-9]*)?")
}

// OnCaller says that a test is about who calls: a proxy has the routes that its account may take, so
// that nothing is left to ask of a request.
func OnCaller() Condition {
	c := OnMatch(func(*routev3.RouteMatch, string, space.Test) error { return errAsksCaller })
	c.proxyless = c.lower
	return c
}

var errAsksCaller = errors.New("a route asks who calls, at a proxy that does not know")

// OnHeaders lowers a test of a header by its name.
func OnHeaders() Condition {
	c := OnMatch(func(m *routev3.RouteMatch, name string, t space.Test) error {
		h, err := headerMatcher(name, t)
		m.Headers = append(m.Headers, h)
		return err
	})
	c.proxyless = callHeader(c.lower)
	return c
}

// OnParameters lowers a test of a query's parameter: Envoy's router looks at the first value of
// it, undecoded.
func OnParameters() Condition {
	return OnMatch(func(m *routev3.RouteMatch, name string, t space.Test) error {
		dim, _ := t.Dim.Of()
		written := make([]space.Pattern, len(t.Any))
		for i, p := range t.Any {
			written[i] = dim.Write(&p)
		}
		if t.Not { // of parameters Envoy has no opposite, of headers it has
			h := stringHeader(pathField, regexString(firstParameter(name, written)))
			h.InvertMatch = true
			m.Headers = append(m.Headers, h)
			return nil
		}
		out := &routev3.QueryParameterMatcher{Name: name}
		m.QueryParameters = append(m.QueryParameters, out)
		if slices.ContainsFunc(written, func(p space.Pattern) bool { return p.Kind == space.Present }) {
			out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_PresentMatch{PresentMatch: true}
			return nil
		}
		s, err := stringMatcher(written)
		out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_StringMatch{StringMatch: s}
		return err
	})
}

// firstParameter is an expression for the paths with queries whose first parameter of that name
// has a value like one of the patterns, as conditions write them.
func firstParameter(name string, values []space.Pattern) string {
	return withQuery + space.FirstParameter(name, values)
}

// withQuery is what stands before a path's query.
const withQuery = `[^?]*\?`

// OnLines lowers a test of a part of a header's lines (space.Test.OnLines), by a regular
// expression for the lines. It must not take the empty line.
func OnLines() Condition {
	return OnMatch(func(m *routev3.RouteMatch, _ string, t space.Test) error {
		lines, ok := t.OnLines()
		if !ok {
			return fmt.Errorf("what %s is about is no part of a header", t.Dim)
		}
		name, _ := lines.Dim.Header()
		h, err := headerMatcher(name, lines)
		m.Headers = append(m.Headers, h)
		return err
	})
}

// routeMatch is Envoy's form of a match. It fails on a condition that Envoy's
// matchers cannot express.
func (c Conditions) routeMatch(m model.Match) (*routev3.RouteMatch, error) {
	out := &routev3.RouteMatch{}
	switch m.Path.Kind {
	case "":
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
	case model.PathExact:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: m.Path.Value}
	case model.PathPrefix:
		if m.Path.Value == "/" { // path_separated_prefix must not end in a slash
			out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
			break
		}
		out.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: m.Path.Value}
	case model.PathBelow:
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: m.Path.Value}
	case model.PathEnd:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: `[!-~]*` + regexp.QuoteMeta(m.Path.Value)}}
	case model.PathTemplate:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: templateRegex(m.Path.Value)}
	default:
		return nil, fmt.Errorf("a path condition of kind %q has no form in a route", m.Path.Kind)
	}
	for _, t := range m.When {
		if t.Dim == space.PathDim {
			h, err := pathMatcher(t)
			if err != nil {
				return nil, err
			}
			out.Headers = append(out.Headers, h)
			continue
		}
		dim, name := t.Dim.Of()
		cell := c[dim.Name]
		if cell.lower == nil {
			return nil, fmt.Errorf("a condition on %s has no form in a route", t.Dim)
		}
		if err := cell.lower(out, name, t); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// pathMatcher is true if the path is like t says. It is in a header with the query behind it.
func pathMatcher(t space.Test) (*routev3.HeaderMatcher, error) {
	if len(t.Any) == 1 && t.Any[0].Kind == space.Prefix {
		h := stringHeader(pathField, prefixString(t.Any[0].Text))
		h.InvertMatch = t.Not
		return h, nil
	}
	each := make([]string, len(t.Any))
	for i, p := range t.Any {
		expression := pathExpression(p)
		if expression == "" {
			return nil, fmt.Errorf("a condition on paths of kind %q has no form in a route", p.Kind)
		}
		expression, _ = space.Without(expression, "?#")
		each[i] = space.ASCII(expression)
	}
	h := stringHeader(pathField, regexString("(?:"+strings.Join(each, "|")+`)(?:\?.*)?`))
	h.InvertMatch = t.Not
	return h, nil
}

// pathField is the header in which Envoy has a request's path with its query.
const pathField = ":path"

// pathExpression is a regular expression for the paths that a pattern takes, "" if it has none.
func pathExpression(p space.Pattern) string {
	switch p.Kind {
	case space.Segment:
		return regexp.QuoteMeta(strings.TrimSuffix(p.Text, root)) + "(?:/.*)?"
	case space.Template:
		return templateRegex(p.Text).Regex
	default:
		return p.Expression()
	}
}

// SchemeField is the header in which Envoy has a request's scheme: what a connection manager of
// ours makes of it, the connection's, or that of proxies that it believes.
const SchemeField = ":scheme"

// templateRegex takes the paths of a template. Envoy has an extension for
// templates, but its variables leave out characters that segments may have, such
// as "[". A variable here is any visible ASCII but the slash: paths have no other.
func templateRegex(template string) *matcherv3.RegexMatcher {
	closed, open := space.CutOpen(template)
	segments := strings.Split(closed, root)
	for i, s := range segments {
		if space.IsVariable(s) {
			segments[i] = `[!-.0-~]+`
		} else {
			segments[i] = regexp.QuoteMeta(s)
		}
	}
	if open {
		segments = append(segments, `[!-~]*`)
	}
	return &matcherv3.RegexMatcher{Regex: strings.Join(segments, root)}
}

// Broadly are matches of requests with these methods and paths, nil for all, whose paths count in
// every spelling that applications take for them.
func Broadly(methods []string, paths []model.Path) []*routev3.RouteMatch {
	var out []*routev3.RouteMatch
	for _, p := range paths {
		out = append(out, &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: spellings(p).GetSafeRegex()}})
	}
	if len(out) == 0 {
		out = append(out, everything())
	}
	for _, m := range out {
		if len(methods) > 0 {
			m.Headers = append(m.Headers, methodMatcher(methods))
		}
	}
	return out
}

// Excepted are matches of requests with one of these methods or one of these paths, as they are written.
func Excepted(methods []string, paths []model.Path) []*routev3.RouteMatch {
	var out []*routev3.RouteMatch
	if len(methods) > 0 {
		m := everything()
		m.Headers = append(m.Headers, methodMatcher(methods))
		out = append(out, m)
	}
	for _, p := range paths {
		m, _ := Conditions{}.routeMatch(model.Match{Path: p}) // a path alone always has a form
		out = append(out, m)
	}
	return out
}

func everything() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

// methodMatcher takes any of the methods.
func methodMatcher(methods []string) *routev3.HeaderMatcher {
	s, _ := stringMatcher(space.Values(space.MethodDim, methods...).Any) // it has a form of every value
	return stringHeader(":method", s)
}

// headerMatcher is true if some line of the header meets the condition. Not is
// the complement, absence included: Envoy's inverted string match is false for
// an absent header unless treat_missing_header_as_empty is set.
func headerMatcher(name string, t space.Test) (*routev3.HeaderMatcher, error) {
	// An empty prefix or suffix is refused by Envoy at load and means "present".
	if len(t.Any) == 0 || slices.ContainsFunc(t.Any, takesEverything) {
		return &routev3.HeaderMatcher{
			Name:                 name,
			HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
			InvertMatch:          t.Not,
		}, nil
	}
	if t.Not && slices.ContainsFunc(t.Any, func(p space.Pattern) bool { return p.Matches("") }) {
		return nil, fmt.Errorf("header %q: \"not empty\" with an absent header counted as not empty cannot be said to Envoy", name)
	}
	s, err := stringMatcher(t.Any)
	if err != nil {
		return nil, fmt.Errorf("header %q: %w", name, err)
	}
	m := stringHeader(name, s)
	m.InvertMatch, m.TreatMissingHeaderAsEmpty = t.Not, t.Not
	return m, nil
}

func takesEverything(p space.Pattern) bool {
	return p.Text == "" && (p.Kind == space.Prefix || p.Kind == space.Suffix)
}

func stringHeader(name string, s *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: s}}
}

// stringMatcher takes what one of the patterns takes. A matcher has one pattern, so several
// become a regular expression, which Envoy holds against the whole value.
func stringMatcher(any []space.Pattern) (*matcherv3.StringMatcher, error) {
	if len(any) == 1 {
		switch p := any[0]; p.Kind {
		case space.Exact:
			return exactString(p.Text), nil
		case space.Prefix:
			return prefixString(p.Text), nil
		case space.Suffix:
			return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: p.Text}}, nil
		case space.Contains:
			return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: p.Text}}, nil
		case space.Folded:
			if p = p.Unfolded(); p.Kind == space.Regex {
				break
			}
			s, err := stringMatcher([]space.Pattern{p})
			s.IgnoreCase = true
			return s, err
		default:
		}
	}
	each := make([]string, len(any))
	for i, p := range any {
		if each[i] = p.Expression(); each[i] == "" && p.Text != "" {
			return nil, fmt.Errorf("a condition of kind %q has no form in a route", p.Kind)
		}
		if p.Kind == space.Regex || p.Kind == space.Folded && p.Unfolded().Kind == space.Regex {
			each[i] = space.ASCII(each[i])
		}
	}
	return regexString(strings.Join(each, "|")), nil
}

func regexString(expression string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: expression}}}
}

func exactString(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func prefixString(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: s}}
}
