package eval

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// Outside is what is decided for calls of one port of an external, all of it at their callers'
// proxies: who calls it may, nobody else has a way there. It is no part of Scopes: what changes
// there is told of the external.
func Outside(m *model.Mesh, x *model.External, p model.Port, c Column) space.Decision {
	d := space.Decision{Scope: space.Scope{Kind: space.External, ID: x.ID, Port: p.Name, Protocol: string(p.Protocol)}, Access: egress(m, x, p)}
	callers := space.Test{Dim: space.IdentityDim}
	for _, r := range d.Access[:len(d.Access)-1] {
		callers.Any = append(callers.Any, r.When[0].Any...)
	}
	if len(callers.Any) == 0 {
		d.Routes, d.Effective = space.List{notFound(model.ExternalPath(x.ID))}, d.Access
		return d
	}
	there, own := space.Share{Target: model.ExternalClusterName(x.ID, p.Name), Weight: 1}, c.acts(x.TraitsAt(p))
	forward := func(match space.Rule, acts []act, sent bool) {
		if match.Then.Verdict = space.Forward; sent {
			match.Then.Shares = []space.Share{there}
		}
		d.Routes = append(d.Routes, start(match).whole(acts))
		match.When = append([]space.Test{callers}, match.When...)
		d.Effective = append(d.Effective, start(match).through(acts, func(w way) space.List { return space.List{w.rule()} })...)
	}
	if !p.Protocol.IsHTTP() {
		forward(space.Rule{From: []space.Origin{space.Origin(model.ExternalPath(x.ID))}}, own, true)
	}
	for _, r := range x.Routes {
		if p.Protocol.IsHTTP() {
			rule := space.Rule{When: r.Match.Tests(), From: []space.Origin{space.Origin(model.ExternalRoutePath(x.ID, r.Name))}, Image: r.Traits.Image()}
			forward(rule, slices.Concat(c.acts(r.Traits), own), len(r.To) > 0)
		}
	}
	last := notFound(model.ExternalPath(x.ID))
	d.Routes = append(d.Routes, last)
	last.When = []space.Test{callers}
	d.Effective = append(d.Effective, last, d.Access[len(d.Access)-1])
	return d
}

// egress is who may call a port of an external: a rule for each account that says so, with the
// call and the grant of another package by which it may, then the rest.
func egress(m *model.Mesh, x *model.External, p model.Port) space.List {
	var l space.List
	for _, s := range m.Services {
		if !slices.ContainsFunc(s.Calls, func(k model.Call) bool { return k.To == x.ID && k.Port == p.Name }) {
			continue
		}
		for _, v := range s.Versions {
			from := []space.Origin{space.Origin(model.CallPath(s.ID, x.ID))}
			if g, ok := x.GrantTo(s.Class(v)); ok {
				from = append(from, space.Origin(model.ExternalGrantPath(x.ID, g.Name)))
			}
			id := space.Pattern{Kind: space.Exact, Text: s.Class(v).SPIFFEID(m.TrustDomain)}
			l = append(l, space.Rule{When: []space.Test{{Dim: space.IdentityDim, Any: []space.Pattern{id}}}, Then: space.Outcome{Verdict: space.Forward}, From: from})
		}
	}
	return append(l, space.Rule{Then: space.Outcome{Verdict: space.Denied}, From: []space.Origin{space.Origin(model.ExternalPath(x.ID))}})
}

// Call answers a call of an external: whether its caller has a way there, then what Decide says.
func Call(d space.Decision, q space.Request) space.Answer {
	access, _ := First(d.Access, q)
	if access.Then.Verdict != space.Forward {
		return space.Answer{Outcome: access.Then, From: access.From, Why: "no service with this account calls it, and what is not called is closed"}
	}
	a := Decide(d, q)
	a.From = slices.Concat(access.From, a.From)
	return a
}
