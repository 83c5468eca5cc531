// Package redirect sends the traffic of a pod through its sidecar.
//
// In: the network namespace of this process, and its nameservers, which answer over TCP
// without the sidecar. Out: one nftables table, "inet meshc", for
// both IP families, and the sidecar's source address ::6 on the loopback; or an error.
//
// Invariant: Set returns nil only if the kernel has read back every rule as written,
// and Stands only if a connection was seen to be redirected. In doubt both fail, so that
// a pod without redirection never starts. Rules are replaced as a whole, in one
// transaction: there is no moment with half of them.
package redirect

import (
	"meshc.dev/meshc/internal/diag"
)

// Ports to which connections are redirected; the listeners of the sidecar's Envoy.
const (
	outboundPort = 15001
	inboundPort  = 15006
)

// ProxyID is user and group of agent and Envoy. What runs as either is not redirected.
const ProxyID = 1337

// openPorts are the ports of the sidecar that answer everyone, in plaintext: statistics,
// the agent's status and probes, and Envoy's own.
func openPorts() []uint16 { return []uint16{15020, 15021, 15090} }

// Own addresses of the sidecar towards its application. Nothing else may have them.
const (
	sourceV4 = "127.0.0.6"
	sourceV6 = "::6"
)

func problem(format string, args ...any) error {
	return diag.List{diag.New(diag.CodeRedirect, diag.Pos{}, format, args...).
		WithFix("run `meshc-agent redirect` as root with NET_ADMIN in the pod's network namespace, on Linux 5.2 or later with nf_tables and IPv6")}.Err()
}
