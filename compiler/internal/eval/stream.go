package eval

import (
	"net/netip"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// StreamKind is the kind of the scopes of connections whose bytes a gateway passes on.
const StreamKind = "stream"

// StreamScope is the scope of connections to a gateway's port that ask for a name, "*" for any, and
// come from a prefix, "" for anywhere.
func StreamScope(g *model.Gateway, p model.Port, name, from string) space.Scope {
	at := p.Name
	if p.Protocol != model.TCP {
		at += " sni " + name
	}
	if from != "" {
		at += " from " + from
	}
	return space.Scope{Kind: StreamKind, ID: g.ID, Port: at, Protocol: string(model.TCP)}
}

// Stream is a name and a prefix by which a gateway's port takes connections.
type Stream struct {
	Scope            space.Scope
	Port, Name, From string
}

// Streams are those of a gateway.
func Streams(g *model.Gateway) []Stream {
	var out []Stream
	for _, p := range g.Ports {
		for _, s := range g.Streams(p.Name) {
			for _, name := range s.Names() {
				for _, from := range s.From() {
					out = append(out, Stream{StreamScope(g, p, name, from), p.Name, name, from})
				}
			}
		}
	}
	return out
}

// At is the scope of the connections of s at a gateway that may have other routes; false if none of
// them takes these. Of a prefix it is that of its first address.
func (s Stream) At(g *model.Gateway) (space.Scope, bool) {
	if g == nil {
		return space.Scope{}, false
	}
	p, ok := g.Port(s.Port)
	name, from := strings.Replace(s.Name, "*", "any", 1), netip.Addr{}
	if s.Name == anyName {
		name = ""
	}
	if prefix, err := netip.ParsePrefix(s.From); err == nil {
		from = prefix.Addr()
	}
	taken := g.StreamAt(s.Port, name, from)
	if !ok || !taken.OK {
		return space.Scope{}, false
	}
	return StreamScope(g, p, taken.Name, taken.From), true
}

const anyName = "*"

// Unstreamed is what becomes of connections that no route takes.
func Unstreamed() space.Decision {
	return space.Decision{Scope: space.Scope{Protocol: string(model.TCP)}, Effective: space.List{{Then: space.Refused()}}}
}

// streamDecisions follow connections through a gateway's ports and the proxies of the services behind
// them, which see the gateway and not the visitor. There is one for each name and prefix.
func streamDecisions(m *model.Mesh, g *model.Gateway, c Column) []space.Decision {
	var out []space.Decision
	known := behind{mesh: m, column: c, identity: g.Class().SPIFFEID(m.TrustDomain), doors: map[destination]door{}}
	for _, p := range g.Ports {
		for _, s := range g.Streams(p.Name) {
			targets := m.StreamTargets(s)
			r := space.Rule{Then: space.Outcome{Verdict: space.Forward}, From: []space.Origin{space.Origin(model.GatewayStreamPath(g.ID, p.Name, s.Name))}}
			for _, t := range targets {
				r.Then.Shares = append(r.Then.Shares, space.Share{Target: targetName(t), Weight: int(t.Weight)})
			}
			list := known.follow(start(r), targets, nil)
			for _, name := range s.Names() {
				for _, from := range s.From() {
					out = append(out, space.Decision{Scope: StreamScope(g, p, name, from), Routes: space.List{r}, Effective: list})
				}
			}
		}
	}
	return out
}

// FindStream is the decision of connections that a route takes by that name from that prefix.
func FindStream(ds []space.Decision, scope space.Scope) (space.Decision, bool) {
	for _, d := range ds {
		if d.Scope == scope {
			return d, true
		}
	}
	return space.Decision{}, false
}

// NoStream is what becomes of a connection that no route of a port takes: it is closed.
func NoStream(p model.Port) space.Answer {
	return space.Answer{Outcome: space.Outcome{Verdict: space.Denied, By: ByProxy}, Why: "no route of port " + p.Name + " takes the connection"}
}
