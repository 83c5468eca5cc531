package space

import (
	"regexp"
	"strings"

	"meshc.dev/meshc/internal/hop"
)

// Matches reports whether the pattern takes a value. An expression that does not
// compile takes nothing.
func (p Pattern) Matches(v string) bool {
	switch p.Kind {
	case Exact:
		return v == p.Text
	case Prefix:
		return strings.HasPrefix(v, p.Text)
	case Suffix:
		return strings.HasSuffix(v, p.Text)
	case Segment:
		base := strings.TrimSuffix(p.Text, "/")
		return v == base || strings.HasPrefix(v, base+"/")
	case Template:
		return matchesTemplate(p.Text, v)
	case Contains:
		return strings.Contains(v, p.Text)
	case Folded:
		if u := p.Unfolded(); u.Kind != Regex {
			u.Text = smallLetters(u.Text)
			return u.Matches(smallLetters(v))
		}
		return isASCII(v) && matchesWhole(p.Expression(), v)
	case Line:
		return matchesWhole(p.Text, v)
	case Regex, Spelt, Wild, Identified, Named, Called:
		return isASCII(v) && matchesWhole(p.Expression(), v)
	case Moved:
		m, behind := p.Behind()
		return m.Takes(v) && behind.Matches(m.Of(v))
	}
	return false
}

func matchesWhole(expression, v string) bool {
	re, err := regexp.Compile(whole(expression))
	return err == nil && re.MatchString(v)
}

// Expression is the regular expression (RE2, the whole value) of a pattern, "" for a kind of
// paths that has none.
func (p Pattern) Expression() string {
	switch p.Kind {
	case Exact:
		return regexp.QuoteMeta(p.Text)
	case Prefix:
		return regexp.QuoteMeta(p.Text) + ".*"
	case Suffix:
		return ".*" + regexp.QuoteMeta(p.Text)
	case Contains:
		return ".*" + regexp.QuoteMeta(p.Text) + ".*"
	case Folded:
		return p.Unfolded().folded()
	case Spelt:
		return hop.Spellings(p.Text)
	case Named:
		return hostExpression(p.Text)
	case Called:
		return hop.HostSpellings(p.Text)
	case Identified:
		return identifiedExpression(p.Text)
	case Wild:
		return strings.ReplaceAll(regexp.QuoteMeta(p.Text), `\*`, "[^/]*")
	case Regex, Line:
		return p.Text
	default:
		return ""
	}
}

func matchesTemplate(template, v string) bool {
	closed, open := CutOpen(template)
	want, have := split(closed), split(v)
	if open && len(have) > len(want) {
		have = have[:len(want)]
	} else if open || len(have) != len(want) {
		return false
	}
	for i, w := range want {
		if IsVariable(w) {
			if have[i] == "" {
				return false
			}
		} else if w != have[i] {
			return false
		}
	}
	return true
}

// Matches reports whether all tests hold for q.
func Matches(when []Test, q Request) bool {
	for _, t := range when {
		if !t.Holds(q) {
			return false
		}
	}
	return true
}

// Admits reports whether the test holds for a value that is the only one.
func (t Test) Admits(value string) bool { return t.takes(value) != t.Not }

// Holds reports whether the test holds for q.
func (t Test) Holds(q Request) bool {
	dim, name := t.Dim.Of()
	for _, v := range dim.Values(q, name) {
		if t.takes(v) {
			return !t.Not
		}
	}
	return t.Not
}
