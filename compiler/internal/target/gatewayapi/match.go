package gatewayapi

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// Condition says how a test on a dimension, or on one of a family, reads in an HTTPRoute's
// match. Only OnMatches, OnMethod, OnHeaders, OnParameters and RefuseCondition make one. The
// zero Condition counts as refused.
type Condition struct {
	lower   func(ms []Match, name string, t space.Test) (out []Match, losses []string, err error)
	refusal string
}

// Conditions maps the name of a dimension (space.Dimension) to its conditions' form.
type Conditions map[string]Condition

// OnMatches lowers a test by f, which narrows the alternatives ms, at least one. name is that
// within the family, "" of a dimension that is alone. losses are what is only approximately
// the same, an error is what Gateway API cannot say.
func OnMatches(f func(ms []Match, name string, t space.Test) (out []Match, losses []string, err error)) Condition {
	return Condition{lower: f}
}

// RefuseCondition says that Gateway API has no such condition, and why.
func RefuseCondition(reason string) Condition { return Condition{refusal: reason} }

// OnMethod lowers a test of the method: a match has one, so that there is one for each.
func OnMethod() Condition {
	return OnMatches(func(ms []Match, _ string, t space.Test) (out []Match, losses []string, err error) {
		for _, m := range ms {
			for _, p := range t.Any {
				if m.Method = p.Text; t.Not || p.Kind != space.Exact {
					return nil, nil, fmt.Errorf("method %q: an HTTPRoute only compares whole methods", p.Text)
				}
				out = append(out, m)
			}
		}
		return out, nil, nil
	})
}

// OnHeaders lowers a test of a header by its name.
func OnHeaders() Condition {
	return OnMatches(func(ms []Match, name string, t space.Test) ([]Match, []string, error) {
		h, losses, err := valueMatch("header", name, t)
		return withHeader(ms, h, losses, err)
	})
}

// OnLines lowers a test of a part of a header's lines (space.Test.OnLines), by a regular
// expression for the lines.
func OnLines() Condition {
	return OnMatches(func(ms []Match, _ string, t space.Test) ([]Match, []string, error) {
		lines, ok := t.OnLines()
		if !ok {
			return nil, nil, fmt.Errorf("what %s is about is no part of a header", t.Dim)
		}
		name, _ := lines.Dim.Header()
		h, losses, err := valueMatch("header", name, lines)
		return withHeader(ms, h, losses, err)
	})
}

// withHeader adds a condition on a header to each of the alternatives. Of several for one header
// an HTTPRoute has the first alone.
func withHeader(ms []Match, h HeaderMatch, losses []string, err error) ([]Match, []string, error) {
	for i := range ms {
		if err == nil && slices.ContainsFunc(ms[i].Headers, func(o HeaderMatch) bool { return o.Name == h.Name }) {
			err = fmt.Errorf("header %q: an HTTPRoute has one condition for each header", h.Name)
		}
		ms[i].Headers = append(slices.Clip(ms[i].Headers), h)
	}
	return ms, losses, err
}

// OnParameters lowers a test of a query's parameter.
func OnParameters() Condition {
	return OnMatches(func(ms []Match, name string, t space.Test) ([]Match, []string, error) {
		q, losses, err := valueMatch("query", name, t)
		for i := range ms {
			ms[i].QueryParams = append(slices.Clip(ms[i].QueryParams), q)
		}
		return ms, append([]string{"which value counts of a parameter that a query repeats is the implementation's"}, losses...), err
	})
}

// matches are the alternatives that together take what m takes, none if that is everything.
// losses says what is only approximately the same. With an error they are m as far as it has a
// form.
func (c Conditions) matches(m model.Match) (out []Match, losses []string, err error) {
	if m.IsZero() {
		return nil, nil, nil
	}
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
			err = fmt.Errorf("an HTTPRoute's prefix %q takes the path without the slash as well", m.Path.Value)
		default:
			err = fmt.Errorf("a path condition of kind %q has no form in Gateway API", m.Path.Kind)
		}
	}
	out = []Match{one}
	for _, t := range m.When {
		if t.Dim == space.PathDim {
			like, problem := pathLike(m.Path, t)
			err = cmp.Or(err, problem)
			for i := range out {
				out[i].Path = like
			}
			losses = append(losses, "a condition by characters becomes a regular expression, whose support and order are the implementation's")
			continue
		}
		dim, name := t.Dim.Of()
		cell := c[dim.Name]
		if cell.lower == nil {
			err = cmp.Or(err, errors.New(cmp.Or(cell.refusal, fmt.Sprintf("a condition on %s has no form in Gateway API", t.Dim))))
			continue
		}
		ms, more, problem := cell.lower(out, name, t)
		err, losses = cmp.Or(err, problem), append(losses, more...)
		if len(ms) > 0 {
			out = ms
		}
	}
	if err != nil {
		losses = nil
	}
	return out, losses, err
}

// pathLike is a condition by characters, beside which there is none but that on the segments in
// front: an HTTPRoute has one for the path.
func pathLike(front model.Path, t space.Test) (*PathMatch, error) {
	like := &PathMatch{Type: "RegularExpression", Value: "/.*"}
	switch {
	case t.Not:
		return like, errors.New("path: Gateway API has no \"not\"")
	case len(t.Any) != 1 || model.InFront(t.Any[0]) != front || t.Any[0].Expression() == "":
		return like, errors.New("an HTTPRoute has one condition on the path")
	}
	like.Value = "^(" + t.Any[0].Expression() + ")$"
	return like, nil
}

// valueMatch is the condition on a header or on a parameter of the query.
func valueMatch(of, name string, t space.Test) (HeaderMatch, []string, error) {
	if t.Not {
		return HeaderMatch{}, nil, fmt.Errorf("%s %q: Gateway API has no \"not\"", of, name)
	}
	dim, _ := t.Dim.Of()
	written := []space.Pattern{dim.Write(nil)}
	if len(t.Any) > 0 {
		written = nil
	}
	for _, p := range t.Any {
		written = append(written, dim.Write(&p))
	}
	kind, each := string(written[0].Kind), make([]string, len(written))
	for i, w := range written {
		switch {
		case w.Kind == space.Exact && w.Text == "":
			return HeaderMatch{}, nil, fmt.Errorf("%s %q: Gateway API cannot compare with an empty value", of, name)
		case w.Kind == space.Present:
			each[i] = ".*"
		default:
			each[i] = w.Expression()
		}
	}
	if written[0].Kind == space.Folded {
		kind = string(written[0].Unfolded().Kind) + ", in any case,"
	}
	expression := each[0]
	switch {
	case len(written) > 1:
		kind, expression = "any", "("+strings.Join(each, "|")+")"
	case written[0].Kind == space.Exact:
		return HeaderMatch{"Exact", name, written[0].Text}, nil, nil
	case written[0].Kind == space.Regex, written[0].Kind == space.Line:
		kind = string(space.Regex)
		expression = "(" + expression + ")"
	}
	return HeaderMatch{"RegularExpression", name, "^" + expression + "$"},
		[]string{"a " + of + " condition of kind " + kind + " becomes a regular expression, whose support is the implementation's"}, nil
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

// precedes reports whether Gateway API tries a rule with alternatives like a before one like b
// for a request that both take: exact path, longer prefix, method, more headers, more
// parameters. known is false where the specification leaves it to the implementation; tie
// where the order of rules within one route decides.
func precedes(a, b Match) (first, tie, known bool) {
	if a.pathType() == "RegularExpression" || b.pathType() == "RegularExpression" {
		return false, false, false
	}
	for _, d := range []int{
		rank(a.pathType() == "Exact") - rank(b.pathType() == "Exact"),
		a.prefixLength() - b.prefixLength(),
		rank(a.Method != "") - rank(b.Method != ""),
		len(a.Headers) - len(b.Headers),
		len(a.QueryParams) - len(b.QueryParams),
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

// pathType is that of the path's condition; the default is the prefix "/".
func (m Match) pathType() string {
	if m.Path == nil {
		return "PathPrefix"
	}
	return m.Path.Type
}

func (m Match) prefixLength() int {
	switch {
	case m.Path == nil:
		return len("/")
	case m.Path.Type == "PathPrefix":
		return len(m.Path.Value)
	}
	return 0
}
