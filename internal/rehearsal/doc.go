// Package rehearsal runs a mesh on real Envoys of this host and sends it requests.
//
// In: a compiler.Rehearsal and an Envoy. Out: what became of each request, and
// whether that is what the evaluator says (Differs).
//
// Every proxy class that the requests can meet has an Envoy process of its own,
// with the class's resources and a certificate of its identity from a throw-away
// authority. Only addresses are exchanged: proxies reach each other over Unix
// sockets, so that no port can be taken; doors are free ports of 127.0.0.1; behind
// every sidecar, and in the place of every external, stands an application that
// tells what it saw. Secrets stand in the bootstrap in place of an agent's socket.
//
// Whatever Start began ends with Stop. Nothing leaves the host.
package rehearsal
