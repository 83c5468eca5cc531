// Package view says what a proxy class sees.
//
// In: an approved release and a class. Out: a Set, which holds for each resource
// type a sorted list of names with their digests. A Set holds nothing that is not
// in the release, apart from live endpoints that the caller puts in with
// WithEndpoints for the clusters that the release names.
//
// Lists and items never change once they are built. Equal contents mostly have
// equal pointers, so that streams in the same state share their frames.
package view
