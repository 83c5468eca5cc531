package plan

import "slices"

// Policies adds what becomes of the rules that lie beside the intent: the digest of each
// file by its name, on both sides. What another text of a rule lets through nobody can
// say, so that a change of one is a weakening, like its end; a rule that is new is not.
func (p *Plan) Policies(before, after map[string]string) {
	names := map[string]bool{}
	for _, side := range []map[string]string{before, after} {
		for name := range side {
			names[name] = true
		}
	}
	c := &comparison{}
	for _, name := range sortedKeys(names) {
		b, was := before[name]
		a, is := after[name]
		change := piece{class: Weakening, kind: KindPolicy, scope: "policy " + name}
		switch {
		case !is:
			change.says = Change{What: PolicyGone, Before: []string{b}}
		case !was:
			change.class, change.says = Neutral, Change{What: PolicyNew, After: []string{a}}
		case a != b:
			change.says = moved(PolicyChanged, b, a)
		default:
			continue
		}
		c.add(change)
	}
	for _, l := range c.merged() {
		p.Verdict = Worst(p.Verdict, l.Class)
		i := slices.IndexFunc(p.Lines, func(o Line) bool { return rank(o.Class) > rank(l.Class) })
		if i < 0 {
			i = len(p.Lines)
		}
		p.Lines = slices.Insert(p.Lines, i, l)
	}
}
