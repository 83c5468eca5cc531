package eval

import (
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// denyTests returns the conditions of d on port p of a service; false if it refuses
// nothing there.
func denyTests(trustDomain string, p model.Port, d model.Deny) ([]space.Test, bool) {
	if !d.At(p.Name) {
		return nil, false
	}
	if !p.Protocol.IsHTTP() {
		if d.Methods != nil || d.Paths != nil {
			return nil, false // a connection has neither
		}
		d.Not.Methods, d.Not.Paths = nil, nil
	}
	if p.MTLS == model.Disable { // nobody has an identity
		if !d.Anyone {
			return nil, false
		}
		d.Not.Mesh, d.Not.Namespaces, d.Not.Accounts = false, nil, nil
	}
	return broadly(trustDomain, d), true
}

// visitorRefusals are what the denies around a gateway's host do.
func visitorRefusals(trustDomain string, g *model.Gateway, h model.Host) []act {
	var out []act
	add := func(carrier string, ds []model.Deny) {
		for _, d := range ds {
			d.Anyone = true
			out = append(out, act{
				Act:     space.Act{At: space.AtDeny, When: broadly(trustDomain, d), Answer: &space.Reply{Status: space.RefusedByDeny().Status}},
				feature: space.ByDeny, origin: space.Origin(model.DenyPath(carrier, d.Name)),
			})
		}
	}
	add(model.GatewayPath(g.ID), g.Denies)
	add(model.GatewayHostPath(g.ID, h.Name), h.Denies)
	return out
}

// broadly are the conditions of a deny: what it refuses in every form in which an
// application may take it, without what it excepts in the one form that it is written in.
func broadly(trustDomain string, d model.Deny) []space.Test {
	d.Methods = d.Refused()
	return denial(trustDomain, d, spelt)
}

// Literally are the conditions of a deny read word by word, to find those that contradict
// themselves: what is left of them in other spellings nobody can mean.
func Literally(trustDomain string, d model.Deny) []space.Test {
	return denial(trustDomain, d, model.Path.Pattern)
}

func denial(trustDomain string, d model.Deny, path func(model.Path) space.Pattern) []space.Test {
	var when []space.Test
	if !d.Anyone {
		when = append(when, space.Test{Dim: space.IdentityDim, Any: identities(trustDomain, d.Terms)})
	}
	if d.Methods != nil {
		when = append(when, methodTest(d.Methods))
	}
	if d.Paths != nil {
		when = append(when, pathTest(d.Paths, path))
	}
	not := func(t space.Test) {
		if t.Not = true; len(t.Any) > 0 {
			when = append(when, t)
		}
	}
	not(space.Test{Dim: space.IdentityDim, Any: identities(trustDomain, d.Not)})
	not(methodTest(d.Not.Methods))
	not(pathTest(d.Not.Paths, model.Path.Pattern))
	return when
}

// spelt takes a path in every spelling.
func spelt(p model.Path) space.Pattern {
	return space.Pattern{Kind: space.Spelt, Text: p.Written()}
}
