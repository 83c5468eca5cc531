// Package ledger remembers which proxy was sent what and what it answered.
//
// In: events of streams and the targets of classes. Out: a Status, and an answer
// to "has this commit arrived". A proxy is known by its authenticated identity
// together with the node id that it gave itself; the id is a label and decides
// nothing. The ledger is bounded: proxies that are gone are kept for a while, up
// to a number.
package ledger
