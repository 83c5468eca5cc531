package envoy

import (
	"fmt"
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// routeMatch is Envoy's form of a match. It fails on a condition that Envoy's
// matchers cannot express.
func routeMatch(m model.Match) (*routev3.RouteMatch, error) {
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
	case model.PathTemplate:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: templateRegex(m.Path.Value)}
	default:
		return nil, fmt.Errorf("a path condition of kind %q has no form in a route", m.Path.Kind)
	}
	if len(m.Methods) > 0 {
		out.Headers = append(out.Headers, methodMatcher(m.Methods))
	}
	for _, h := range m.Headers {
		hm, err := headerMatcher(h)
		if err != nil {
			return nil, err
		}
		out.Headers = append(out.Headers, hm)
	}
	for _, q := range m.Query {
		qm, err := queryMatcher(q)
		if err != nil {
			return nil, err
		}
		out.QueryParameters = append(out.QueryParameters, qm)
	}
	if m.Scheme != "" {
		// What a connection manager of ours makes of it: the connection's, or that of proxies that it believes.
		out.Headers = append(out.Headers, stringHeader(schemeField, exactString(m.Scheme)))
	}
	return out, nil
}

// schemeField is the header in which Envoy has a request's scheme.
const schemeField = ":scheme"

// queryMatcher looks at the first value of a parameter, undecoded, as Envoy's router does.
func queryMatcher(q model.ValueMatch) (*routev3.QueryParameterMatcher, error) {
	out := &routev3.QueryParameterMatcher{Name: q.Name}
	if q.Kind == "present" && !q.Not {
		out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_PresentMatch{PresentMatch: true}
		return out, nil
	}
	s, ok := stringMatcher(q.Kind, q.Value)
	if !ok || q.Not {
		return nil, fmt.Errorf("query %q: a condition of kind %q has no form in a route", q.Name, q.Kind)
	}
	out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_StringMatch{StringMatch: s}
	return out, nil
}

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

// methodMatcher takes any of the methods. One header matcher has one pattern, so
// several methods become an anchored regular expression.
func methodMatcher(methods []string) *routev3.HeaderMatcher {
	s := exactString(methods[0])
	if len(methods) > 1 {
		quoted := make([]string, len(methods))
		for i, m := range methods {
			quoted[i] = regexp.QuoteMeta(m)
		}
		s = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: &matcherv3.RegexMatcher{Regex: strings.Join(quoted, "|")},
		}}
	}
	return stringHeader(":method", s)
}

// headerMatcher is true if some line of the header meets the condition. Not is
// the complement, absence included: Envoy's inverted string match is false for
// an absent header unless treat_missing_header_as_empty is set.
func headerMatcher(h model.ValueMatch) (*routev3.HeaderMatcher, error) {
	// An empty prefix or suffix is refused by Envoy at load and means "present".
	if h.Kind == "present" || (h.Value == "" && (h.Kind == "prefix" || h.Kind == "suffix")) {
		return &routev3.HeaderMatcher{
			Name:                 h.Name,
			HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
			InvertMatch:          h.Not,
		}, nil
	}
	if h.Kind == "exact" && h.Value == "" && h.Not {
		return nil, fmt.Errorf("header %q: \"not empty\" with an absent header counted as not empty cannot be said to Envoy", h.Name)
	}
	s, ok := stringMatcher(h.Kind, h.Value)
	if !ok {
		return nil, fmt.Errorf("header %q: a condition of kind %q has no form in a route", h.Name, h.Kind)
	}
	m := stringHeader(h.Name, s)
	m.InvertMatch, m.TreatMissingHeaderAsEmpty = h.Not, h.Not
	return m, nil
}

func stringHeader(name string, s *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: s}}
}

// stringMatcher is the matcher of a kind that compares with a text.
func stringMatcher(kind, text string) (*matcherv3.StringMatcher, bool) {
	switch kind {
	case "exact":
		return exactString(text), true
	case "prefix":
		return prefixString(text), true
	case "suffix":
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: text}}, true
	}
	return nil, false
}

func exactString(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func prefixString(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: s}}
}
