package space

import (
	"slices"
	"strings"
)

// PathDim is the normalised path, without the query.
const PathDim Dim = "path"

var path = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:     string(PathDim),
	Values:   func(q Request, _ string) []string { return one(q.Path) },
	With:     func(q Request, _, v string) Request { q.Path = v; return q },
	Universe: pathUniverseFor,
	Likely:   []string{"/"},
	Fixes:    func(q Request, _ string) bool { return q.Path != "" },
	Place:    Object,
	Words: func(_ string, t Test) string {
		if !t.Not && slices.ContainsFunc(t.Any, takesEveryPath) {
			return ""
		}
		return texts(t, PathWords)
	},
}

// PathUniverse is every path that Envoy's normalisation can produce (package
// eval's Normalise; a test holds both together): segments that are not empty
// and neither . nor .., escapes only of what is not unreserved and not a slash,
// backslash or NUL; and "//".
const PathUniverse = `//|(?:/` + segment + `)+/?|/`

const (
	plainChar = `[!$&'()*+,\-0-9:;=@A-Z\[\]_a-z~]` // without the dot and %
	notParam  = `[!$&'()*+,\-0-9:=@A-Z\[\]_a-z~]`  // what may follow dots at the beginning: eval's Stable
	// escapes that stay: not %2D %2E %2F, digits, letters, _, ~, \ or NUL.
	escapeKept = `%(?:0[1-9A-Fa-f]|1[0-9A-Fa-f]|2[0-9A-Ca-c]|3[A-Fa-f]|40|5[BbDdEe]|60|7[BbCcDdFf]|[89A-Fa-f][0-9A-Fa-f])`
	// a percent sign without two digits stays as it is; after several of them there may be an escape.
	bareEscape = bare + `+(?:[!$&'()*+,\-.:;=@G-Z\[\]_g-z~]|` + escapeKept + `)`
	bare       = `(?:%[0-9A-Fa-f]?)`
	noDot      = `(?:` + plainChar + `|` + escapeKept + `|` + bareEscape + `)`
	afterDots  = `(?:` + notParam + `|` + escapeKept + `|` + bareEscape + `)`
	anyItem    = `(?:\.|` + noDot + `)`
	lastItem   = bare + `*`
	segment    = `(?:(?:` + noDot + `|\.` + afterDots + `|\.\.(?:\.|` + afterDots + `))` + anyItem + `*` + lastItem + `|\.{0,2}` + bare + `+)`
)

// plainPathUniverse is PathUniverse without escapes. It gives the same atoms if no
// pattern tells the percent sign from some other plain character: then any
// path with escapes has a twin in which that character stands for the sign. It
// has a tenth of the states.
const plainPathUniverse = `//|(?:/(?:` + plainChar + `|\.` + notParam + `|\.\.(?:\.|` + notParam + `))(?:\.|` + plainChar + `)*)+/?|/`

// pathUniverseFor chooses the smaller universe where that is safe.
func pathUniverseFor(patterns []Pattern) string {
	const twins = "~!$'*+=@" // plain characters, any of which may stand for a percent sign
	used := map[rune]bool{}
	for _, p := range patterns {
		if p.Kind == Regex || p.Kind == Spelt || p.Kind == Folded || p.Kind == Moved || strings.Contains(p.Text, "%") {
			return PathUniverse
		}
		for _, r := range p.Text {
			used[r] = true
		}
	}
	for _, r := range twins {
		if !used[r] {
			return plainPathUniverse
		}
	}
	return PathUniverse
}

func takesEveryPath(p Pattern) bool {
	return p.Text == "/" && (p.Kind == Segment || p.Kind == Prefix) || p.Text == "/*" && p.Kind == Spelt
}

// PathWords are those of a pattern of paths, as a grant writes it where it can.
func PathWords(p Pattern) string {
	switch p.Kind {
	case Segment:
		return "under " + p.Text
	case Prefix:
		return p.Text + "*"
	case Suffix:
		return "*" + p.Text
	case Exact, Template, Spelt:
		return p.Text
	case Folded:
		return PathWords(p.Unfolded()) + " in any case"
	case Moved:
		_, behind := p.Behind()
		return "rewritten to " + PathWords(behind)
	default:
		return string(p.Kind) + " " + p.Text
	}
}
