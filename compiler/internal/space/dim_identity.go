package space

import (
	"regexp"
	"slices"
	"strings"
)

// IdentityDim is the caller: a SPIFFE ID
// ("spiffe://trust-domain/ns/namespace/sa/account"), "" if it has none.
const IdentityDim Dim = "identity"

const (
	label       = `[a-z0-9](?:[-a-z0-9]*[a-z0-9])?`
	trustDomain = `[a-z0-9][-._a-z0-9]*`
	// idSegment is a segment of a SPIFFE ID's path (SPIFFE-ID section 2.2): no dots alone.
	idSegment = `[-_.a-zA-Z0-9]*[-_a-zA-Z0-9][-_.a-zA-Z0-9]*`
)

var identity = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:   string(IdentityDim),
	Values: func(q Request, _ string) []string { return one(q.From) },
	With:   func(q Request, _, v string) Request { q.From = v; return q },
	Universe: func(patterns []Pattern) string {
		if slices.ContainsFunc(patterns, beyondAccounts) {
			return `(?:spiffe://` + trustDomain + `(?:/` + idSegment + `)+)?`
		}
		return `(?:spiffe://` + trustDomain + `/ns/` + label + `/sa/` + label + `)?`
	},
}

// beyondAccounts reports whether a pattern tells identities apart that are of no account.
func beyondAccounts(p Pattern) bool {
	if p.Kind != Exact || p.Text == "" {
		return p.Kind == Identified
	}
	of := strings.Split(strings.TrimPrefix(p.Text, "spiffe://"), "/")
	return len(of) != 5 || of[1] != "ns" || of[3] != "sa" || !isLabel(of[2]) || !isLabel(of[4])
}

func isLabel(s string) bool {
	return strings.Trim(s, "-") == s && s != "" && strings.Trim(s, "-abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// identifiedExpression is the regular expression of a pattern of that kind. "**" is as "*", and any text.
func identifiedExpression(text string) string {
	segments := strings.Split(strings.TrimPrefix(text, "spiffe://"), "/")
	for i, s := range segments {
		switch {
		case s == "**" && i == len(segments)-1:
			segments[i] = ".*"
		case s == "**":
			segments[i] = "[^/]*"
		case s != "*":
			segments[i] = regexp.QuoteMeta(s)
		case i == len(segments)-1:
			segments[i] = idSegment + "(?:/" + idSegment + ")*"
		default:
			segments[i] = idSegment
		}
	}
	return "spiffe://" + strings.Join(segments, "/")
}
