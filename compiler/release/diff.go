package release

import (
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
	all := maps.Clone(before.manifest.Artifacts)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, after.manifest.Artifacts)
	var out []Change
	for _, p := range slices.Sorted(maps.Keys(all)) {
		b, inB := before.manifest.Artifacts[p]
		a, inA := after.manifest.Artifacts[p]
		switch {
		case !inB:
			out = append(out, Change{"added", p})
		case !inA:
			out = append(out, Change{"removed", p})
		case a != b:
			out = append(out, Change{"changed", p})
		}
	}
	return out
}
