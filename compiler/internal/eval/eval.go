// Package eval is the reference meaning of a mesh: which requests go where, and
// what happens to them on the way.
//
// In: a model.Mesh and a Column, which turns each feature's settled value into
// acts at the stations of a request's way (data, run once per value). Out: one space.Decision per service port
// and per gateway host (Scopes), and the answer for one request (Decide).
//
// Invariants: Scopes is the only maker of rule lists; the last rule of every
// Effective list matches all; nothing here is clever (plain strings and
// regexp), because prove is tested against it and Envoy is compared with it.
package eval

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/canon"
)

// Effect says what a feature's value does to the requests of a rule, as data.
// It runs once per value; what it returns holds no function.
type Effect func(v trait.Value) []space.Act

// Column maps a trait's name to its effect. A trait without an effect becomes
// one opaque field with the digest of its value: it is compared, never ignored.
type Column map[string]Effect

// OpaqueField is the field name of an effect that is known by digest only.
const OpaqueField = "opaque"

// act is what one feature does at a station.
type act struct {
	space.Act
	feature string
	origin  space.Origin // "" for what acts in its carrier's name
}

// acts are what all traits in s do, in the order in which a request meets it.
func (c Column) acts(s trait.Set) []act {
	var out []act
	for _, name := range s.Names() {
		v, _ := s.Lookup(name)
		effect := c[name]
		if effect == nil {
			effect = func(v trait.Value) []space.Act { return space.Labels(space.AtWorkload, opaque(name, v)) }
		}
		for _, a := range effect(v) {
			out = append(out, act{Act: a, feature: name})
		}
	}
	if slices.ContainsFunc(out, func(a act) bool { return a.ends() && len(a.When) == 0 }) {
		out = slices.DeleteFunc(out, func(a act) bool { return a.Passing })
	}
	return inOrder(out)
}

// inOrder sorts acts by their stations.
func inOrder(acts []act) []act {
	slices.SortStableFunc(acts, func(a, b act) int { return cmp.Compare(a.At, b.At) })
	return acts
}

// Fields returns the fields of all traits in s, in canonical order.
func (c Column) Fields(s trait.Set) []space.Field {
	var out []space.Field
	for _, a := range c.acts(s) {
		out = append(out, a.Fields...)
	}
	return space.Outcome{Fields: out}.Canonical().Fields
}

// Tries is how often a request may be begun by its destination at most, of all that s says.
func (c Column) Tries(s trait.Set) int {
	n := 1
	for _, a := range c.acts(s) {
		n = max(n, a.Tries)
	}
	return n
}

// Repeating are the names of those in s that let a request be sent more than once.
func (c Column) Repeating(s trait.Set) []string {
	var out []string
	for _, a := range c.acts(s) {
		if a.Tries > 1 && !slices.Contains(out, a.feature) {
			out = append(out, a.feature)
		}
	}
	return out
}

func opaque(name string, v trait.Value) space.Field {
	raw, err := json.Marshal(v)
	if err != nil {
		// A value that cannot be encoded could never have reached mesh.json.
		panic("eval: trait " + name + ": " + err.Error())
	}
	return space.Field{Feature: name, Name: OpaqueField, Value: canon.Digest(raw)}
}

// Scopes returns the decisions of the whole mesh: services' ports first, then
// gateways' hosts, each in the mesh's order.
func Scopes(m *model.Mesh, c Column) []space.Decision {
	return ScopesBut(m, c, func(*model.Service, model.Port) bool { return false })
}

// ScopesBut is Scopes without those of some services' ports.
func ScopesBut(m *model.Mesh, c Column, without func(*model.Service, model.Port) bool) []space.Decision {
	var out []space.Decision
	for _, s := range m.Services {
		for _, p := range s.Ports {
			if !without(s, p) {
				out = append(out, ServiceScope(m, s, p, c))
			}
		}
	}
	for _, g := range m.Gateways {
		for _, h := range g.Hosts {
			out = append(out, gatewayDecision(m, g, h, c))
		}
		out = append(out, streamDecisions(m, g, c)...)
	}
	return out
}

// SameScope reports whether all that ServiceScope looks at for a port of a service is the same in
// two meshes: what it gives is then the same, too. The service is one object in both and leads to no other, or
// nothing is known.
func SameScope(a, b *model.Mesh, s *model.Service, p model.Port) bool {
	return a.TrustDomain == b.TrustDomain && a.Service(s.ID) == s && b.Service(s.ID) == s && !s.LeadsOn() &&
		slices.EqualFunc(a.CallersOf(s.ID, p.Name), b.CallersOf(s.ID, p.Name), model.CallsOf.Equal)
}

// ServiceScope follows the requests to one port through the caller's routes and the
// proxies of the services to which they lead: the one that is called, as a rule.
func ServiceScope(m *model.Mesh, s *model.Service, p model.Port, c Column) space.Decision {
	d := space.Decision{
		Scope:  space.Scope{Kind: "service", ID: s.ID, Port: p.Name, Protocol: string(p.Protocol)},
		Access: c.access(m, s, p),
	}
	for _, led := range m.LedTo(s)[1:] {
		for _, port := range led.Ports {
			d.Behind = append(d.Behind, c.access(m, led, port)...)
		}
	}
	known := behind{mesh: m, column: c, doors: map[destination]door{{s.ID, p.Name}: doorOf(s, p, c, d.Access)}}
	follow := func(w way, to []model.Target, acts []act) {
		before, after := behindAccess(acts)
		d.Effective = append(d.Effective, w.through(before, func(w way) space.List { return w.to(known.ends(to), after) })...)
	}
	for _, e := range m.ServiceRoutes(s, p, model.EachCaller) {
		rule := routeRule(m.TrustDomain, s, e)
		if e.NotFound {
			d.Routes, d.Effective = append(d.Routes, rule), append(d.Effective, rule)
			continue
		}
		for _, of := range callersOf(m, s.ID, p, e.To) {
			begin, acts := c.leaving(rule, model.Tightens(of.Traits, e.To, e.Traits), e.To)
			follow(begin.of(m, of), e.To, acts)
		}
		begin, acts := c.leaving(rule, e.Traits, e.To)
		d.Routes = append(d.Routes, begin.whole(acts))
		follow(begin, e.To, acts)
	}
	last := notFound(model.ServicePath(s.ID))
	d.Routes, d.Effective = append(d.Routes, last), append(d.Effective, last)
	d.PlainUpgrades = strings.Join(known.door(destination{s.ID, p.Name}).upgrades, ",")
	d.Plain = plain(m.TrustDomain, s, p, known, d.PlainUpgrades)
	return d
}

// plain follows the requests of callers without an identity of the mesh to the workloads that they
// dial, of whichever version. Nothing but the proxy there has a say.
func plain(trustDomain string, s *model.Service, p model.Port, known behind, upgrades string) space.List {
	ours := []space.Pattern{{Kind: space.Prefix, Text: identityPrefix(trustDomain)}}
	r := space.Rule{
		When: []space.Test{{Dim: space.IdentityDim, Any: ours, Not: true}}, Then: space.Outcome{Verdict: space.Forward},
	}
	var to []model.Target
	for _, v := range s.Versions {
		t := model.Target{Service: s.ID, Port: p.Name, Version: v.Name, Weight: 1}
		to = append(to, t)
		r.Then.Shares = append(r.Then.Shares, space.Share{Target: targetName(t), Weight: int(t.Weight), Upgrades: upgrades})
	}
	return start(r).to(known.ends(to), nil)
}

// access is Access with what features of the service refuse there, whoever may.
func (c Column) access(m *model.Mesh, s *model.Service, p model.Port) space.List {
	var refused space.List
	for _, a := range c.actsOn(p, s.TraitsAt(p.Name)) {
		if a.At == space.AtDeny {
			refused = append(refused, space.Rule{
				When: a.When, Then: space.Outcome{Verdict: space.Denied, Status: a.Answer.Status, By: a.feature}, From: []space.Origin{space.Origin(model.ServicePath(s.ID))},
			})
		}
	}
	return slices.Insert(Access(m, s, p), handshakes(p), refused...)
}

// callersOf are those who say something themselves of what a route sends to a port.
func callersOf(m *model.Mesh, id string, p model.Port, to []model.Target) []model.CallsOf {
	if !p.Protocol.IsHTTP() || len(to) == 0 {
		return nil
	}
	return m.CallersOf(id, p.Name)
}

// of is the way of those of its requests that callers with one account make.
func (w way) of(m *model.Mesh, c model.CallsOf) way {
	who := space.Pattern{Kind: space.Exact, Text: c.Class.SPIFFEID(m.TrustDomain)}
	w.when = append(slices.Clip(w.when), space.Test{Dim: space.IdentityDim, Any: []space.Pattern{who}})
	w.from = slices.Clip(w.from)
	for _, path := range c.Paths {
		w.from = append(w.from, space.Origin(path))
	}
	return w
}

// actsOn are the acts on a port's requests. What a TCP port has are connections, which
// features of requests do not touch.
func (c Column) actsOn(p model.Port, s trait.Set) []act {
	if !p.Protocol.IsHTTP() {
		return nil
	}
	return c.acts(s)
}
