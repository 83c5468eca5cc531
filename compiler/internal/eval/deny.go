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
		if d.AsksRequests() {
			return nil, false // a connection has nothing of that
		}
		d.Not = d.Not.OfConnections()
	}
	if p.MTLS == model.Disable { // nobody has an identity
		if !d.Anyone {
			return nil, false
		}
		d.Not.Mesh, d.Not.Namespaces, d.Not.Patterns, d.Not.Accounts = false, nil, nil, nil
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
	return conditions(trustDomain, d.Terms.Broadly(), asSpelt(), d.Not, asWritten())
}

// strictly are the conditions of a grant: what it admits in the one form that it is written
// in, without what it excepts in every form in which an application may take it.
func strictly(trustDomain string, g model.Grant) []space.Test {
	return conditions(trustDomain, g.Terms, asWritten(), g.Not.Broadly(), asSpelt())
}

// Literally are the conditions of terms without others, both read word by word, to find those
// that contradict themselves: what is left of them in other spellings nobody can mean.
func Literally(trustDomain string, t, not model.Terms) []space.Test {
	return conditions(trustDomain, t, asWritten(), not, asWritten())
}

// spelling is how terms are read: as they are written, or as anything that passes for it.
type spelling struct {
	path   func(model.Path) space.Pattern
	header func(model.Value) space.Test
	query  func(model.Value) []space.Test
}

func asWritten() spelling {
	return spelling{model.Path.Pattern, func(v model.Value) space.Test {
		return space.Test{Dim: space.OnceDim(v.Name), Any: []space.Pattern{space.OncePattern(v.Kind, v.Text)}}
	}, func(v model.Value) []space.Test { return space.ParameterTests(v.Name, v.Kind, v.Text) }}
}

func asSpelt() spelling {
	return spelling{spelt, func(v model.Value) space.Test {
		return space.Test{Dim: space.HeaderDim(v.Name), Any: space.ElementPatterns(v.Kind, v.Text)}
	}, func(v model.Value) []space.Test { return []space.Test{space.ParameterSpelt(v.Name, v.Kind, v.Text)} }}
}

// conditions are the tests of terms that hold together, and of others of which none may.
func conditions(trustDomain string, t model.Terms, as spelling, not model.Terms, notAs spelling) []space.Test {
	var when []space.Test
	if !t.Anyone {
		when = append(when, space.Test{Dim: space.IdentityDim, Any: identities(trustDomain, t)})
	}
	if t.Methods != nil {
		when = append(when, methodTest(t.Methods))
	}
	if t.Paths != nil {
		when = append(when, pathTest(t.Paths, as.path))
	}
	for _, v := range t.Headers {
		when = append(when, as.header(v))
	}
	for _, v := range t.Query {
		when = append(when, as.query(v)...)
	}
	except := func(t space.Test) {
		if t.Not = true; len(t.Any) > 0 {
			when = append(when, t)
		}
	}
	except(space.Test{Dim: space.IdentityDim, Any: identities(trustDomain, not)})
	except(methodTest(not.Methods))
	except(pathTest(not.Paths, notAs.path))
	for _, v := range not.Headers {
		t := notAs.header(v)
		t.Not = true
		when = append(when, t)
	}
	for _, v := range not.Query { // of grants alone, which except what is like it
		t := space.ParameterSpelt(v.Name, v.Kind, v.Text)
		t.Not = true
		when = append(when, t)
	}
	return when
}

// spelt takes a path in every spelling.
func spelt(p model.Path) space.Pattern {
	return space.Pattern{Kind: space.Spelt, Text: p.Written()}
}
