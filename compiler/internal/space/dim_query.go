package space

import "strings"

const queryPrefix = "query:"

// QueryDim is the dimension of a query's parameter, spelt as in the request. It is
// single-valued: the first value that the parameter has, between "&" and "&", or "" if
// it is absent.
func QueryDim(name string) Dim { return Dim(queryPrefix + name) }

// Query returns the parameter's name if d is the dimension of one.
func (d Dim) Query() (name string, ok bool) { return strings.CutPrefix(string(d), queryPrefix) }

// QueryPattern takes the parameters whose first value is like text: Exact, Prefix, Suffix,
// Contains, Regex or one of them Folded. The empty Prefix takes every one that is there.
func QueryPattern(k Kind, text string) Pattern {
	switch k {
	case Exact:
		return Pattern{k, "&" + text + "&"}
	case Suffix:
		return Pattern{k, text + "&"}
	case Contains:
		return Pattern{k, text}
	case Regex:
		return Pattern{k, "&(?:" + text + ")&"}
	case Folded:
		p := Pattern{k, text}.Unfolded()
		return FoldedPattern(QueryPattern(p.Kind, p.Text))
	default:
		return Pattern{Prefix, "&" + text}
	}
}

// queryWritten undoes QueryPattern.
func queryWritten(p Pattern) Pattern {
	switch p.Kind {
	case Exact:
		p.Text = strings.Trim(p.Text, "&")
	case Suffix:
		p.Text = strings.TrimSuffix(p.Text, "&")
	case Regex:
		p.Text = strings.TrimSuffix(strings.TrimPrefix(p.Text, "&(?:"), ")&")
	case Folded:
		return FoldedPattern(queryWritten(p.Unfolded()))
	case Prefix:
		if p.Text = strings.TrimPrefix(p.Text, "&"); p.Text == "" {
			p.Kind = Present
		}
	default:
	}
	return p
}

var query = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:     queryPrefix,
	Values:   func(q Request, name string) []string { return one(q.Parameter(name)) },
	With:     Request.WithParameter,
	Universe: fixed(queryUniverse),
	Likely:   []string{"", "&x&", "&&"},
	Word:     "query",
	Pattern:  func(w Pattern) Pattern { return QueryPattern(w.Kind, w.Text) },
	Written:  queryWritten,
	Fixes:    func(q Request, _ string) bool { return q.Query != "" },
	Place:    Addition,
	Words:    queryWords,
}

// queryUniverse is a parameter as QueryDim has it: absent, or with a value.
const queryUniverse = `(?:&[!-"$%'-~\x{80}-\x{10FFFF}]*&)?`

// Parameter is the value of QueryDim(name).
func (q Request) Parameter(name string) string {
	for p := range strings.SplitSeq(q.Query, "&") {
		if n, v, _ := strings.Cut(p, "="); n == name && p != "" {
			return "&" + v + "&"
		}
	}
	return ""
}

// WithParameter is the request with one more parameter, value as Parameter gives it.
func (q Request) WithParameter(name, value string) Request {
	if value == "" {
		return q
	}
	if q.Query != "" {
		q.Query += "&"
	}
	q.Query += name + "=" + strings.Trim(value, "&")
	return q
}

// queryWords words the test of a parameter, which has one pattern.
func queryWords(name string, t Test) string {
	words := "with query " + name
	if t.Not {
		words = "without query " + name
	}
	for _, p := range t.Any {
		if p = queryWritten(p); p.Kind != Present {
			words += " " + valueWords(p)
		}
	}
	return words
}
