// Package proxyless shows gRPC programs without a proxy in a mesh: a release served by the real server, carried
// by the real agent, understood by gRPC's own xDS client and server, which call each other and what is behind a
// real Envoy. Tests only.
package proxyless
