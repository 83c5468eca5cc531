// Package gitrepo reads commits, trees and tags from a Git repository that
// nobody vouches for.
//
// In: the address of a repository (a local folder, https or ssh) and a ref.
// Out: a Snapshot: the refs at one moment and, by hash, commits, annotated
// tags, changed paths and a commit's files as fs.FS.
//
// What always holds: every object is read whole, within Limits, and its hash is
// computed again with collision detection before anything believes it, so that a
// Snapshot cannot change under its reader. Objects are parsed here, strictly;
// what is odd is a Refused with the reason, and nothing is ever checked out,
// filtered, followed or executed. Every size is known before it is read, and time
// and memory grow with it and no faster. Whatever does not answer is left at a
// deadline or a stop, and is a TransportError: a failure to read is never a verdict.
// Reading writes nothing; only WriteTag does.
package gitrepo
