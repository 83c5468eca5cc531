// Package compiler turns intent into a release: the diagram of ARCHITECTURE.md
// as code.
//
//	*.cue ─source─▶ Tree ─intent─▶ Intent ─resolve─▶ Mesh ─target×N─▶ Release
//
// In: a file system with intent, an environment's name and the compile date.
// Out: a Program, from which releases, decisions, graphs and comparisons are
// made. Everything here is a pure function of its arguments: no clock, network,
// environment variable or map order shows in any result.
package compiler
