// Package guard evaluates Rego policies over a mesh.
//
// In: the shipped policies and a user's own (both file systems), and one Input.
// Out: findings with the user's positions, and how many policies gave an answer.
//
// What always holds: a policy cannot reach the network, the clock, the
// environment or a source of randomness; one that meets an error, is undefined,
// returns something that is no finding or takes too long counts as a denial; no
// policy at all is an error; the same input gives the same findings. A user's
// policy stands beside the shipped ones and cannot change what they say.
package guard
