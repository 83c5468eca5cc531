package prove

import (
	"cmp"
	"slices"
)

// Group gathers changes that read alike: equal keys, within and across scopes.
// Groups are ordered by number of changes, descending, then by key; inside a
// group the order of cs is kept.
func Group(cs []Change, key func(Change) string) [][]Change {
	byKey := map[string][]Change{}
	for _, c := range cs {
		k := key(c)
		byKey[k] = append(byKey[k], c)
	}
	keys := make([]string, 0, len(byKey))
	for k := range byKey {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(byKey[b]), len(byKey[a])), cmp.Compare(a, b))
	})
	out := make([][]Change, 0, len(keys))
	for _, k := range keys {
		out = append(out, byKey[k])
	}
	return out
}
