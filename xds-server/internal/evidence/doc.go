// Package evidence remembers what became of each content at each proxy.
//
// In: receipts, which are facts about one proxy of one class: it confirmed a
// content as a whole, refused a part of it, or did not answer in time. Out: for a
// class, what each of its proxies said last of each content. A Set is a value that
// two servers can merge; a Log is a Set with a file, so that a restart forgets
// nothing.
//
// What always holds:
//   - Merging is commutative, associative and idempotent: servers that exchanged
//     everything agree, in whatever order they did it.
//   - A proxy is an Instance of its class: what its certificate says, and nothing
//     that it says itself. It cannot be many by opening streams, by calling itself
//     another node, or by renewing its certificate.
//   - A Set is bounded, whatever proxies do. Of a class with more instances than
//     fit, those stay whose digests are smallest: a sample that nobody can steer,
//     and the same sample on every server.
package evidence
