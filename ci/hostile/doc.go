// Package hostile is a client that tries to hurt the others, and the neighbour who
// must not feel it.
//
// In: the addresses of doors that lead through the same proxies (Door) and a seed.
// Out: every attack after which a neighbour lacked an answer (Finding), cut down to
// the bytes that matter, as a Go value and as a shell command.
//
// Attack number i of a seed is always the same: a valid request or HTTP/2
// connection, of which one or two parts are unusual, or bytes of no kind. What the
// sender of an attack gets back is not judged, only what his neighbours get. Every
// attack is bounded in bytes, connections and time, and goes to the addresses of
// the doors alone.
package hostile
