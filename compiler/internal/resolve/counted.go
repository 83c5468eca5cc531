package resolve

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

// CountedBy reads by what requests are counted. What those who ask do not have, and what proxies
// write themselves, tells nobody from another.
func (x *Place) CountedBy(n intent.Node) trait.CountedBy {
	if !n.Exists() {
		return trait.CountedBy{}
	}
	b := trait.CountedBy{Identity: n.Field("identity").Bool(), Client: n.Field("client").Bool(), Method: n.Field("method").Bool(), Path: n.Field("path").Bool()}
	if h := n.Field("headers"); h.Exists() {
		b.Headers = x.countedHeaders(h)
	}
	if c := n.Field("claims"); c.Exists() {
		b.Claims = x.countedClaims(c)
	}
	switch {
	case b.IsZero():
		if n.Has("headers") || n.Has("claims") {
			break // which is told
		}
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "`by` says nothing").WithFix("write identity, client, method, path, headers or claims, or delete `by`: all requests then count together"))
	case b.Identity && x.Gateway:
		x.Problem(diag.New(diag.CodeNever, n.Field("identity").Pos(), "visitors of a gateway have no identity").WithFix("count by client, or by `headers` that say who they are"))
	case b.Client && !x.Gateway:
		x.Problem(diag.New(diag.CodeNever, n.Field("client").Pos(), "a service's callers are known by their identities, not by addresses").WithFix("count by identity here, and by client at the gateway"))
	}
	return b
}

// countedClaims reads the claims by which requests are counted, sorted, each once.
func (x *Place) countedClaims(n intent.Node) []trait.CountedClaim {
	var out []trait.CountedClaim
	for _, e := range n.Fields() {
		p, ok := x.Provider(e.Name, e.Node)
		for _, name := range x.l.nonEmpty(e.Node, strconv.Quote(e.Name)) {
			if ok {
				out = append(out, trait.CountedClaim{Provider: p.ID, Name: name})
			}
		}
	}
	if len(n.Fields()) == 0 {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "no claim tells no requests apart").WithFix(`write claims: <provider>: ["sub"], or delete it`))
	}
	slices.SortFunc(out, func(a, b trait.CountedClaim) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(out)
}

// checkCounting refuses a value at path that counts by claims of a provider at whose tokens its carrier has not
// looked by then: to it everybody would be nobody.
func (l *linker) checkCounting(s trait.Set, path, where string) {
	for _, name := range s.Names() {
		v, _ := s.Lookup(name)
		by, ok := v.(trait.Counting)
		if !ok {
			continue
		}
		for _, c := range by.Claims() {
			if _, known := s.SignedIn(c.Provider); !known {
				l.add(diag.New(diag.CodeUnknownUser, l.lineOf(path+"/"+name), "requests are counted by what provider %q says of users, but nothing has looked at a token by then: to it everybody is nobody", c.Provider).
					WithFix("write users: %q: {} on %s", c.Provider, where))
			}
		}
	}
}

// countedHeaders reads the headers by whose values requests are counted, in lower case, sorted, each once.
func (x *Place) countedHeaders(n intent.Node) []string {
	var out []string
	for _, e := range n.List() {
		h := strings.ToLower(e.Str())
		if hop.Reserved(h) || hop.OfConnection(h) {
			x.Problem(diag.New(diag.CodeNever, e.Pos(), "header %s belongs to the proxies, which write it anew", h).WithFix("count by a header of your own"))
		}
		out = append(out, h)
	}
	if len(out) == 0 {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "an empty list tells no requests apart").WithFix("name headers, or delete `headers`"))
	}
	slices.Sort(out)
	return slices.Compact(out)
}
