// Package pods runs compiled sidecars where redirection takes the traffic: network
// namespaces as pods, each with the rules of `meshc-agent redirect` and a real Envoy as
// the proxy's user, and one as their node, with Services' addresses. There is only a
// test here; it takes root, and ip(8), nft(8) and setpriv(1).
package pods
