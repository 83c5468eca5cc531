// Package edge shows a gateway as visitors meet it: a release served by the real server,
// carried by the real agent with certificates from a folder or, in a pod, from Secrets of a
// real API server, run by the real Envoy, and asked over TLS by clients that know what a
// certificate is for. Tests only.
package edge
