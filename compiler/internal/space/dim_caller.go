package space

import "strings"

// CallerDim is the account of whoever calls, "namespace/account" without a trust domain, "" for
// nobody: what a route asks of its callers. It says of requests what IdentityDim says; lists of
// rules have that in its place.
const CallerDim Dim = "caller"

var caller = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:      string(CallerDim),
	Door:      true,
	Values:    func(q Request, _ string) []string { return one(accountOf(q.From)) },
	With:      func(q Request, _, v string) Request { return q },
	Universe:  fixed(`(?:` + label + `/` + label + `)?`),
	Word:      "from",
	Patterned: true,
}

// accountOf is the account in a SPIFFE ID as meshc writes them, "" if there is none.
func accountOf(id string) string {
	_, rest, _ := strings.Cut(strings.TrimPrefix(id, "spiffe://"), "/ns/")
	namespace, name, ok := strings.Cut(rest, "/sa/")
	if !ok {
		return ""
	}
	return namespace + "/" + name
}

// OfTrustDomain is a test of callers as one of identities; another test stays as it is.
func (t Test) OfTrustDomain(domain string) Test {
	if t.Dim != CallerDim {
		return t
	}
	out := Test{Dim: IdentityDim, Not: t.Not}
	for _, p := range t.Any {
		namespace, name, _ := strings.Cut(p.Text, "/") // of a namespace the name is empty
		out.Any = append(out.Any, Pattern{Kind: p.Kind, Text: "spiffe://" + domain + "/ns/" + namespace + "/sa/" + name})
	}
	return out
}
