package eval

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// identityPrefix is what every identity of the trust domain starts with.
func identityPrefix(trustDomain string) string { return "spiffe://" + trustDomain + "/" }

// Access is who may do what to a port: first what mTLS refuses, then what denies
// do, then the grants, then the denial of the rest.
//
//   - strict: only identities of the trust domain, and of those of others that grants name, get as far as the
//     grants, but for what is asked by probes and scrapes.
//   - permissive: these, and callers without any identity.
//   - disable: nobody has an identity, so only grants to such callers can apply;
//     the others are left out, because they can never match.
func Access(m *model.Mesh, s *model.Service, p model.Port) space.List {
	var l space.List
	self := []space.Origin{space.Origin(model.ServicePath(s.ID))}
	if p.MTLS != model.Disable {
		known := []space.Pattern{{Kind: space.Prefix, Text: identityPrefix(m.TrustDomain)}}
		for _, domain := range s.Foreign(p) {
			known = append(known, space.Pattern{Kind: space.Prefix, Text: identityPrefix(domain)})
		}
		stranger := space.Pattern{Kind: space.Exact, Text: ""}
		asked := s.Asked(p)
		if p.MTLS == model.Permissive || len(asked) > 0 {
			known = append(known, stranger)
		}
		refuse := func(when ...space.Test) {
			l = append(l, space.Rule{When: when, Then: space.Refused(), From: self})
		}
		refuse(space.Test{Dim: space.IdentityDim, Any: known, Not: true})
		l[0].Handshake = true
		if len(asked) > 0 {
			paths := space.Test{Dim: space.PathDim, Not: true}
			for _, g := range asked {
				paths.Any = append(paths.Any, pathTest(g.Paths, model.Path.Pattern).Any...)
			}
			methods := methodTest(asked[0].Methods) // all have the same
			methods.Not = true
			who := space.Test{Dim: space.IdentityDim, Any: []space.Pattern{stranger}}
			refuse(who, paths)
			refuse(who, methods)
		}
	}
	of := knows(s.TraitsAt(p.Name).SignedIn)
	for _, deny := range s.Denies {
		for _, when := range denyTests(m.TrustDomain, p, deny, of) {
			l = append(l, space.Rule{When: when, Then: space.RefusedByDeny(), From: []space.Origin{space.Origin(model.DenyPath(model.ServicePath(s.ID), deny.Name))}})
		}
	}
	for _, g := range s.Grants {
		sets, _ := grantTests(m.TrustDomain, p, g, of)
		for _, when := range sets {
			l = append(l, space.Rule{
				When: when,
				Then: space.Outcome{Verdict: space.Forward},
				From: []space.Origin{space.Origin(model.GrantPath(s.ID, g.Name))},
			})
		}
	}
	return append(l, space.Rule{Then: space.Refused(), From: self})
}

// handshakes is how many rules of a port's access list the handshake decides, before the
// proxy sees a request.
func handshakes(p model.Port) int {
	if p.MTLS == model.Disable {
		return 0
	}
	return 1
}

// grantTests returns the conditions of g on port p, of which one set has to hold; false if it
// can match nothing there.
func grantTests(trustDomain string, p model.Port, g model.Grant, of knows) ([][]space.Test, bool) {
	if g.Ports != nil && !contains(g.Ports, p.Name) {
		return nil, false
	}
	if !p.Protocol.IsHTTP() {
		if g.AsksRequests() {
			return nil, false // a connection has nothing of that
		}
		g.Not = g.Not.OfConnections()
	}
	var ok bool
	if g.Terms, g.Not, ok = p.Seen(g.Terms, g.Not); !ok || !g.Anyone && len(identities(trustDomain, g.Terms, model.Identified)) == 0 {
		return nil, false
	}
	if g.Methods != nil && len(g.Methods) == 0 || g.Paths != nil && len(g.Paths) == 0 {
		return nil, false // an empty list matches nobody
	}
	return strictly(trustDomain, g, of), true
}

func pathTest(paths []model.Path, pattern func(model.Path) space.Pattern) space.Test {
	t := space.Test{Dim: space.PathDim}
	for _, p := range paths {
		t.Any = append(t.Any, pattern(p))
	}
	return t
}

// identities is the union of the who-fields, without Anyone; identified reads Identities.
func identities(trustDomain string, g model.Terms, identified func(trustDomain, path string) space.Pattern) []space.Pattern {
	var who []space.Pattern
	if g.Mesh {
		who = append(who, space.Pattern{Kind: space.Prefix, Text: identityPrefix(trustDomain)})
	}
	for _, ns := range g.Namespaces {
		who = append(who, space.Pattern{Kind: space.Prefix, Text: identityPrefix(trustDomain) + "ns/" + ns + "/sa/"})
	}
	for _, p := range g.Patterns {
		who = append(who, space.Pattern{Kind: space.Wild, Text: Identity(trustDomain, p)})
	}
	for _, a := range g.Accounts {
		who = append(who, space.Pattern{Kind: space.Exact, Text: Identity(trustDomain, a)})
	}
	for _, path := range g.Identities {
		who = append(who, identified(trustDomain, path))
	}
	if g.Plaintext {
		who = append(who, space.Pattern{Kind: space.Exact, Text: ""})
	}
	return who
}

// Identity is the SPIFFE ID of an account "namespace/account".
func Identity(trustDomain, account string) string {
	for i := range len(account) {
		if account[i] == '/' {
			return identityPrefix(trustDomain) + "ns/" + account[:i] + "/sa/" + account[i+1:]
		}
	}
	return identityPrefix(trustDomain) + "ns//sa/" + account
}

// routeRule is which requests to a service a rule of its routes takes, and where they go.
func routeRule(trustDomain string, s *model.Service, e model.EffectiveRoute) space.Rule {
	path := model.RoutePath(s.ID, e.Outer.Name)
	if e.Outer.Name == "" { // connections for which intent has no route
		path = model.ServicePath(s.ID)
	}
	return effectiveRule(path, e, matchTests(trustDomain, e.Match))
}

// effectiveRule is which requests a rule takes whose first route has that path, and where they go.
func effectiveRule(path string, e model.EffectiveRoute, when []space.Test) space.Rule {
	r := space.Rule{When: when, Then: space.Outcome{Verdict: space.Forward}, From: []space.Origin{space.Origin(path)}}
	for _, inner := range e.InnerPaths() {
		r.From = append(r.From, space.Origin(inner))
	}
	if e.NotFound {
		r.Then = space.NotRouted()
		return r
	}
	for _, t := range e.To {
		r.Then.Shares = append(r.Then.Shares, space.Share{Target: targetName(t), Weight: int(t.Weight)})
	}
	return r
}

// matchTests are a match's tests, of callers by their identities.
func matchTests(trustDomain string, x model.Match) []space.Test {
	out := x.Tests()
	if x.AsksCaller() {
		out = slices.Clone(out)
		for i := range out {
			out[i] = out[i].OfTrustDomain(trustDomain)
		}
	}
	return out
}

func notFound(origin string) space.Rule {
	return space.Rule{Then: space.NotRouted(), From: []space.Origin{space.Origin(origin)}}
}

func methodTest(values []string) space.Test {
	t := space.Test{Dim: space.MethodDim}
	for _, v := range values {
		t.Any = append(t.Any, space.Pattern{Kind: space.Exact, Text: v})
	}
	return t
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
