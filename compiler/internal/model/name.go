package model

import (
	"strings"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/hop"
)

// Names of things in every target. Targets must not invent any.

// ClusterName is the name of the upstream for one version's port.
func ClusterName(service, port, version string) string {
	return release.Upstream{Service: service, Port: port, Version: version}.String()
}

// ExternalClusterName is the name of the upstream for an external's port.
func ExternalClusterName(external, port string) string {
	return release.ExternalCluster(external, port)
}

// LocalClusterName is the application behind a sidecar.
func LocalClusterName(service, port, version string) string {
	return "app/" + ClusterName(service, port, version)
}

// OutboundName is the RouteConfiguration for requests to a service's port.
func OutboundName(service, port string) string { return "outbound/" + service + "/" + port }

// InboundName is the RouteConfiguration for requests that arrive at a version's port.
func InboundName(service, port, version string) string {
	return "inbound/" + ClusterName(service, port, version)
}

// AskedName is the RouteConfiguration for what probes and scrapes ask of a version's port that
// demands mTLS of all others.
func AskedName(service, port, version string) string {
	return "asked/" + ClusterName(service, port, version)
}

// GatewayName is the listener of a gateway's port, and the RouteConfiguration of plain HTTP there.
func GatewayName(gateway, port string) string { return hop.GatewayListener + gateway + "/" + port }

// GatewayQUICName is the listener of HTTP/3 beside a gateway's port of HTTPS. No port's name has a slash.
func GatewayQUICName(gateway, port string) string { return GatewayName(gateway, port) + "/http3" }

// GatewayTLSName is the RouteConfiguration of connections to a gateway's port on which these
// certificates were chosen.
func GatewayTLSName(gateway, port string, t *HostTLS) string {
	name := GatewayName(gateway, port) + "/" + t.Min
	for _, c := range t.Certificates {
		name += "/" + c.Ref().String()
	}
	if t.Client != nil || len(t.Ciphers) > 0 || len(t.ALPN) > 0 {
		raw, err := canon.JSON([]any{t.Client, t.Ciphers, t.ALPN})
		if err != nil {
			panic(err) // text and lists of text
		}
		name += "/" + canon.Fingerprint(raw)
	}
	return name
}

// Mesh paths: the keys of provenance and the origins of rules.

// ServicePath is the mesh path of a service.
func ServicePath(id string) string { return "service/" + id }

// OverridePath is the mesh path of a field that an environment replaces.
func OverridePath(o Override) string { return "override/" + o.Package + "/" + o.Field }

// NeverPath is the mesh path of what must never be allowed.
func NeverPath(n Never) string { return "never/" + n.Package + "/" + n.Name }

// VersionPath is the mesh path of a service's version.
func VersionPath(id, version string) string { return ServicePath(id) + "/version/" + version }

// ProxylessPath is the mesh path of what says whether a version has proxies.
func ProxylessPath(id, version string) string { return VersionPath(id, version) + "/proxyless" }

// PortLines is what follows the mesh path of a service of several ports, of its route or its version, before
// the name of what it says for one of them.
func PortLines(port string) string { return "/port/" + port }

// DestinationPath is the mesh path of a route's own destination; route is the route's.
func DestinationPath(route, name string) string { return route + "/destination/" + name }

// RoutePath is the mesh path of a service's route.
func RoutePath(id, route string) string { return ServicePath(id) + "/route/" + route }

// CallPath is the mesh path of one of its calls: of several ports of one callee each has one of its own.
func (s *Service) CallPath(c Call) string {
	for _, o := range s.Calls {
		if o.To == c.To && o.Port != c.Port {
			return CallPath(s.ID, c.To) + PortLines(c.Port)
		}
	}
	return CallPath(s.ID, c.To)
}

// CallPath is the mesh path of a service's call to another service or an external.
func CallPath(id, to string) string { return ServicePath(id) + "/calls/" + to }

// CallAt is the caller's and the callee's ID in the mesh path of a call; false for another path.
func CallAt(path string) (id, to string, ok bool) {
	rest, isService := strings.CutPrefix(path, ServicePath(""))
	id, to, isCall := strings.Cut(rest, "/calls/")
	to, _, _ = strings.Cut(to, PortLines(""))
	return id, to, isService && isCall
}

// EgressPath is the mesh path of what a service says of what it sends to where nothing is declared.
func EgressPath(id string) string { return ServicePath(id) + "/egress" }

// GrantPath is the mesh path of a service's grant.
func GrantPath(id, grant string) string { return ServicePath(id) + "/grant/" + grant }

// DenyPath is the mesh path of a deny of what has the path carrier: a service, a gateway or
// a gateway's host.
func DenyPath(carrier, deny string) string { return carrier + "/deny/" + deny }

// GatewayPath is the mesh path of a gateway.
func GatewayPath(id string) string { return "gateway/" + id }

// GatewayRoutePath is the mesh path of a route of a gateway's host.
func GatewayRoutePath(id, host, route string) string {
	return GatewayHostPath(id, host) + "/route/" + route
}

// GatewayPortPath is the mesh path of a gateway's port.
func GatewayPortPath(id, port string) string { return GatewayPath(id) + "/port/" + port }

// GatewayStreamPath is the mesh path of a route of connections at a gateway's port.
func GatewayStreamPath(id, port, route string) string {
	return GatewayPortPath(id, port) + "/route/" + route
}

// GatewayHostPath is the mesh path of a gateway's host.
func GatewayHostPath(id, host string) string { return GatewayPath(id) + "/host/" + host }

// CertificatePath is the mesh path of a certificate.
func CertificatePath(id string) string { return "certificate/" + id }

// ProviderPath is the mesh path of a provider of tokens.
func ProviderPath(id string) string { return "jwt/" + id }

// LoginPath is the mesh path of a login.
func LoginPath(id string) string { return "login/" + id }

// AuthorizerPath is the mesh path of an authorizer.
func AuthorizerPath(id string) string { return "authorizer/" + id }

// RulePath is the mesh path of what intent says of a rule over objects.
func RulePath(rule string) string { return "rule/" + rule }

// ExemptionPath is the mesh path of an exemption.
func ExemptionPath(name string) string { return "exemption/" + name }

// ExternalPath is the mesh path of an external service.
func ExternalPath(id string) string { return "external/" + id }

// ExternalRoutePath is the mesh path of an external's route.
func ExternalRoutePath(id, route string) string { return ExternalPath(id) + "/route/" + route }

// ExternalGrantPath is the mesh path of an external's grant.
func ExternalGrantPath(id, grant string) string { return ExternalPath(id) + "/grant/" + grant }

// LossPath is the mesh path of what a target goes without.
func LossPath(target, name string) string { return "target/" + target + "/without/" + name }
