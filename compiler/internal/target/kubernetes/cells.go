package kubernetes

import (
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
)

// Lowering says what objects one feature needs. Only Nothing makes one: so far the
// proxies do all that features say. The zero Lowering counts as refused.
type Lowering struct {
	nothing string
	lacks   func(trait.Value) (why, fix string)
}

// Cell is what the target knows of one feature.
type Cell struct {
	Lowering Lowering
	// Uses returns the destinations to which the value sends requests;
	// nil means none.
	Uses func(trait.Value) []model.Target
}

// Column maps the name of a trait to its cell.
type Column map[string]Cell

// Nothing says that the feature needs no object, and why not.
func Nothing(why string) Lowering { return Lowering{nothing: why} }

// NothingBut is Nothing for a feature some of whose values need what no pod has: lacks says of a
// value what that is, "" for nothing, and the way out.
func NothingBut[V trait.Value](why string, lacks func(V) (why, fix string)) Lowering {
	return Lowering{nothing: why, lacks: func(v trait.Value) (string, string) { return lacks(v.(V)) }}
}

// Support says how far the target goes ("nothing" or "refused") and why. The support
// table is generated from it.
func (l Lowering) Support() (state, why string) {
	if l.nothing == "" {
		return "refused", "nobody said what it needs"
	}
	return "nothing", l.nothing
}
