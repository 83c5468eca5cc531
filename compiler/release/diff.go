package release

import (
	"cmp"
	"maps"
	"slices"
)

// Change is one artifact that differs between two releases.
type Change struct {
	// Kind is "added", "removed" or "changed".
	Kind string `json:"kind"`
	Path string `json:"path"`
}

// Diff lists the artifacts whose bytes differ, sorted by path.
func Diff(before, after Release) []Change {
	var out []Change
	rest := after.files
	for _, b := range before.files {
		for ; len(rest) > 0 && rest[0].Path < b.Path; rest = rest[1:] {
			out = append(out, Change{"added", rest[0].Path})
		}
		switch {
		case len(rest) == 0 || rest[0].Path != b.Path:
			out = append(out, Change{"removed", b.Path})
			continue
		case rest[0].digest != b.digest:
			out = append(out, Change{"changed", b.Path})
		}
		rest = rest[1:]
	}
	for _, f := range rest {
		out = append(out, Change{"added", f.Path})
	}
	return out
}

// ResourceChange is one Envoy resource that differs between two releases.
type ResourceChange struct {
	Type TypeURL `json:"type"`
	Name string  `json:"name"`
	// Before and After are the digests; "" where there is no such resource.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Classes are the proxy classes for which it changes so, sorted by name.
	Classes []Class `json:"classes"`
}

// Kind is "added", "removed" or "changed".
func (c ResourceChange) Kind() string {
	switch {
	case c.Before == "":
		return "added"
	case c.After == "":
		return "removed"
	}
	return "changed"
}

// DiffResources lists the Envoy resources that differ, each once for all proxy
// classes for which it changes in the same way, in delivery order, then by name.
// A class that comes or goes comes or goes with all its resources.
func DiffResources(before, after Release) ([]ResourceChange, error) {
	type change struct{ typ, name, before, after string }
	found := map[change][]Class{}
	classes := append(before.Classes(), after.Classes()...)
	slices.SortFunc(classes, func(a, b Class) int { return cmp.Compare(a.String(), b.String()) })
	for _, c := range slices.Compact(classes) {
		old, err := before.digests(c)
		if err != nil {
			return nil, err
		}
		fresh, err := after.digests(c)
		if err != nil {
			return nil, err
		}
		all := maps.Clone(old)
		maps.Copy(all, fresh)
		for k := range all {
			if old[k] != fresh[k] {
				x := change{k.typ, k.name, old[k], fresh[k]}
				found[x] = append(found[x], c)
			}
		}
	}
	out := make([]ResourceChange, 0, len(found))
	for x, cs := range found {
		out = append(out, ResourceChange{x.typ, x.name, x.before, x.after, cs})
	}
	rank := func(c ResourceChange) int { return slices.Index(Types(), c.Type) }
	slices.SortFunc(out, func(a, b ResourceChange) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Before, b.Before), cmp.Compare(a.After, b.After))
	})
	return out, nil
}

type resourceKey struct{ typ, name string }

// digests are those of a class's resources; none if the release has no such class.
func (r Release) digests(c Class) (map[resourceKey]string, error) {
	out := map[resourceKey]string{}
	if _, ok := r.file(SnapshotPath(c)); !ok {
		return out, nil
	}
	s, err := r.Snapshot(c)
	if err != nil {
		return nil, err
	}
	for typ, rs := range s.Resources {
		for _, x := range rs {
			out[resourceKey{typ, x.Name}] = x.Digest
		}
	}
	return out, nil
}
