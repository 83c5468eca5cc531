package kubernetes

// Lowering says what objects one feature needs. Only Nothing makes one: so far the
// proxies do all that features say. The zero Lowering counts as refused.
type Lowering struct {
	nothing string
}

// Column maps the name of a trait to its lowering.
type Column map[string]Lowering

// Nothing says that the feature needs no object, and why not.
func Nothing(why string) Lowering { return Lowering{nothing: why} }

// Support says how far the target goes ("nothing" or "refused") and why. The support
// table is generated from it.
func (l Lowering) Support() (state, why string) {
	if l.nothing == "" {
		return "refused", "nobody said what it needs"
	}
	return "nothing", l.nothing
}
