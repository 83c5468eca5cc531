// Package ca is the mesh's own certificate authority: SPIFFE X.509 identities
// for workloads and for the xDS server.
//
// In: a state folder, join tokens, certificate requests. Out: X.509-SVIDs, the
// bundle of roots, TLS settings for both ends, and the gRPC service (Join,
// Renew) that the agent calls.
//
// Invariants: a private key of a workload never reaches this package, only
// requests do. A join token is stored as its hash and works once, also when
// two processes try at the same moment. A certificate says one identity, is no
// CA, and ends before its root does. A root is in the bundle for at least one
// full certificate lifetime before it signs and after it has stopped, so that
// no two workloads ever distrust each other because of a rotation. What is on
// disk is whole at every moment (written beside, synced, renamed) and readable
// by its owner only.
package ca
