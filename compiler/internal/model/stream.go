package model

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// PortSays is what a gateway's port says beside where it is.
type PortSays struct {
	// Proxies are IP prefixes of the proxies in front that say whom they have a connection from, sorted:
	// nobody else gets in. None: connections come from where they come from.
	Proxies []string `json:"proxies,omitempty"`
	// Namespaces are those whose externals may go out at a port for proxies of the mesh, sorted; none means all.
	Namespaces []string `json:"namespaces,omitempty"`
	// Streams are the routes of connections whose bytes go on as they are, sorted by name.
	Streams []Stream `json:"streams,omitempty"`
}

// Stream is a route of connections at a gateway's port.
type Stream struct {
	Name string `json:"name"`
	// SNI are the names that connections ask for, exact, "*.suffix" or "*", sorted: at least one at a
	// port of TLS, none at others. Sources are IP prefixes, sorted, none for all.
	SNI     []string `json:"sni,omitempty"`
	Sources []string `json:"sources,omitempty"`
	To      []Target `json:"to"`
}

// Streams are the routes of connections at a port.
func (g *Gateway) Streams(port string) []Stream { return g.Says[port].Streams }

// Names are those that connections of the route ask for: one without names takes all.
func (s Stream) Names() []string {
	if len(s.SNI) == 0 {
		return []string{"*"}
	}
	return s.SNI
}

// From are the prefixes that connections of the route come from: "" is anywhere.
func (s Stream) From() []string {
	if len(s.Sources) == 0 {
		return []string{""}
	}
	return s.Sources
}

// Taken is how a connection is taken at a port.
type Taken struct {
	// Name is the name by which, "" if a host is more specific or nothing has it.
	Name string
	// Stream is the route and From the prefix by which; ok is false if of the name's routes
	// none takes the address.
	Stream Stream
	From   string
	OK     bool
}

// StreamAt is how a connection to a port is taken that asks for a name, "" for none, from an address:
// by the longest name, and of its routes by the longest prefix.
func (g *Gateway) StreamAt(port, name string, from netip.Addr) Taken {
	if strings.HasPrefix(name, ".") {
		name = "*" + name // as of HostAsked
	}
	var t Taken
	for _, x := range g.Streams(port) {
		for _, n := range x.Names() {
			if HostCovers(n, name) && (t.Name == "" || n != t.Name && MoreSpecific(n, t.Name)) {
				t.Name = n
			}
		}
	}
	if h, asked := g.HostAsked(port, name); t.Name == "" || asked && MoreSpecific(h.Name, t.Name) {
		return Taken{}
	}
	t.Stream, t.From, t.OK = nearest(g.Streams(port), t.Name, from)
	return t
}

// nearest is the route of a name with the longest prefix that takes an address.
func nearest(all []Stream, name string, from netip.Addr) (s Stream, prefix string, ok bool) {
	const none, anywhere = -2, -1
	longest := none
	for _, x := range all {
		if !slices.Contains(x.Names(), name) {
			continue
		}
		for _, f := range x.From() {
			p, err := netip.ParsePrefix(f)
			switch {
			case err != nil && longest == none:
				s, prefix, longest = x, f, anywhere
			case err == nil && p.Contains(from) && p.Bits() > longest:
				s, prefix, longest = x, f, p.Bits()
			}
		}
	}
	return s, prefix, longest != none
}

// StreamTargets are where connections of a route go, with weights reduced: of a service without a
// version those that its own connections go to.
func (m *Mesh) StreamTargets(s Stream) []Target {
	parts, sums, scale := make([][]Target, len(s.To)), make([]Percent, len(s.To)), Percent(1)
	for i, t := range s.To {
		parts[i] = []Target{{Service: t.Service, Port: t.Port, Version: t.Version, Weight: 1}}
		if svc := m.Service(t.Service); svc != nil && t.Version == "" {
			p, _ := svc.Port(t.Port)
			parts[i] = svc.innerTargets(t.Port, svc.RoutesAt(p)[0])
		}
		for _, x := range parts[i] {
			sums[i] += x.Weight
		}
		scale = lcm(scale, max(1, sums[i]))
	}
	var out []Target
	for i, t := range s.To {
		for _, x := range parts[i] {
			if x.Weight *= t.Weight * scale / sums[i]; x.Weight > 0 {
				out = append(out, x)
			}
		}
	}
	slices.SortFunc(out, func(a, b Target) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Port, b.Port), strings.Compare(a.Version, b.Version))
	})
	once := out[:0]
	for _, t := range out { // a version may be named beside its service
		if last := len(once) - 1; last >= 0 && once[last].Service == t.Service && once[last].Port == t.Port && once[last].Version == t.Version {
			once[last].Weight += t.Weight
			continue
		}
		once = append(once, t)
	}
	return reduceWeights(once)
}
