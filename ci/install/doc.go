// Package install tries the installation of meshc in a real cluster, as its users would
// have it: the objects of `meshc install` on a real API server, both servers as pods with
// their own accounts, and what those accounts ask for held against what they may do.
//
// In: the programs of this repository. Out: test failures.
package install
