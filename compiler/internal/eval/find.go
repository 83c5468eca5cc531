package eval

import (
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// FindService returns the decision for a service's port.
func FindService(ds []space.Decision, id, port string) (space.Decision, bool) {
	for _, d := range ds {
		if d.Scope.Kind == "service" && d.Scope.ID == id && d.Scope.Port == port {
			return d, true
		}
	}
	return space.Decision{}, false
}

// FindGateway returns the decision for requests to host at a gateway: the exact
// name, else the longest wildcard that covers it. Without one the gateway knows
// no such host, and the answer is UnknownHost.
func FindGateway(ds []space.Decision, id, host string) (space.Decision, bool) {
	return HostsOf(ds, id).Find(host)
}

// Hosts are the decisions of one gateway, for somebody who asks about many hosts.
type Hosts struct {
	named     map[string]space.Decision // by the name in lower case
	wildcards []space.Decision          // also among the named
}

// HostsOf are those of the gateway with that ID.
func HostsOf(ds []space.Decision, id string) Hosts {
	hosts := Hosts{named: map[string]space.Decision{}}
	for _, d := range ds {
		if d.Scope.Kind != "gateway" || d.Scope.ID != id {
			continue
		}
		hosts.named[strings.ToLower(d.Scope.Port)] = d
		if strings.HasPrefix(d.Scope.Port, "*") {
			hosts.wildcards = append(hosts.wildcards, d)
		}
	}
	return hosts
}

// Find is FindGateway at this gateway.
func (h Hosts) Find(host string) (space.Decision, bool) {
	host = CleanHost(host)
	best, found := h.named[host] // nothing is more specific than the name itself
	if found {
		return best, true
	}
	for _, d := range h.wildcards {
		if model.HostCovers(d.Scope.Port, host) && (!found || model.MoreSpecific(d.Scope.Port, best.Scope.Port)) {
			best, found = d, true
		}
	}
	return best, found
}

// Find returns the decision of a scope kind ("service" or "gateway"): port is
// the port's name, or for a gateway the requested host.
func Find(ds []space.Decision, kind, id, portOrHost string) (space.Decision, bool) {
	if kind == "gateway" {
		return FindGateway(ds, id, portOrHost)
	}
	return FindService(ds, id, portOrHost)
}

// UnknownHost is a gateway's answer to a host that none of its hosts covers.
func UnknownHost() space.Answer {
	return space.Answer{Outcome: space.NotRouted()}
}

// CleanHost is a request's host as Envoy compares it here: lower case, without
// trailing dot (strip_trailing_host_dot) and without its port
// (ignore_port_in_host_matching).
func CleanHost(host string) string { return HostOf(WithoutDot(host)) }

// HostOf is the host of an authority as a proxy has it once it has read the request: in lower
// case and without its port. A dot at its end is the host's own, of which there was another one.
func HostOf(authority string) string {
	host := strings.ToLower(authority)
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.Contains(host[i:], "]") {
		return host[:i]
	}
	return host
}

// WithoutDot takes the dot from the end of a host, also if a port follows it: so a
// request's host arrives (strip_trailing_host_dot).
func WithoutDot(host string) string {
	i := strings.LastIndexByte(host, '.')
	if i < 0 || i+1 < len(host) && host[i+1] != ':' {
		return host
	}
	return host[:i] + host[i+1:]
}
