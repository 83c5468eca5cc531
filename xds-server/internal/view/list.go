package view

import (
	"crypto/sha256"
	"encoding/base64"
	"iter"
	"slices"
	"strings"
	"sync"
)

// List is an immutable list of items, sorted by name, one per name. A nil List
// and an empty one differ: nil stands for a type that nobody asked for.
type List struct {
	items   []*Item
	version func() string
}

// NewList sorts items and makes a list of them. Of two items with one name the
// last wins. The slice belongs to the list afterwards.
func NewList(items []*Item) *List {
	slices.SortStableFunc(items, func(a, b *Item) int { return strings.Compare(a.Name, b.Name) })
	out := items[:0]
	for _, it := range items {
		if n := len(out); n > 0 && out[n-1].Name == it.Name {
			out[n-1] = it
			continue
		}
		out = append(out, it)
	}
	return sorted(out)
}

func sorted(items []*Item) *List {
	l := &List{items: items}
	l.version = sync.OnceValue(l.digest)
	return l
}

// Len is the number of items; 0 for a nil list.
func (l *List) Len() int {
	if l == nil {
		return 0
	}
	return len(l.items)
}

// All yields the items in order of their names.
func (l *List) All() iter.Seq[*Item] {
	return func(yield func(*Item) bool) {
		if l == nil {
			return
		}
		for _, it := range l.items {
			if !yield(it) {
				return
			}
		}
	}
}

// Encoded tells whether every item has its Body.
func (l *List) Encoded() bool {
	return l == nil || !slices.ContainsFunc(l.items, func(it *Item) bool { return it.Body == nil })
}

// Find returns the item with that name.
func (l *List) Find(name string) (*Item, bool) {
	if l == nil {
		return nil, false
	}
	i, ok := slices.BinarySearchFunc(l.items, name, func(it *Item, n string) int { return strings.Compare(it.Name, n) })
	if !ok {
		return nil, false
	}
	return l.items[i], true
}

// Bytes is about how much memory the list has to itself: its own slots, and the
// items that are made for one subscription or one client. Encoded items are shared.
func (l *List) Bytes() int {
	const slot, private = 8, 200
	n := slot * l.Len()
	for it := range l.All() {
		if it.Body == nil {
			n += private + len(it.Name)
		}
	}
	return n
}

// Version is a digest over all names and versions, 16 characters: the version
// of the whole list in the state-of-the-world protocol.
func (l *List) Version() string {
	if l == nil {
		return ""
	}
	return l.version()
}

func (l *List) digest() string {
	h := sha256.New()
	for _, it := range l.items {
		if it.Absent {
			continue
		}
		writeSized(h, it.Name)
		writeSized(h, it.Version)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:versionBytes])
}

// Same tells whether a client cannot tell the two lists apart: same names, same
// versions, nothing in doubt.
func (l *List) Same(m *List) bool {
	if l == m {
		return true
	}
	if l == nil || m == nil || len(l.items) != len(m.items) {
		return false
	}
	for i, a := range l.items {
		if b := m.items[i]; a != b && (a.Name != b.Name || a.Version != b.Version || a.Version == "" && a.Absent != b.Absent) {
			return false
		}
	}
	return true
}

// Equal tells whether the lists are the same for a client, and need the same.
func (l *List) Equal(m *List) bool {
	return l == m || l.Same(m) && slices.EqualFunc(l.items, m.items, func(a, b *Item) bool { return a == b || a.Needs.Equal(b.Needs) })
}

// named tells whether the list has every name of m.
func (l *List) named(m *List) bool {
	if l == m {
		return true
	}
	for p := range Pairs(m, l) {
		if p.New == nil {
			return false
		}
	}
	return true
}

// Pair is one name with its items in two lists; nil where a list lacks it.
type Pair struct{ Old, New *Item }

// Pairs yields every name of two lists in order. Names whose items are the same
// pointer are yielded as well.
func Pairs(old, new *List) iter.Seq[Pair] {
	return func(yield func(Pair) bool) {
		a, b := old.slice(), new.slice()
		for len(a) > 0 || len(b) > 0 {
			var p Pair
			switch {
			case len(b) == 0 || len(a) > 0 && a[0].Name < b[0].Name:
				p.Old, a = a[0], a[1:]
			case len(a) == 0 || b[0].Name < a[0].Name:
				p.New, b = b[0], b[1:]
			default:
				p.Old, p.New, a, b = a[0], b[0], a[1:], b[1:]
			}
			if !yield(p) {
				return
			}
		}
	}
}

func (l *List) slice() []*Item {
	if l == nil {
		return nil
	}
	return l.items
}

// With returns the list with items put in, each replacing the one of its name.
func (l *List) With(items ...*Item) *List {
	if len(items) == 0 && l != nil {
		return l
	}
	put := NewList(slices.Clone(items))
	out := make([]*Item, 0, l.Len()+len(items))
	for p := range Pairs(l, put) {
		if p.New != nil {
			out = append(out, p.New)
		} else {
			out = append(out, p.Old)
		}
	}
	return sorted(out)
}

// Without returns the list without those names; l itself if it has none of them.
func (l *List) Without(names []string) *List {
	if l == nil || len(names) == 0 {
		return l
	}
	drop := make(map[string]bool, len(names))
	for _, n := range names {
		if _, ok := l.Find(n); ok {
			drop[n] = true
		}
	}
	if len(drop) == 0 {
		return l
	}
	out := make([]*Item, 0, len(l.items)-len(drop))
	for _, it := range l.items {
		if !drop[it.Name] {
			out = append(out, it)
		}
	}
	return sorted(out)
}

// Doubt returns the list with those names in doubt, where base is what the
// client held before. What base did not have is marked fresh.
func (l *List) Doubt(names []string, base *List) *List {
	put := make([]*Item, 0, len(names))
	for _, n := range names {
		old, ok := base.Find(n)
		fresh := !ok || old.Absent || old.Fresh
		it := &Item{Name: n, Fresh: fresh}
		if ok {
			it.Needs = old.Needs
		}
		put = append(put, it)
	}
	return l.With(put...)
}

// Stale returns the list with those of the names that it has in doubt; l itself
// if it has none of them.
func (l *List) Stale(names []string) *List {
	var put []*Item
	for _, n := range names {
		if old, ok := l.Find(n); ok && !old.Absent {
			put = append(put, &Item{Name: n, Needs: old.Needs})
		}
	}
	if len(put) == 0 {
		return l
	}
	return l.With(put...)
}
