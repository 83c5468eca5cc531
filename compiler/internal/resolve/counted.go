package resolve

import (
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
	b := trait.CountedBy{Identity: n.Field("identity").Bool(), Client: n.Field("client").Bool(), Method: n.Field("method").Bool(), Header: strings.ToLower(n.Field("header").Str())}
	switch {
	case b == trait.CountedBy{}:
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "`by` says nothing").WithFix("write identity, client, method or header, or delete `by`: all requests then count together"))
	case b.Identity && x.Gateway:
		x.Problem(diag.New(diag.CodeNever, n.Field("identity").Pos(), "visitors of a gateway have no identity").WithFix("count by client, or by a header that says who they are"))
	case b.Client && !x.Gateway:
		x.Problem(diag.New(diag.CodeNever, n.Field("client").Pos(), "a service's callers are known by their identities, not by addresses").WithFix("count by identity here, and by client at the gateway"))
	case b.Header != "" && (hop.Reserved(b.Header) || hop.OfConnection(b.Header)):
		x.Problem(diag.New(diag.CodeNever, n.Field("header").Pos(), "header %s belongs to the proxies, which write it anew", b.Header).WithFix("count by a header of your own"))
	}
	return b
}
