package release

import "strings"

// Upstream is one port of one version of a service, to which a cluster of that name leads.
type Upstream struct {
	// Service is the service's ID, "namespace/name".
	Service string
	// Port and Version are names.
	Port, Version string
}

// String gives "namespace/service/port/version".
func (u Upstream) String() string { return u.Service + "/" + u.Port + "/" + u.Version }

// externalPrefix begins the names of clusters that lead outside.
const externalPrefix = "external/"

// ExternalCluster is the name of the cluster for a port of an external.
func ExternalCluster(external, port string) string { return externalPrefix + external + "/" + port }

// proxiedPrefix begins the names of clusters that lead outside through an HTTP proxy.
const proxiedPrefix = "proxied/"

// ProxiedCluster is the name of the cluster for a port of an external that is reached through an HTTP proxy.
func ProxiedCluster(external, port string) string { return proxiedPrefix + external + "/" + port }

// ParseProxied gives what such a name would be if there were no proxy; false for a cluster that leads elsewhere.
func ParseProxied(cluster string) (direct string, ok bool) {
	rest, ok := strings.CutPrefix(cluster, proxiedPrefix)
	return externalPrefix + rest, ok
}

// viaPrefix begins the names of clusters that lead to a gateway on the way outside.
const viaPrefix = "via/"

// ViaCluster is the name of the cluster by which the port of an external is reached through a gateway's port.
func ViaCluster(gateway, gatewayPort, external, port string) string {
	return viaPrefix + gateway + "/" + gatewayPort + "/" + external + "/" + port
}

// ParseVia gives the gateway's ID and port of such a name; false for a cluster that leads elsewhere.
func ParseVia(cluster string) (gateway, port string, ok bool) {
	p := strings.Split(cluster, "/")
	if len(p) != 7 || !strings.HasPrefix(cluster, viaPrefix) {
		return "", "", false
	}
	return p[1] + "/" + p[2], p[3], true
}

// ParseUpstream reads the form of String; false for a cluster that leads elsewhere.
func ParseUpstream(cluster string) (Upstream, bool) {
	p := strings.Split(cluster, "/")
	if len(p) != 4 || strings.HasPrefix(cluster, externalPrefix) || strings.HasPrefix(cluster, proxiedPrefix) {
		return Upstream{}, false
	}
	return Upstream{p[0] + "/" + p[1], p[2], p[3]}, true
}
