// Package eval is the reference meaning of a mesh: which requests go where, and
// what happens to them on the way.
//
// In: a model.Mesh and a Column, which turns each feature's settled value into
// fields (data, run once per value). Out: one space.Decision per service port
// and per gateway host (Scopes), and the answer for one request (Decide).
//
// Invariants: Scopes is the only maker of rule lists; the last rule of every
// Effective list matches all; nothing here is clever (plain strings and
// regexp), because prove is tested against it and Envoy is compared with it.
package eval

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/canon"
)

// Effect says what a feature's value does to the requests of a rule, as data.
// It runs once per value; what it returns holds no function.
type Effect func(v trait.Value) []space.Field

// Column maps a trait's name to its effect. A trait without an effect becomes
// one opaque field with the digest of its value: it is compared, never ignored.
type Column map[string]Effect

// RedirectTrait is the name of the trait whose presence makes the caller's own
// proxy answer: the route's verdict is space.Redirect.
const RedirectTrait = "redirect"

// OpaqueField is the field name of an effect that is known by digest only.
const OpaqueField = "opaque"

// effectsBeforeAccess are the features that act in the caller's proxy before
// the callee's grants are asked, in the order in which a request meets them. A
// denied request still has their effects (a delay, a copy to another service);
// all other fields of a route show only on requests that get through.
func effectsBeforeAccess() []string { return []string{faultTrait, "mirror"} }

// faultTrait is the name of the trait whose effect may be an answer instead of any other.
const faultTrait = "fault"

// Abort is the status with which the outcome's requests are broken off, and the
// share of them that is ("5%"); 0 and "" for none.
func Abort(o space.Outcome) (status int, percent string) {
	for _, f := range o.Fields {
		if f.Feature != faultTrait || f.Name != "abort" {
			continue
		}
		code, percent, _ := strings.Cut(f.Value, " for ")
		if n, err := strconv.Atoi(code); err == nil {
			return n, percent
		}
	}
	return 0, ""
}

// Fields returns the fields of all traits in s, in canonical order.
func (c Column) Fields(s trait.Set) []space.Field {
	var out []space.Field
	for _, name := range s.Names() {
		v, _ := s.Lookup(name)
		if effect, ok := c[name]; ok && effect != nil {
			out = append(out, effect(v)...)
			continue
		}
		out = append(out, opaque(name, v))
	}
	return space.Outcome{Fields: out}.Canonical().Fields
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
	var out []space.Decision
	for _, s := range m.Services {
		for _, p := range s.Ports {
			out = append(out, serviceDecision(m, s, p, c))
		}
	}
	for _, g := range m.Gateways {
		for _, h := range g.Hosts {
			out = append(out, gatewayDecision(m, g, h, c))
		}
	}
	return out
}

// serviceDecision composes routes and grants of one port.
func serviceDecision(m *model.Mesh, s *model.Service, p model.Port, c Column) space.Decision {
	d := space.Decision{
		Scope:  space.Scope{Kind: "service", ID: s.ID, Port: p.Name, Protocol: string(p.Protocol)},
		Access: accessList(m, s, p),
		Routes: routeList(s, p, c),
	}
	for _, r := range d.Routes {
		if r.Then.Verdict != space.Forward {
			d.Effective = append(d.Effective, r) // answered before any grant is asked
			continue
		}
		for _, a := range d.Access {
			d.Effective = append(d.Effective, compose(r, a))
		}
	}
	return d
}

// compose is what takes effect when route r and access rule a both decide.
func compose(r, a space.Rule) space.Rule {
	out := space.Rule{
		When: slices.Concat(r.When, a.When),
		Then: r.Then,
		From: slices.Concat(r.From, a.From),
	}
	if a.Then.Verdict == space.Denied {
		out.Then = denied(r.Then.Fields)
	}
	return out
}

// denied keeps of a route's fields those that act before access is decided.
func denied(fields []space.Field) space.Outcome {
	o := space.Outcome{Verdict: space.Denied}
	for _, f := range fields {
		if slices.Contains(effectsBeforeAccess(), f.Feature) {
			o.Fields = append(o.Fields, f)
		}
	}
	return o
}
