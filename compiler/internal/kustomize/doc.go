// Package kustomize lets a repository of intent patch the objects that the compiler
// makes, with plain kustomize files; it is the only door to kustomize.
//
// In: objects, and the files of the folder kustomize/ and of the chosen environment's
// folder of that name. Out: the objects as they are afterwards, those that the files
// add among them, or problems at the files' lines.
//
// What always holds: the result is a function of the input alone. kustomize would fetch
// what a file names from the network, start git, and change state that later renders
// see, so it never meets a file of the user: every file is read here, by a closed list
// of words, and what kustomize gets is written anew from what was read, in memory,
// without a path or an address of the user's choosing. Whoever does not vouch for the
// files renders in a child with limits all the same. A panic is a problem.
package kustomize
