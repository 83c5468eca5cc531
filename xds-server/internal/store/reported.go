package store

import (
	"strings"

	"meshc.dev/meshc/xds-server/internal/view"
)

// reportedKey is what clients report, beside what they are to have.
type reportedKey struct {
	target  *view.List
	version string
}

// Reported is the list of what a client says that it has, by name and version, as
// far as it subscribed to it. target is what it is to have (nil if nothing): an
// item of it that the client has is the same item in the result. Clients that
// report the same get one list, and those that have everything get target itself,
// so that what follows from a list is made once for all of them. Texts are copied:
// those of versions are parts of a whole request.
func (s *Store) Reported(target *view.List, n *view.Names, versions map[string]string) *view.List {
	items, found, same := make([]*view.Item, 0, len(versions)), 0, target.Len() == len(versions)
	for it := range target.All() {
		v, ok := versions[it.Name]
		if !ok {
			continue
		}
		found++
		if it.Absent || it.Version != v {
			it, same = &view.Item{Name: it.Name, Version: strings.Clone(v)}, false
		}
		items = append(items, it)
	}
	if target != nil && same && found == len(versions) {
		return target
	}
	if found < len(versions) {
		for name, v := range versions {
			if _, ok := target.Find(name); !ok && (n.All || n.Has(name)) {
				items = append(items, &view.Item{Name: strings.Clone(name), Version: strings.Clone(v)})
			}
		}
	}
	l := view.NewList(items)
	return s.reported.Do(reportedKey{target, l.Version()}, func() *view.List { return l })
}
