package eval

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// outside names the feature whose fields say how an external is reached.
const outside = "external"

// ProxyBefore begins the value of that field where it is an HTTP proxy that is not of the mesh.
const ProxyBefore = "proxy "

// Through is what stands before an external, as a field: a gateway, or a proxy that is not of the mesh; nothing
// if there is none.
func Through(x *model.External) []space.Field {
	switch {
	case x.Via != nil:
		return []space.Field{{Feature: outside, Name: "via", Value: model.GatewayPath(x.Via.Gateway)}}
	case x.Proxy != "":
		return []space.Field{{Feature: outside, Name: "via", Value: ProxyBefore + x.Proxy}}
	}
	return nil
}

// Outside is what is decided for calls of one port of an external, all of it at their callers'
// proxies, but that a gateway through which it is called asks once more who calls: who calls it may, nobody else has a way there. It is no part of Scopes: what changes
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
	if way := Through(x); len(way) > 0 {
		own = append(own, act{Act: space.Labels(space.AtWorkload, way...)[0], feature: outside})
	}
	end := func(w way) space.List { return space.List{w.rule()} }
	forward := func(match space.Rule, acts []act) {
		d.Routes = append(d.Routes, start(match).whole(acts))
		match.When = append([]space.Test{callers}, match.When...)
		d.Effective = append(d.Effective, start(match).through(acts, end)...)
	}
	if !p.Protocol.IsHTTP() {
		forward(space.Rule{Then: space.Outcome{Verdict: space.Forward, Shares: []space.Share{there}}, From: []space.Origin{space.Origin(model.ExternalPath(x.ID))}}, own)
	}
	for _, r := range x.RoutesAt(p.Name) {
		if !p.Protocol.IsHTTP() {
			break
		}
		rule := space.Rule{When: matchTests(m.TrustDomain, r.Match), Then: space.Outcome{Verdict: space.Forward}, From: []space.Origin{space.Origin(model.ExternalRoutePath(x.ID, r.Name))}, Image: r.Traits.Image()}
		if len(r.To) > 0 {
			rule.Then.Shares = []space.Share{there}
		}
		for _, of := range callersOf(m, x.ID, p, r.To) {
			d.Effective = append(d.Effective, start(rule).of(m, of).through(slices.Concat(c.acts(model.Tightens(of.Traits, r.To, r.Traits)), own), end)...)
		}
		forward(rule, slices.Concat(c.acts(r.Traits), own))
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
			for _, class := range s.Classes(v) {
				from := []space.Origin{space.Origin(s.CallPath(model.Call{To: x.ID, Port: p.Name}))}
				if g, ok := x.GrantTo(class); ok {
					from = append(from, space.Origin(model.ExternalGrantPath(x.ID, g.Name)))
				}
				id := space.Pattern{Kind: space.Exact, Text: class.SPIFFEID(m.TrustDomain)}
				l = append(l, space.Rule{When: []space.Test{{Dim: space.IdentityDim, Any: []space.Pattern{id}}}, Then: space.Outcome{Verdict: space.Forward}, From: from})
			}
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
	met := slices.DeleteFunc(slices.Clone(a.From), func(o space.Origin) bool { return slices.Contains(access.From, o) })
	a.From = slices.Concat(access.From, met) // a call that says something is in both
	return a
}
