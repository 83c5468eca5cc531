package space

import (
	"regexp"
	"strings"
)

// EveryPage is the entry of a list of origins that means all of them.
const EveryPage = "*"

// Pages takes the origins that an entry of a list of origins means: one, or the names below a
// suffix, of any number of labels.
func Pages(entry string) Pattern {
	if entry == EveryPage {
		return Pattern{Kind: Line, Text: ".*"}
	}
	scheme, host, wild := strings.Cut(entry, "://*.")
	if !wild {
		return Pattern{Kind: Exact, Text: entry}
	}
	return Pattern{Kind: Regex, Text: regexp.QuoteMeta(scheme+"://") + `(?:[a-z0-9_-]+\.)+` + regexp.QuoteMeta(host)}
}
