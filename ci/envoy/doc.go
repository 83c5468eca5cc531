// Package envoy puts the compiled configuration and the evaluator to the test on
// real Envoys: for random meshes and requests, what Envoy does must be what the
// evaluator says. There is only a test here.
//
// In: a seed (-seed, printed by every run; 0 for a fresh one) and a number of
// meshes (-meshes). Out: each disagreement with its mesh and request. Disagreements
// that were found stand as cases in testdata and are tried first.
package envoy
