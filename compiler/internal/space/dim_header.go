package space

import (
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/internal/hop"
)

const headerPrefix = "header:"

// HeaderDim is the dimension of a header. It is multi-valued: the set of the
// header's lines, empty if absent. name is compared in lower case.
func HeaderDim(name string) Dim { return Dim(headerPrefix + strings.ToLower(name)) }

// Header returns the header's name if d is a header dimension.
func (d Dim) Header() (name string, ok bool) { return strings.CutPrefix(string(d), headerPrefix) }

var header = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:  headerPrefix,
	Lines: true,
	Values: func(q Request, name string) []string {
		var lines []string
		for _, h := range q.Headers {
			if h.Name == name {
				lines = append(lines, h.Value)
			}
		}
		if name == hop.UpgradeTo && q.Upgrade != "" { // which Envoy keeps as a header, and Request by itself
			lines = append(lines, q.Upgrade)
		}
		return lines
	},
	With: func(q Request, name, v string) Request {
		q.Headers = append(q.Headers[:len(q.Headers):len(q.Headers)], Header{Name: name, Value: v})
		return q
	},
	Universe: fixed(headerUniverse),
	Word:     "headers",
	Header:   func(name string) string { return name },
	Fixes: func(q Request, name string) bool {
		return slices.ContainsFunc(q.Headers, func(h Header) bool { return h.Name == name })
	},
	Place: Addition,
	Words: func(name string, t Test) string { return fieldWords("header", name, t) },
}

// headerUniverse is a header line: no control characters but the tab, no blanks
// at the ends.
const headerUniverse = `(?:[!-~\x{80}-\x{10FFFF}](?:[\t -~\x{80}-\x{10FFFF}]*[!-~\x{80}-\x{10FFFF}])?)?`

// fieldWords words a test of what there may be several of by a name.
func fieldWords(what, name string, t Test) string {
	if len(t.Any) == 0 {
		if t.Not {
			return "without " + what + " " + name
		}
		return "with " + what + " " + name
	}
	return "with " + what + " " + name + " " + texts(t, valueWords)
}

// valueWords words what a value is like.
func valueWords(p Pattern) string {
	if e, ok := elementWritten(p); ok {
		return valueWords(e) + " among its values"
	}
	switch p.Kind {
	case Exact:
		return strconv.Quote(p.Text)
	case Line:
		return string(Regex) + " " + strconv.Quote(p.Text)
	case Folded:
		return valueWords(p.Unfolded()) + " in any case"
	default:
		return string(p.Kind) + " " + strconv.Quote(p.Text)
	}
}
