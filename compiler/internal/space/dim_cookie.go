package space

import (
	"regexp"
	"slices"
	"strings"
)

const (
	cookiePrefix = "cookie:"
	// cookieHeader has all cookies of a request, in one line or several.
	cookieHeader = "cookie"
	// blanks around a cookie's name and value are no part of them.
	blanks = " \t"
)

// CookieDim is the dimension of a cookie. It is multi-valued: the values that the cookie has in
// the header's lines, as they are spelt, quotes included; there are none if it is absent.
func CookieDim(name string) Dim { return Dim(cookiePrefix + name) }

var cookie = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:     cookiePrefix,
	Lines:    true,
	Values:   Request.cookies,
	With:     Request.withCookie,
	Universe: fixed(cookieUniverse),
	Word:     "cookies",
	Header:   func(string) string { return cookieHeader },
	Line:     cookieLine,
	Fixes: func(q Request, _ string) bool {
		return slices.ContainsFunc(q.Headers, func(h Header) bool { return h.Name == cookieHeader })
	},
	Place: Addition,
	Words: func(name string, t Test) string { return fieldWords("cookie", name, t) },
}

// cookieUniverse is a cookie's value: what a header line may have but the semicolon, without
// blanks at the ends.
const cookieUniverse = `(?:[!-:<-~\x{80}-\x{10FFFF}](?:[\t -:<-~\x{80}-\x{10FFFF}]*[!-:<-~\x{80}-\x{10FFFF}])?)?`

// cookies are the values of a cookie.
func (q Request) cookies(name string) []string {
	var out []string
	for _, h := range q.Headers {
		if h.Name != cookieHeader {
			continue
		}
		for pair := range strings.SplitSeq(h.Value, ";") {
			if n, v, ok := strings.Cut(pair, "="); ok && strings.Trim(n, blanks) == name {
				out = append(out, strings.Trim(v, blanks))
			}
		}
	}
	return out
}

// withCookie is the request with one more cookie, in the line that has its others.
func (q Request) withCookie(name, value string) Request {
	if slices.Contains(q.cookies(name), value) {
		return q
	}
	pair := name + "=" + value
	q.Headers = slices.Clone(q.Headers)
	if i := slices.IndexFunc(q.Headers, func(h Header) bool { return h.Name == cookieHeader }); i >= 0 {
		q.Headers[i].Value += "; " + pair
		return q
	}
	q.Headers = append(q.Headers, Header{Name: cookieHeader, Value: pair})
	return q
}

// cookieLine takes the lines of the header in which a cookie has a value that one of the patterns
// takes, those of QueryPattern; without any, those in which it is. None of the texts has a
// semicolon, or a blank at an end.
func cookieLine(name string, any []Pattern) Pattern {
	const rest = `[ \t]*(?:;.*)?`
	values := []string{".*"}
	if len(any) > 0 {
		values = nil
	}
	for _, p := range any {
		switch folded := p.Kind == Folded; {
		case folded:
			p = p.Unfolded()
			p.Text = anyCaseOf(p)
		case p.Kind != Regex:
			p.Text = regexp.QuoteMeta(p.Text)
		}
		if p.Kind == Regex {
			p.Text = ASCII(p.Text)
		}
		switch p.Kind {
		case Prefix:
			values = append(values, p.Text+".*")
		case Suffix:
			values = append(values, "[^;]*"+p.Text+rest)
		case Contains:
			values = append(values, "[^;]*"+p.Text+".*")
		case Regex:
			values = append(values, "(?:"+p.Text+")"+rest)
		default:
			values = append(values, p.Text+rest)
		}
	}
	value := values[0]
	if len(values) > 1 {
		value = "(?:" + strings.Join(values, "|") + ")"
	}
	return Pattern{Line, `(?:.*;)?[ \t]*` + regexp.QuoteMeta(name) + `[ \t]*=[ \t]*` + value}
}
