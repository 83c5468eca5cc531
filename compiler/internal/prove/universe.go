package prove

import (
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// pathUniverse is every path that Envoy's normalisation can produce (package
// eval's Normalise; a test holds both together): segments that are not empty
// and neither . nor .., escapes only of what is not unreserved and not a slash,
// backslash or NUL; and "//".
const pathUniverse = `//|(?:/` + segment + `)+/?|/`

const (
	plainChar = `[!$&'()*+,\-0-9:;=@A-Z\[\]_a-z~]` // without the dot and %
	notParam  = `[!$&'()*+,\-0-9:=@A-Z\[\]_a-z~]`  // what may follow dots at the beginning: eval's Stable
	// escapes that stay: not %2D %2E %2F, digits, letters, _, ~, \ or NUL.
	escapeKept = `%(?:0[1-9A-Fa-f]|1[0-9A-Fa-f]|2[0-9A-Ca-c]|3[A-Fa-f]|40|5[BbDdEe]|60|7[BbCcDdFf]|[89A-Fa-f][0-9A-Fa-f])`
	// a percent sign without two digits stays as it is.
	bareEscape = `%[0-9A-Fa-f]?(?:[!$&'()*+,\-.:;=@G-Z\[\]_g-z~]|%[0-9A-Fa-f]?)`
	noDot      = `(?:` + plainChar + `|` + escapeKept + `|` + bareEscape + `)`
	afterDots  = `(?:` + notParam + `|` + escapeKept + `|` + bareEscape + `)`
	anyItem    = `(?:\.|` + noDot + `)`
	lastItem   = `(?:%[0-9A-Fa-f]?)?`
	segment    = `(?:(?:` + noDot + `|\.` + afterDots + `|\.\.(?:\.|` + afterDots + `))` + anyItem + `*` + lastItem + `|\.{0,2}%[0-9A-Fa-f]?)`
)

// plainPathUniverse is pathUniverse without escapes. It gives the same atoms if no
// pattern tells the percent sign from some other plain character: then any
// path with escapes has a twin in which that character stands for the sign. It
// has a tenth of the states.
const plainPathUniverse = `//|(?:/(?:` + plainChar + `|\.` + notParam + `|\.\.(?:\.|` + notParam + `))(?:\.|` + plainChar + `)*)+/?|/`

// pathUniverseFor chooses the smaller universe where that is safe.
func pathUniverseFor(patterns []space.Pattern) string {
	const twins = "~!$'*+=@" // plain characters, any of which may stand for a percent sign
	used := map[rune]bool{}
	for _, p := range patterns {
		if p.Kind == space.Regex || p.Kind == space.Spelt || p.Kind == space.Moved || strings.Contains(p.Text, "%") {
			return pathUniverse
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
	return pathUniverse
}

// A method is a token; over HTTP/2 any token reaches the routes.
const methodUniverse = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"

// hostUniverse is what a host may look like once port and final dot are gone.
const hostUniverse = `[-_.:\[\]0-9a-z]+`

// schemeUniverse is how requests come to a gateway.
const schemeUniverse = `https?`

// headerUniverse is a header line: no control characters but the tab, no blanks
// at the ends.
const headerUniverse = `(?:[!-~\x{80}-\x{10FFFF}](?:[\t -~\x{80}-\x{10FFFF}]*[!-~\x{80}-\x{10FFFF}])?)?`

// queryUniverse is a parameter as space.QueryDim has it: absent, or with a value.
const queryUniverse = `(?:&[!-"$%'-~\x{80}-\x{10FFFF}]*&)?`

// universe is the language of the values that a dimension can have.
func universe(d space.Dim, patterns []space.Pattern) string {
	switch d {
	case space.PathDim:
		return pathUniverseFor(patterns)
	case space.MethodDim:
		return methodUniverse
	case space.HostDim:
		return hostUniverse
	case space.SchemeDim:
		return schemeUniverse
	case space.IdentityDim:
		const name = `[a-z0-9](?:[-a-z0-9]*[a-z0-9])?`
		const domain = `[a-z0-9][-._a-z0-9]*`
		return `(?:spiffe://` + domain + `/ns/` + name + `/sa/` + name + `)?`
	}
	if _, ok := d.Query(); ok {
		return queryUniverse
	}
	return headerUniverse
}
