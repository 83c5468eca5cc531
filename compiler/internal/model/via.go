package model

import (
	"net/netip"
	"strings"

	"meshc.dev/meshc/compiler/release"
)

// Via is a gateway through which an external is called, with what its callers have to know of it.
type Via struct {
	// Gateway is its ID, Account that of its proxies, in its namespace.
	Gateway string `json:"gateway"`
	Account string `json:"account"`
	// Former are accounts that some of them still have.
	Former []string `json:"former_accounts,omitempty"`
	// Port is the name of its port of the protocol MeshTLS, Number that port's.
	Port   string `json:"port"`
	Number uint32 `json:"number"`
	// Host is the IP address at which it listens, "" if the platform knows where its proxies are.
	Host string `json:"host,omitempty"`
}

// Class is the class of the gateway's proxies.
func (v *Via) Class() release.Class {
	namespace, _, _ := strings.Cut(v.Gateway, "/")
	return release.Class{Role: release.Gateway, Namespace: namespace, Account: v.Account}
}

// Classes are that one, and those of proxies that still have another account.
func (v *Via) Classes() []release.Class { return classes(v.Class(), v.Former) }

// Exit is an external that is called through a gateway.
type Exit struct {
	// External is its ID, Port the name of the gateway's port.
	External string `json:"external"`
	Port     string `json:"port"`
	// Admits are those who call it, by account and by the external's port: a grant for each of the external's
	// by which they may, under its name, and one each of the names OwnNamespace and Fetching. Nobody else gets by.
	Admits []Grant `json:"admits,omitempty"`
}

// Names of what admits callers without a grant; no grant is called so.
const (
	// OwnNamespace are callers of the external's namespace.
	OwnNamespace = "own namespace"
	// Fetching are proxies that ask it by themselves, for what a provider has there.
	Fetching = "fetching"
)

// ViaName is the upstream by which callers' proxies reach an external's port through a gateway.
func (x *External) ViaName(port string) string {
	return release.ViaCluster(x.Via.Gateway, x.Via.Port, x.ID, port)
}

// Upstream is the name of the cluster by which proxies reach an external's port themselves. Through an HTTP proxy
// it is another one, so that the way there is complete before the first request takes it.
func (x *External) Upstream(port string) string {
	if x.Proxy != "" {
		return release.ProxiedCluster(x.ID, port)
	}
	return release.ExternalCluster(x.ID, port)
}

// ProxyAt is where the HTTP proxy of an external is.
func (x *External) ProxyAt() Endpoints {
	if ap, err := netip.ParseAddrPort(x.Proxy); err == nil {
		return Endpoints{Static: []string{ap.String()}}
	}
	return Endpoints{DNS: x.Proxy}
}

// ExitName is the RouteConfiguration of requests to an external's port at the gateway that leads there.
func ExitName(external, port string) string { return "exit/" + external + "/" + port }

// ExitHost is the name that callers' proxies ask a gateway for (SNI) to be led to an external's port.
func ExitHost(external, port string) string {
	namespace, name, _ := strings.Cut(external, "/")
	return port + "." + name + "." + namespace + ".external"
}
