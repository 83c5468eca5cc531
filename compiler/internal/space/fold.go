package space

import (
	"regexp"
	"strings"
)

// FoldedPattern takes what p takes, and what differs from it by the case of letters: of ASCII
// alone, as Envoy's StringMatcher.ignore_case does, but for a Regex, in which RE2 folds all. p is
// Exact, Prefix, Suffix, Contains, Segment or Regex.
func FoldedPattern(p Pattern) Pattern { return Pattern{Folded, string(p.Kind) + ":" + p.Text} }

// Unfolded is what FoldedPattern made p of.
func (p Pattern) Unfolded() Pattern {
	kind, text, _ := strings.Cut(p.Text, ":")
	return Pattern{Kind(kind), text}
}

// folded is Expression, whatever the case of letters.
func (p Pattern) folded() string {
	text := anyCaseOf(p)
	switch p.Kind {
	case Prefix:
		return text + ".*"
	case Suffix:
		return ".*" + text
	case Contains:
		return ".*" + text + ".*"
	case Segment:
		return anyCase(strings.TrimSuffix(p.Text, root)) + "(?:/.*)?"
	default:
		return text
	}
}

// smallLetters has those of ASCII in place of capitals.
func smallLetters(text string) string {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c - 'A' + 'a'
		}
	}
	return string(b)
}

// anyCaseOf is the expression of p's text alone, whatever the case of its letters.
func anyCaseOf(p Pattern) string {
	if p.Kind == Regex {
		return "(?i:" + p.Text + ")"
	}
	return anyCase(p.Text)
}

// anyCase is an expression for a text, whatever the case of its letters.
func anyCase(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch lower, upper := strings.ToLower(string(r)), strings.ToUpper(string(r)); {
		case r < 0x80 && lower != upper:
			b.WriteString("[" + upper + lower + "]")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return b.String()
}
