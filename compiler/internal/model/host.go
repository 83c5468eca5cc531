package model

import (
	"slices"
	"strings"
)

// HostCovers reports whether a host's name ("a.b", "*.b", "*") takes host, which
// may itself be a wildcard: then all that it covers must be taken. "*.b" takes
// neither "b" nor ".b".
func HostCovers(name, host string) bool {
	name = strings.ToLower(name)
	if name == "*" || name == host {
		return true
	}
	suffix, ok := strings.CutPrefix(name, "*")
	return ok && host != "*" && strings.HasSuffix(host, suffix) && len(host) > len(suffix)
}

// MoreSpecific orders names that cover the same host: exact first, then the
// longer wildcard.
func MoreSpecific(a, b string) bool {
	wildA, wildB := strings.HasPrefix(a, "*"), strings.HasPrefix(b, "*")
	if wildA != wildB {
		return wildB
	}
	return len(a) > len(b)
}

// AllDenies are the gateway's own and those of its hosts.
func (g *Gateway) AllDenies() []Deny {
	out := slices.Clone(g.Denies)
	for _, h := range g.Hosts {
		out = append(out, h.Denies...)
	}
	return out
}

// HostsAt are the gateway's hosts at one of its ports.
func (g *Gateway) HostsAt(port string) []Host {
	return slices.DeleteFunc(slices.Clone(g.Hosts), func(h Host) bool { return !slices.Contains(h.Ports, port) })
}

// HostAt is the host at a port that takes a name: the exact one, else the longest wildcard.
func (g *Gateway) HostAt(port, name string) (best Host, found bool) {
	for _, h := range g.HostsAt(port) {
		if HostCovers(h.Name, name) && (!found || MoreSpecific(h.Name, best.Name)) {
			best, found = h, true
		}
	}
	return best, found
}

// HostAsked is the host at a port whose certificates a connection gets that asks for a name
// (SNI). Unlike HostAt, "*.b" takes ".b": Envoy keeps wildcards without their star among the
// exact names.
func (g *Gateway) HostAsked(port, name string) (Host, bool) {
	if strings.HasPrefix(name, ".") {
		name = "*" + name
	}
	return g.HostAt(port, name)
}

// Schemes are those by which requests reach the routes of a host, sorted: by ports, or as the
// proxies in front of the gateway say.
func (g *Gateway) Schemes(h Host) []string {
	var out []string
	for _, p := range g.Ports {
		switch {
		case !slices.Contains(h.Ports, p.Name):
		case g.TrustedHops > 0 && p.Protocol != HTTPS && h.TLS != nil && h.TLS.Client != nil: // whom a proxy in front has asked for a certificate nobody knows
		case g.TrustedHops > 0:
			return []string{SchemeHTTP, SchemeHTTPS}
		case p.Protocol == HTTPS:
			out = append(out, SchemeHTTPS)
		case h.TLS == nil || h.TLS.Plain == PlainServe:
			out = append(out, SchemeHTTP)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Schemes of requests.
const (
	SchemeHTTP  = "http"
	SchemeHTTPS = "https"
)

// TLSPort is the port at which visitors reach the host by HTTPS, if there is one.
func (g *Gateway) TLSPort(h Host) Port {
	for _, p := range g.Ports {
		if p.Protocol == HTTPS && slices.Contains(h.Ports, p.Name) {
			return p
		}
	}
	return Port{}
}

// Shares reports whether a connection on which t was chosen is as good for a host with o:
// the same certificates, visitors and ciphers, and no older version of TLS than the host allows.
func (t *HostTLS) Shares(o *HostTLS) bool {
	return t.Min == o.Min && slices.Equal(t.Certificates, o.Certificates) && t.Client.Equal(o.Client) && slices.Equal(t.Ciphers, o.Ciphers) && slices.Equal(t.ALPN, o.ALPN)
}

// Misdirected are the names under one of hosts, in the order of others, that fit a longer
// name of others: who asks for them on a connection of hosts has come by the wrong door.
func Misdirected(hosts, others []Host) []string {
	var out []string
	for _, o := range others {
		if slices.ContainsFunc(hosts, func(h Host) bool { return h.Name != o.Name && HostCovers(h.Name, o.Name) }) {
			out = append(out, o.Name)
		}
	}
	return out
}

// NamesFor are all names by which workloads of a namespace ask for the service.
func (s *Service) NamesFor(namespace string) []string {
	return append(NamesFor(s.ID, namespace), s.Hosts...)
}

// NamesFor are the names by which workloads of a namespace call a service, as the DNS of a cluster has
// them: the short one is the own namespace's.
func NamesFor(service, namespace string) []string {
	ns, name, _ := strings.Cut(service, "/")
	out := []string{name + "." + ns, name + "." + ns + ".svc", name + "." + ns + ".svc.cluster.local"}
	if ns == namespace {
		out = append([]string{name}, out...)
	}
	return out
}
