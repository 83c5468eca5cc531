// Package keyring keeps the roots of an authority: their certificates and keys, made,
// shared by replicas, replaced in time.
//
// In: a place for one text (kept.Store), lifetimes, a clock. Out: the roots to be trusted
// now, and signatures of the one that signs now. No key leaves the package but into that
// place.
//
// What always holds, for any number of replicas with one place, however they run, stop,
// sleep and are cut off from it, and whatever their clocks say: one that differs from the
// place's by more than an hour (a 48th of a root's life, if that is less) is not believed.
//
//   - They have the same roots: of those that make the first one, or the next one, at the
//     same moment one does, and the others take it.
//   - A root is trusted from its making on, and signs later by one certificate's life and a
//     twelfth of a root's (Lifetimes). A certificate never outlives the moment until which
//     the replica that signs it knows of every root that may sign, which is that long, less
//     what clocks may differ by, after it last read them (by the place's clock, where its own
//     is ahead). So whoever got certificate and roots
//     from a replica trusts whatever any replica signs, as long as the certificate lasts.
//   - A root that has stopped signing stays trusted until what it signed has ended by all
//     clocks.
//   - A replica that cannot read the roots goes on with those that it has, makes none, and
//     signs until the moment above. What it finds instead of roots, or roots of somebody
//     else, it tells and leaves alone.
package keyring
