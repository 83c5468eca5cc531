package resolve

import (
	"slices"
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
	switch {
	case b.IsZero():
		if n.Has("headers") {
			break // which is told
		}
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "`by` says nothing").WithFix("write identity, client, method, path or headers, or delete `by`: all requests then count together"))
	case b.Identity && x.Gateway:
		x.Problem(diag.New(diag.CodeNever, n.Field("identity").Pos(), "visitors of a gateway have no identity").WithFix("count by client, or by `headers` that say who they are"))
	case b.Client && !x.Gateway:
		x.Problem(diag.New(diag.CodeNever, n.Field("client").Pos(), "a service's callers are known by their identities, not by addresses").WithFix("count by identity here, and by client at the gateway"))
	}
	return b
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
