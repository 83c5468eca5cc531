package model

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	"meshc.dev/meshc/compiler/release"
)

// Declared is a name or a range of addresses at a port number, which a service or an external has.
type Declared struct {
	ID         string // of the service or external
	IsExternal bool
	// Host is a name of an external, or "": all names of the service, or a Range.
	Host   string
	Range  netip.Prefix
	Number uint32
	// Asked says that TLS asks for the name; else requests do.
	Asked bool
}

// String is how it is dialled.
func (d Declared) String() string {
	host := d.Host
	switch {
	case d.Range.IsSingleIP():
		host = d.Range.Addr().String()
	case d.Range.IsValid():
		host = d.Range.String()
	case host == "":
		host = NamesFor(d.ID, "")[2]
	}
	return net.JoinHostPort(host, strconv.FormatUint(uint64(d.Number), 10))
}

// Declared is all that a mesh declares, as far as those who send there can be told from others: requests by their host,
// TLS by the name that it asks for, connections by the addresses that intent writes.
func (m *Mesh) Declared() []Declared {
	var out []Declared
	for _, s := range m.Services {
		for _, p := range s.Ports {
			if p.Protocol.IsHTTP() {
				out = append(out, Declared{ID: s.ID, Number: p.Number})
			}
			out = declaredRanges(out, Declared{ID: s.ID}, p, s.Dialled(p))
		}
	}
	for _, x := range m.Externals {
		out = append(out, x.declared()...)
	}
	return out
}

func (e *External) declared() []Declared {
	var out []Declared
	hosts := e.Hosts
	if len(hosts) == 0 {
		hosts = NamesFor(e.ID, e.Namespace)
	}
	of := Declared{ID: e.ID, IsExternal: true}
	for _, p := range e.Ports {
		for _, h := range hosts {
			if of.Host = h; p.Protocol.IsHTTP() {
				of.Number, of.Asked = p.Dialled(), false
				out = append(out, of)
			}
			if p.Protocol.Secured() || p.Protocol == TLS {
				of.Number, of.Asked = p.Number, true
				out = append(out, of)
			}
		}
		of := Declared{ID: e.ID, IsExternal: true}
		out = declaredRanges(out, of, p, e.Dialled())
		for _, text := range e.Endpoints.Static {
			if ap, err := netip.ParseAddrPort(text); err == nil {
				of.Range, of.Number = netip.PrefixFrom(ap.Addr(), ap.Addr().BitLen()), uint32(ap.Port())
				out = append(out, of)
			}
		}
	}
	return out
}

func declaredRanges(out []Declared, of Declared, p Port, ranges []netip.Prefix) []Declared {
	for _, r := range ranges {
		of.Range, of.Number = r, p.Dialled()
		out = append(out, of)
		if of.Number = p.Number; p.Number != p.Dialled() {
			out = append(out, of)
		}
	}
	return out
}

// Dialled are the addresses that callers of a port dial, where intent says it: as such, or as the endpoints themselves.
func (s *Service) Dialled(p Port) []netip.Prefix {
	var static []string
	for _, v := range s.Versions {
		static = append(static, v.Endpoints.Static...)
		for _, host := range v.Endpoints.Hosts() {
			static = append(static, net.JoinHostPort(host, strconv.FormatUint(uint64(v.ListenPort(p)), 10)))
		}
	}
	return dialled(s.Addresses, static)
}

// Dialled are the addresses that its callers dial, likewise.
func (e *External) Dialled() []netip.Prefix { return dialled(e.Addresses, e.Endpoints.Static) }

func dialled(texts, static []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p)
		}
	}
	for _, text := range static {
		if ap, err := netip.ParseAddrPort(text); err == nil && len(texts) == 0 {
			p := netip.PrefixFrom(ap.Addr(), ap.Addr().BitLen())
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// EgressModes are the modes of all classes: of those whose services say different ones, the tightest.
func (m *Mesh) EgressModes() map[release.Class]Openness {
	out := map[release.Class]Openness{}
	for _, s := range m.Services {
		for _, v := range s.Versions {
			for _, c := range s.Classes(v) {
				if o, ok := out[c]; !ok || s.Egress.Tighter(o) {
					out[c] = s.Egress
				}
			}
		}
	}
	return out
}
