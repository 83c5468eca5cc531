package stream

import (
	"regexp"
	"strings"
	"unicode"
)

// maxWhy is the longest reason kept, in bytes.
const maxWhy = 400

// dump is where Envoy begins to print the whole resource: after the reason of a
// failed constraint ("...): name: \"x\" ...").
var dump = regexp.MustCompile(`\): \w+(: |\s*\{)`)

// secretLike is text that could be key material: long and without a break.
var secretLike = regexp.MustCompile(`[A-Za-z0-9+/=_-]{40,}`)

// quoted is a quoted string.
var quoted = regexp.MustCompile(`"[^"]*"`)

// redact shortens a proxy's reason to what may be logged and shown. A proxy
// quotes whole resources, with every header value and inline string that they
// hold; only names of resources that were sent to it are kept in quotes.
func redact(why string, names []string) string {
	if i := dump.FindStringIndex(why); i != nil {
		why = why[:i[0]+1]
	}
	why, _, _ = strings.Cut(why, "\n")
	known := make(map[string]bool, len(names))
	for _, n := range names {
		known[n] = true
	}
	why = quoted.ReplaceAllStringFunc(why, func(q string) string {
		if known[strings.Trim(q, `"`)] {
			return q
		}
		return `"…"`
	})
	why = secretLike.ReplaceAllStringFunc(why, func(s string) string {
		if known[s] {
			return s
		}
		return "…"
	})
	why = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, why)
	if len(why) > maxWhy {
		why = strings.ToValidUTF8(why[:maxWhy], "") + "…"
	}
	return why
}

// label makes a node id fit to be shown: printable and short.
func label(id string) string {
	const most = 253
	id = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, id)
	return strings.ToValidUTF8(id[:min(len(id), most)], "")
}
