package space

import (
	"regexp"
	"slices"
	"strings"
)

const (
	oncePrefix = "once:"
	// lineEnd ends each line of a value of OnceDim; no line has it.
	lineEnd = "\n"
	// noComma is what one value may be of what has commas between values.
	noComma = `[^,\n]*`
)

// OnceDim is the dimension of all lines of a header together, each with a line's end behind it: "" if
// it is absent. It is single-valued, so that a test can say that there is one line only.
func OnceDim(name string) Dim { return Dim(oncePrefix + strings.ToLower(name)) }

// Once returns the header's name if d is about all of its lines together.
func (d Dim) Once() (name string, ok bool) { return strings.CutPrefix(string(d), oncePrefix) }

// OncePattern takes the headers that are there once, in one line without comma, and are like text:
// Exact, Prefix or Present.
func OncePattern(k Kind, text string) Pattern {
	switch text = regexp.QuoteMeta(text); k {
	case Exact:
		return Pattern{Line, text + lineEnd}
	case Prefix:
		return Pattern{Line, text + noComma + lineEnd}
	default:
		return Pattern{Line, noComma + lineEnd}
	}
}

// onceWritten undoes OncePattern.
func onceWritten(p Pattern) Pattern {
	text, prefix := strings.CutSuffix(strings.TrimSuffix(p.Text, lineEnd), noComma)
	text = quoted.ReplaceAllString(text, "$1")
	switch {
	case !prefix:
		return Pattern{Exact, text}
	case text == "":
		return Pattern{Kind: Present}
	}
	return Pattern{Prefix, text}
}

var quoted = regexp.MustCompile(`\\(.)`)

var once = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name: oncePrefix,
	Values: func(q Request, name string) []string {
		var all strings.Builder
		for _, line := range header.Values(q, name) {
			all.WriteString(line + lineEnd)
		}
		return one(all.String())
	},
	With: func(q Request, name, v string) Request {
		for line := range strings.Lines(v) {
			q = header.With(q, name, strings.TrimSuffix(line, lineEnd))
		}
		return q
	},
	Universe: fixed(`(?:` + headerUniverse + lineEnd + `)*`),
	Header:   func(name string) string { return name },
	Fixes:    header.Fixes,
	Place:    Addition,
	Words: func(name string, t Test) string {
		words := "with one header " + name
		if t.Not {
			words = "without one header " + name
		}
		for _, p := range t.Any {
			if p = onceWritten(p); p.Kind != Present {
				words += " " + valueWords(p)
			}
		}
		return words
	},
}

// AmongLines is a test of a header's lines as one of all of them together (OnceDim), which says
// the same.
func (t Test) AmongLines() (all Test, ok bool) {
	name, ok := t.Dim.Header()
	if !ok {
		return Test{}, false
	}
	const others = `(?:[^\n]*\n)*`
	all = Test{Dim: OnceDim(name), Not: t.Not}
	if len(t.Any) == 0 {
		all.Any = []Pattern{{Line, `(?:[^\n]*\n)+`}}
	}
	for _, p := range t.Any {
		expression := p.Expression()
		if p.Kind == Regex || p.Kind == Folded && p.Unfolded().Kind == Regex {
			expression = ASCII(expression)
		}
		if line, any := Without(expression, lineEnd); any {
			all.Any = append(all.Any, Pattern{Line, others + "(?:" + line + ")" + lineEnd + others})
		}
	}
	if len(all.Any) == 0 { // no line is so
		all.Any = []Pattern{{Line, `[^\n]`}}
	}
	return all, true
}

// Around an element of a line: others, commas and blanks.
const (
	elementsBefore = `(?:.*,)?[ \t]*`
	elementsBehind = `[ \t]*(?:,.*)?`
	elementRest    = `.*`
)

// ElementPatterns take the lines of a header of which some element between commas is like text, or
// the line itself: Exact or Prefix; none for Present, for which any line will do.
func ElementPatterns(k Kind, text string) []Pattern {
	switch text = regexp.QuoteMeta(text); k {
	case Exact:
		return []Pattern{{Line, elementsBefore + text + elementsBehind}}
	case Prefix:
		return []Pattern{{Line, elementsBefore + text + elementRest}}
	default:
		return nil
	}
}

// elementWritten undoes ElementPatterns.
func elementWritten(p Pattern) (Pattern, bool) {
	text, ok := strings.CutPrefix(p.Text, elementsBefore)
	if !ok || p.Kind != Line {
		return p, false
	}
	if exact, ok := strings.CutSuffix(text, elementsBehind); ok {
		return Pattern{Exact, quoted.ReplaceAllString(exact, "$1")}, true
	}
	return Pattern{Prefix, quoted.ReplaceAllString(strings.TrimSuffix(text, elementRest), "$1")}, true
}

// beforeLines is before of a test of OnceDim where lines are added to those that are there.
func (e Edit) beforeLines(t Test) (Test, truth, error) {
	_, name := t.Dim.Of()
	var q Request
	for _, line := range e.Lines {
		q = header.With(q, name, line)
	}
	switch {
	case !slices.ContainsFunc(once.Values(q, name), t.takes): // and less so where there are others
		return t, never, nil
	case Joined(name):
		return t, maybe, Unclear("proxies keep " + name + " as one line, to which something is added")
	}
	return Test{Dim: t.Dim, Any: []Pattern{{Exact, ""}}, Not: t.Not}, maybe, nil
}
