package plan

import (
	"cmp"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// pair is one scope on both sides. A side that lacks it has a decision that
// answers 404 to all, and the flag.
type pair struct {
	before, after   space.Decision
	opened, removed bool
	display         string // "bookinfo/reviews", "gateway/edge host *.example"
	own             string // ID of the scope's service or external; "" for a gateway
	external        bool
	near            string // its namespace
	host            string // a host of this class, for witnesses at gateways
}

// destination is what a pair of a service is about.
func (p pair) destination() destination { return destination{p.own, p.after.Scope.Port} }

// pairs lines up the scopes of both meshes. Hosts of gateways are lined up by
// what requests meet: where one side has no such host, its wildcard answers. Ports at which
// everything is the same for sure are left out, unless somebody comes there as somebody else.
func (c *comparison) pairs() []pair {
	same := func(s *model.Service, p model.Port) bool {
		return len(c.movers.list) == 0 && eval.SameScope(c.before, c.after, s, p)
	}
	before, after := eval.ScopesBut(c.before, c.meaning, same), eval.ScopesBut(c.after, c.meaning, same)
	b, a := byScope(before), byScope(after)
	gateways := gatewayScopes(before, after)
	all := map[string]space.Scope{}
	for _, d := range slices.Concat(before, after) {
		all[d.Scope.String()] = d.Scope
	}
	out := make([]pair, 0, len(all))
	for _, key := range sortedKeys(all) {
		s := all[key]
		var p pair
		var inB, inA bool
		switch s.Kind {
		case "gateway":
			p.before, inB = gateways[s.ID].before.Find(s.Port)
			p.after, inA = gateways[s.ID].after.Find(s.Port)
			p.before, p.after = c.withOutside(c.before, p.before), c.withOutside(c.after, p.after)
			p.host = hostOf(s.Port, gateways[s.ID].names)
			s.Besides = eval.Besides(s.Port, gateways[s.ID].names) // whichever side has them
			p.display = "gateway/" + s.ID + " host " + s.Port
		case eval.StreamKind:
			p.before, p.after, inB, inA = c.streamSides(s, b, a)
			p.display = "gateway/" + s.ID + " port " + s.Port
		default:
			p.before, inB = b[key]
			p.after, inA = a[key]
			p.own, p.display = s.ID, c.serviceDisplay(s)
		}
		p.near, _, _ = strings.Cut(s.ID, "/")
		p.opened, p.removed = !inB, !inA
		if !inB {
			p.before = nowhere(s)
		}
		if !inA {
			p.after = nowhere(s)
		}
		// Both sides answer for this scope, whichever wildcard does it.
		protocolB, protocolA := p.before.Scope.Protocol, p.after.Scope.Protocol
		p.before.Scope, p.after.Scope = s, s
		p.before.Scope.Protocol, p.after.Scope.Protocol = protocolB, protocolA
		out = append(out, p)
	}
	return append(out, c.outsidePairs()...)
}

func byScope(ds []space.Decision) map[string]space.Decision {
	out := make(map[string]space.Decision, len(ds))
	for _, d := range ds {
		out[d.Scope.String()] = d
	}
	return out
}

// streamSides are what both sides decide of the connections of one scope, whichever of their routes takes them.
func (c *comparison) streamSides(s space.Scope, b, a map[string]space.Decision) (before, after space.Decision, inB, inA bool) {
	var of eval.Stream
	for _, m := range []*model.Mesh{c.before, c.after} {
		if g := m.Gateway(s.ID); g != nil {
			if i := slices.IndexFunc(eval.Streams(g), func(x eval.Stream) bool { return x.Scope == s }); i >= 0 {
				of = eval.Streams(g)[i]
			}
		}
	}
	if at, ok := of.At(c.before.Gateway(s.ID)); ok {
		before, inB = b[at.String()]
	}
	if at, ok := of.At(c.after.Gateway(s.ID)); ok {
		after, inA = a[at.String()]
	}
	return before, after, inB, inA
}

func nowhere(s space.Scope) space.Decision {
	if s.Kind == eval.StreamKind {
		return eval.Unstreamed()
	}
	return space.Decision{Effective: space.List{{Then: space.NotRouted()}}}
}

// serviceDisplay names a service's scope; the port only where it has several.
func (c *comparison) serviceDisplay(s space.Scope) string {
	for _, m := range []*model.Mesh{c.after, c.before} {
		if svc := m.Service(s.ID); svc != nil && len(svc.Ports) > 1 {
			return s.ID + ":" + s.Port
		}
	}
	return s.ID
}

// gatewaySides are one gateway's decisions on both sides, and all host names.
type gatewaySides struct {
	before, after eval.Hosts
	names         []string
}

func gatewayScopes(before, after []space.Decision) map[string]*gatewaySides {
	out := map[string]*gatewaySides{}
	for _, d := range slices.Concat(before, after) {
		if d.Scope.Kind != "gateway" {
			continue
		}
		g := out[d.Scope.ID]
		if g == nil {
			g = &gatewaySides{before: eval.HostsOf(before, d.Scope.ID), after: eval.HostsOf(after, d.Scope.ID)}
			out[d.Scope.ID] = g
		}
		g.names = append(g.names, d.Scope.Port)
	}
	return out
}

// hostOf is a host that name takes and none of the more specific names does.
func hostOf(name string, names []string) string {
	if !strings.HasPrefix(name, "*") {
		return name
	}
	suffix := strings.TrimPrefix(name, "*")
	if suffix == "" {
		suffix = ".test"
	}
	label := "any"
	for {
		host := label + suffix
		best := name
		for _, n := range names {
			if model.HostCovers(n, host) && cmp.Compare(len(n), len(best)) > 0 {
				best = n
			}
		}
		if best == name && !slices.Contains(names, host) {
			return host
		}
		label += "x"
	}
}
