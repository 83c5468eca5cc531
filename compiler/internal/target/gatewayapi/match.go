package gatewayapi

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// matches are the alternatives that together take what m takes: one per method,
// because a match has one. losses says what is only approximately the same.
func matches(m model.Match) (out []Match, losses []string, err error) {
	one := Match{}
	if !m.Path.IsZero() {
		one.Path = &PathMatch{Value: m.Path.Value}
		switch m.Path.Kind {
		case model.PathExact:
			one.Path.Type = "Exact"
		case model.PathPrefix:
			one.Path.Type = "PathPrefix"
		case model.PathTemplate:
			one.Path.Type, one.Path.Value = "RegularExpression", templateRegexp(m.Path.Value)
			losses = append(losses, "a path template becomes a regular expression, whose support and order are the implementation's")
		case model.PathBelow:
			return nil, nil, fmt.Errorf("an HTTPRoute's prefix %q takes the path without the slash as well", m.Path.Value)
		default:
			return nil, nil, fmt.Errorf("a path condition of kind %q has no form in Gateway API", m.Path.Kind)
		}
	}
	for _, h := range m.Headers {
		hm, loss, err := valueMatch("header", h)
		if err != nil {
			return nil, nil, err
		}
		if loss != "" {
			losses = append(losses, loss)
		}
		one.Headers = append(one.Headers, hm)
	}
	if m.Scheme != "" {
		return nil, nil, fmt.Errorf("no condition of an HTTPRoute is about the scheme by which a request came")
	}
	for _, q := range m.Query {
		qm, loss, err := valueMatch("query", q)
		if err != nil {
			return nil, nil, err
		}
		if losses = append(losses, "which value counts of a parameter that a query repeats is the implementation's"); loss != "" {
			losses = append(losses, loss)
		}
		one.QueryParams = append(one.QueryParams, qm)
	}
	if len(m.Methods) == 0 {
		if one.Path == nil && len(one.Headers)+len(one.QueryParams) == 0 {
			return nil, losses, nil // no matches: everything
		}
		return []Match{one}, losses, nil
	}
	for _, method := range m.Methods {
		alt := one
		alt.Method = method
		out = append(out, alt)
	}
	return out, losses, nil
}

// valueMatch is the condition on a header or on a parameter of the query.
func valueMatch(of string, h model.ValueMatch) (HeaderMatch, string, error) {
	if h.Not {
		return HeaderMatch{}, "", fmt.Errorf("%s %q: Gateway API has no \"not\"", of, h.Name)
	}
	regex := func(r string) (HeaderMatch, string, error) {
		return HeaderMatch{"RegularExpression", h.Name, r},
			"a " + of + " condition of kind " + h.Kind + " becomes a regular expression, whose support is the implementation's", nil
	}
	switch {
	case h.Kind == "exact" && h.Value != "":
		return HeaderMatch{"Exact", h.Name, h.Value}, "", nil
	case h.Kind == "prefix":
		return regex("^" + regexp.QuoteMeta(h.Value) + ".*$")
	case h.Kind == "suffix":
		return regex("^.*" + regexp.QuoteMeta(h.Value) + "$")
	case h.Kind == "present":
		return regex("^.*$")
	}
	return HeaderMatch{}, "", fmt.Errorf("%s %q: Gateway API cannot compare with an empty value", of, h.Name)
}

func templateRegexp(template string) string {
	closed, open := space.CutOpen(template)
	segments := strings.Split(closed, "/")
	for i, s := range segments {
		if space.IsVariable(s) {
			segments[i] = "[^/]+"
		} else {
			segments[i] = regexp.QuoteMeta(s)
		}
	}
	if open {
		segments = append(segments, ".*")
	}
	return "^" + strings.Join(segments, "/") + "$"
}

// duration rewrites Go's form of a length of time: Gateway API has no fractions,
// nothing below a millisecond and at most five digits per unit.
func duration(text string) (string, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return "", fmt.Errorf("timeout %q: %w", text, err)
	}
	if d < 0 || d%time.Millisecond != 0 || d >= 100_000*time.Hour {
		return "", fmt.Errorf("timeout %s cannot be written in Gateway API, which counts whole milliseconds up to 99999h", text)
	}
	if d == 0 {
		return "0s", nil
	}
	var out string
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if n := d / u.unit; n > 0 {
			out += fmt.Sprintf("%d%s", n, u.name)
			d -= n * u.unit
		}
	}
	return out, nil
}

// precedes reports whether Gateway API tries a before b for a request that both
// take: exact path, longer prefix, method, more headers, more parameters. known is false where the
// specification leaves it to the implementation; tie where the order of rules
// within one route decides.
func precedes(a, b model.Match) (first, tie, known bool) {
	if a.Path.Kind == model.PathTemplate || b.Path.Kind == model.PathTemplate {
		return false, false, false
	}
	for _, d := range []int{
		rank(a.Path.Kind == model.PathExact) - rank(b.Path.Kind == model.PathExact),
		prefixLength(a.Path) - prefixLength(b.Path),
		rank(len(a.Methods) > 0) - rank(len(b.Methods) > 0),
		len(a.Headers) - len(b.Headers),
		len(a.Query) - len(b.Query),
	} {
		if d != 0 {
			return d > 0, false, true
		}
	}
	return true, true, true
}

func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}

func prefixLength(p model.Path) int {
	switch {
	case p.IsZero():
		return 1 // the default match is the prefix "/"
	case p.Kind == model.PathPrefix:
		return len(p.Value)
	}
	return 0
}
