// Package archtest holds the repository to its layering.
//
// In: what the go command says about the packages of this module. Out: test
// failures. Its lattice is the literal in lattice_test.go: who may import what. A
// package without a row there is a failure, so that a new package is placed
// before it is used. Nothing is skipped.
package archtest
