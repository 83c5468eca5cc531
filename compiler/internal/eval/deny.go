package eval

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

// denyTests returns conditions of which d refuses what meets one of them at port p of a service; none if it
// refuses nothing there.
func denyTests(trustDomain string, p model.Port, d model.Deny, of knows) [][]space.Test {
	if !d.At(p.Name) {
		return nil
	}
	if !p.Protocol.IsHTTP() {
		if d.AsksRequests() {
			return nil // a connection has nothing of that
		}
		d.Not = d.Not.OfConnections()
	}
	var ok bool
	if d.Terms, d.Not, ok = p.Seen(d.Terms, d.Not); !ok {
		return nil
	}
	return broadly(trustDomain, d, of)
}

// visitorRefusals are what the denies around a gateway's host do on a route that knows users so.
func visitorRefusals(trustDomain string, g *model.Gateway, h model.Host, of knows) []act {
	var out []act
	add := func(carrier string, ds []model.Deny) {
		for _, d := range ds {
			d.Anyone = true
			for _, when := range broadly(trustDomain, d, of) {
				out = append(out, act{
					Act:     space.Act{At: space.AtDeny, When: when, Answer: &space.Reply{Status: space.RefusedByDeny().Status}},
					feature: space.ByDeny, origin: space.Origin(model.DenyPath(carrier, d.Name)),
				})
			}
		}
	}
	add(model.GatewayPath(g.ID), g.Denies)
	add(model.GatewayHostPath(g.ID, h.Name), h.Denies)
	return out
}

// VisitorDenies are the denies around a gateway's host as rules, in the order in which they are asked, on a route with
// those traits.
func VisitorDenies(m *model.Mesh, g *model.Gateway, h model.Host, of trait.Set) space.List {
	var out space.List
	for _, a := range visitorRefusals(m.TrustDomain, g, h, of.SignedIn) {
		out = append(out, space.Rule{When: a.When, Then: space.RefusedByDeny(), From: []space.Origin{a.origin}})
	}
	return out
}

// broadly are the conditions of a deny, of which one has to hold: what it refuses in every form in which an
// application may take it, without what it excepts in the one form that it is written in. A parameter is not in
// that form if it is not there so, or if it is there more than once.
func broadly(trustDomain string, d model.Deny, of knows) [][]space.Test {
	out := of.but(conditions(trustDomain, d.Terms.Broadly(), asSpelt(), d.Not, asWritten(), of), d.Not.Users)
	for _, v := range d.Not.Query {
		var each [][]space.Test
		for _, t := range space.ParameterTests(v.Name, v.Kind, v.Text) {
			t.Not = !t.Not
			for _, when := range out {
				each = append(each, append(slices.Clip(when), t))
			}
		}
		out = each
	}
	return out
}

// strictly are the conditions of a grant: what it admits in the one form that it is written
// in, without what it excepts in every form in which an application may take it.
func strictly(trustDomain string, g model.Grant, of knows) [][]space.Test {
	out := conditions(trustDomain, g.Terms, asWritten(), g.Not.Broadly(), asSpelt(), of)
	for _, v := range g.Not.Query {
		t := space.ParameterSpelt(v.Name, v.Kind, v.Text)
		t.Not = true
		out = append(out, t)
	}
	return of.but(out, g.Not.Users)
}

// Literally are the conditions of terms without others, both read word by word, to find those
// that contradict themselves: what is left of them in other spellings nobody can mean.
func Literally(trustDomain string, t, not model.Terms) [][]space.Test {
	out := conditions(trustDomain, t, asWritten(), not, asWritten(), anywhere)
	for _, v := range not.Query {
		t := space.ParameterTests(v.Name, v.Kind, v.Text)[0]
		t.Not = true
		out = append(out, t)
	}
	return knows(anywhere).but(out, not.Users)
}

// spelling is how terms are read: as they are written, or as anything that passes for it.
type spelling struct {
	path   func(model.Path) space.Pattern
	host   space.Kind
	header func(model.Value) space.Test
	query  func(model.Value) []space.Test
	// identity makes a pattern of the path of a SPIFFE ID.
	identity func(trustDomain, path string) space.Pattern
}

func asWritten() spelling {
	return spelling{model.Path.Pattern, space.Named, func(v model.Value) space.Test {
		return space.Test{Dim: space.OnceDim(v.Name), Any: []space.Pattern{space.OncePattern(v.Kind, v.Text)}}
	}, func(v model.Value) []space.Test { return space.ParameterTests(v.Name, v.Kind, v.Text) }, model.Identified}
}

func asSpelt() spelling {
	return spelling{spelt, space.Called, func(v model.Value) space.Test {
		return space.Test{Dim: space.HeaderDim(v.Name), Any: space.ElementPatterns(v.Kind, v.Text)}
	}, func(v model.Value) []space.Test { return []space.Test{space.ParameterSpelt(v.Name, v.Kind, v.Text)} }, model.IdentifiedBroadly}
}

// conditions are the tests of terms that hold together, and of others of which none may, but for what those say of
// the query and of users.
func conditions(trustDomain string, t model.Terms, as spelling, not model.Terms, notAs spelling, of knows) []space.Test {
	var when []space.Test
	if !t.Anyone {
		when = append(when, space.Test{Dim: space.IdentityDim, Any: identities(trustDomain, t, as.identity)})
	}
	if t.Methods != nil {
		when = append(when, methodTest(t.Methods))
	}
	if t.Paths != nil {
		when = append(when, pathTest(t.Paths, as.path))
	}
	if t.Hosts != nil {
		when = append(when, space.HostTest(t.Hosts, as.host))
	}
	for _, v := range t.Headers {
		when = append(when, as.header(v))
	}
	for _, v := range t.Query {
		when = append(when, as.query(v)...)
	}
	for _, u := range t.Users {
		when = slices.Concat(when, of.signedIn(u.Provider), u.Tests())
	}
	if t.Sources != nil {
		when = append(when, space.AddressTest(space.SourceDim, t.Sources))
	}
	if t.Clients != nil {
		when = append(when, space.AddressTest(space.ClientDim, t.Clients))
	}
	except := func(t space.Test) {
		if t.Not = true; len(t.Any) > 0 {
			when = append(when, t)
		}
	}
	except(space.Test{Dim: space.IdentityDim, Any: identities(trustDomain, not, notAs.identity)})
	except(methodTest(not.Methods))
	except(pathTest(not.Paths, notAs.path))
	except(space.HostTest(not.Hosts, notAs.host))
	except(space.AddressTest(space.SourceDim, not.Sources))
	except(space.AddressTest(space.ClientDim, not.Clients))
	for _, v := range not.Headers {
		t := notAs.header(v)
		t.Not = true
		when = append(when, t)
	}
	return when
}

// spelt takes a path in every spelling.
func spelt(p model.Path) space.Pattern {
	return space.Pattern{Kind: space.Spelt, Text: p.Written()}
}
