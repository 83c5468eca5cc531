package view

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"
)

// Names is what a client subscribed to in one type: an immutable, sorted list
// of names, or everything, or both (everything, and told if a name is missing).
type Names struct {
	All   bool
	names []string
}

// NewNames sorts names, drops repeats, and makes a subscription of them. The
// slice belongs to the subscription afterwards.
func NewNames(all bool, names []string) *Names {
	slices.Sort(names)
	return &Names{All: all, names: slices.Compact(names)}
}

// Len is the number of names, not counting "everything".
func (n *Names) Len() int {
	if n == nil {
		return 0
	}
	return len(n.names)
}

// Bytes is about how much memory the subscription takes, with the items that stand
// for names that do not exist.
func (n *Names) Bytes() int {
	const each = 216
	size := each * n.Len()
	for _, s := range n.List() {
		size += len(s)
	}
	return size
}

// List returns the names, sorted. Read only.
func (n *Names) List() []string {
	if n == nil {
		return nil
	}
	return n.names
}

// Has tells whether the name itself was subscribed to.
func (n *Names) Has(name string) bool {
	if n == nil {
		return false
	}
	_, ok := slices.BinarySearch(n.names, name)
	return ok
}

// Key is equal for equal subscriptions, and for no others whatever is in a name:
// streams of different proxies share what has one key.
func (n *Names) Key() [sha256.Size]byte {
	h := sha256.New()
	kind := "names"
	if n.All {
		kind = "everything"
	}
	writeSized(h, kind)
	for _, s := range n.names {
		writeSized(h, s)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// writeSized writes a text so that its end does not depend on what is in it.
func writeSized(h hash.Hash, s string) {
	var size [binary.MaxVarintLen64]byte
	h.Write(size[:binary.PutUvarint(size[:], uint64(len(s)))])
	h.Write([]byte(s))
}

// Restrict returns the part of l that the subscription covers. A name that was
// asked for and that l lacks is in the result as an absent item, so that the
// client can be told. A subscription to everything alone returns l itself.
func (l *List) Restrict(n *Names) *List {
	if n == nil || l == nil {
		return nil
	}
	if n.All && len(n.names) == 0 {
		return l
	}
	out := make([]*Item, 0, len(n.names))
	items, names := l.items, n.names
	for len(items) > 0 || len(names) > 0 {
		switch {
		case len(items) == 0 || len(names) > 0 && names[0] < items[0].Name:
			out, names = append(out, &Item{Name: names[0], Absent: true}), names[1:]
		case len(names) == 0 || items[0].Name < names[0]:
			if n.All {
				out = append(out, items[0])
			}
			items = items[1:]
		default:
			out, items, names = append(out, items[0]), items[1:], names[1:]
		}
	}
	return sorted(out)
}

// Keep returns the items of l that the subscription covers, and no absent ones.
func (l *List) Keep(n *Names) *List {
	if l == nil || n == nil {
		return nil
	}
	if n.All {
		return l
	}
	out := make([]*Item, 0, len(l.items))
	for _, it := range l.items {
		if n.Has(it.Name) {
			out = append(out, it)
		}
	}
	if len(out) == len(l.items) {
		return l
	}
	return sorted(out)
}
