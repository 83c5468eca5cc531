package eval

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// Requests are what a never speaks of at one port.
type Requests struct {
	// Who are those that they are from, What is what they ask as they arrive, in every spelling; Plainly is
	// the same in the one that people have in mind.
	Who, What, Plainly []space.Test
}

// Forbidden are the requests to a port of what a never speaks of; ok is false if it says nothing of the port.
func Forbidden(trustDomain string, p model.Port, n model.Never) (r Requests, ok bool) {
	if !n.At(p.Name) || !n.Anyone && len(identities(trustDomain, n.Terms, model.Identified)) == 0 {
		return Requests{}, false
	}
	d := n.Deny
	if !p.Protocol.IsHTTP() {
		if d.AsksRequests() {
			return Requests{}, false // a connection has nothing of that
		}
		d.Not = d.Not.OfConnections()
	}
	isWho := func(t space.Test) bool { return t.Dim == space.IdentityDim }
	all := broadly(trustDomain, d, anywhere)[0] // its not says nothing of the query and of users
	return Requests{
		Who:     slices.DeleteFunc(slices.Clone(all), func(t space.Test) bool { return !isWho(t) }),
		What:    slices.DeleteFunc(all, isWho),
		Plainly: slices.DeleteFunc(Literally(trustDomain, d.Terms, d.Not)[0], isWho),
	}, true
}

// GatewayScope follows the requests to one host of a gateway.
func GatewayScope(m *model.Mesh, g *model.Gateway, h model.Host, c Column) space.Decision {
	return gatewayDecision(m, g, h, c)
}
