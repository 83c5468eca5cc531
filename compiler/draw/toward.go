package draw

import (
	"math/rand/v2"
	"regexp/syntax"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// Toward draws a request that one of a mesh's rules takes, or all but takes: a route, a grant
// or a deny of the scope of that kind ("service", "gateway", "external"), ID and port, "" for
// any. Only what the rule tests is set, From included.
func (m *Mesh) Toward(r *rand.Rand, kind, id, port string) space.Request {
	p := hand(r)
	var rules space.List
	for _, d := range m.decisions() {
		if d.Scope.Kind == kind && d.Scope.ID == id && (port == "" || d.Scope.Port == port) {
			rules = append(append(rules, d.Routes...), d.Access...)
		}
	}
	var q space.Request
	if len(rules) == 0 {
		return q
	}
	for _, t := range pick(p, rules...).When {
		if t.Not == p.chance(inTrouble) { // what is to be absent mostly is
			p.hold(&q, t)
		}
	}
	return q
}

// inTrouble is the share of tests that a drawn request is not made for, in percent.
const inTrouble = 10

func (m *Mesh) decisions() []space.Decision {
	if m.decided == nil {
		m.decided = m.Program.Decisions()
	}
	return m.decided
}

// hold has a request pass one of a test's patterns.
func (p *pen) hold(q *space.Request, t space.Test) {
	v := p.few()
	if len(t.Any) > 0 {
		v = p.like(pick(p, t.Any...))
	}
	if t.Dim == space.PathDim && !strings.HasPrefix(v, "/") { // what an expression takes need not be a path
		v = "/" + v
	}
	if t.Dim == space.ParametersDim { // no request has control characters in its target
		v = strings.Map(func(r rune) rune {
			if r < ' ' {
				return -1
			}
			return r
		}, v)
	}
	dim, name := t.Dim.Of()
	*q = dim.With(*q, name, v)
}

// few is a bit of a value.
func (p *pen) few() string { return pick(p, "", "", "a", "one") }

// like draws a value that a pattern takes.
func (p *pen) like(pat space.Pattern) string {
	text := pat.Text
	switch pat.Kind {
	case space.Exact:
	case space.Prefix:
		return text + p.few()
	case space.Suffix:
		return p.few() + text
	case space.Contains:
		return p.few() + text + p.few()
	case space.Folded:
		v := p.like(pat.Unfolded())
		return pick(p, v, strings.ToUpper(v), strings.ToLower(v))
	case space.Segment:
		return pick(p, text, strings.TrimSuffix(text, "/")+"/"+pick(p, "a", "b", "x.y"))
	case space.Template:
		segments := strings.Split(strings.TrimSuffix(text, "*"), "/")
		for i, s := range segments {
			if space.IsVariable(s) {
				segments[i] = pick(p, "a", "b", "items")
			}
		}
		if strings.HasSuffix(text, "*") {
			return strings.Join(segments, "/") + p.few()
		}
		return strings.Join(segments, "/")
	case space.Identified:
		return strings.ReplaceAll(text, "*", pick(p, "a", "s0", "vm"))
	case space.Wild:
		return strings.ReplaceAll(text, "*", pick(p, "a", "s0"))
	case space.Spelt:
		return p.like(space.Pattern{Kind: space.Template, Text: text}) + pick(p, "", "a")
	case space.Regex, space.Line:
		if re, err := syntax.Parse(text, syntax.Perl); err == nil {
			return p.sample(re.Simplify())
		}
	case space.Moved:
		m, behind := pat.Behind()
		return p.like(pick(p, behind, space.Pattern{Kind: space.Regex, Text: m.From}))
	case space.Named, space.Called: // the name itself
	}
	return text
}
