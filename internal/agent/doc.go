// Package agent is what runs beside every Envoy: it holds the workload's
// identity and connects the proxy to the control plane.
//
// In: a server address, a join token (once), a state folder. Out: an X.509-SVID
// kept fresh, SDS for Envoy on a Unix socket, ADS carried to the server over
// mutual TLS, an Envoy bootstrap, optionally Envoy as a child, a readiness and
// a metrics page.
//
// Invariants: the private key is made here and leaves only over the SDS socket
// to Envoy. ADS messages are passed on byte for byte: this package links no
// Envoy type beyond discovery and secrets. A stream to Envoy ends when the one
// to the server ends, with the server's status. The certificate is renewed
// before half of its life. A failure to renew never takes away what is still
// valid; Envoy keeps its configuration whatever happens to the agent.
package agent
