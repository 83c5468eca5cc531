package prove

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/space"
)

// Set is a set of one dimension's values in the words of patterns that somebody wrote:
// what In takes, and what Wide takes without what Except takes. The zero Set is empty.
type Set struct {
	In     []space.Pattern `json:"in,omitempty"`
	Wide   []space.Pattern `json:"wide,omitempty"`
	Except []space.Pattern `json:"except,omitempty"`
	// All says that every value takes the place of Wide.
	All bool `json:"all,omitempty"`
	// Rough says that of Except only a part is left out, because no pattern says which.
	Rough bool `json:"rough,omitempty"`
}

// Everything reports whether s holds every value.
func (s Set) Everything() bool { return s.All && len(s.Except) == 0 }

// cover words target by candidates, the widest first.
func (a *atoms) cover(target bitset, candidates []space.Pattern) Set {
	all := fullBits(len(a.witness))
	if all.within(target) {
		return Set{All: true}
	}
	chosen := a.widest(candidates, target, target)
	rest := target.minus(a.domainOf(chosen))
	if rest.empty() {
		return Set{In: a.needed(chosen, target)}
	}
	wide, ok := a.narrowest(candidates, rest, target)
	out, whole := Set{All: !ok}, all
	if ok {
		out.Wide, whole = wide, a.domainOf(wide)
	}
	tooMuch := whole.minus(target)
	left := all.minus(rest)
	out.Except = a.widest(candidates, left, tooMuch)
	if !tooMuch.within(a.domainOf(out.Except)) {
		out.Except, out.Rough = a.meeting(candidates, tooMuch, rest), true
	}
	out.Except = a.needed(out.Except, tooMuch)
	// What of the target lies outside, or in an exception, is said by itself.
	missing := target.minus(whole.minus(a.domainOf(out.Except)))
	out.In = a.needed(a.widest(chosen, target, missing), missing)
	return out
}

// widest lists the patterns within allowed that take some of target, without those
// that another one holds.
func (a *atoms) widest(candidates []space.Pattern, allowed, target bitset) []space.Pattern {
	var fitting, many []space.Pattern
	for _, p := range candidates {
		in := a.in[a.number[p]]
		if !in.within(allowed) || !in.meets(target) {
			continue
		}
		fitting = append(fitting, p)
		if p.Kind != space.Exact { // no other value is held by one
			many = append(many, p)
		}
	}
	return slices.DeleteFunc(fitting, func(p space.Pattern) bool {
		in := a.in[a.number[p]]
		return slices.ContainsFunc(many, func(o space.Pattern) bool {
			other := a.in[a.number[o]]
			return o != p && in.within(other) && (!other.within(in) || comparePatterns(o, p) < 0)
		})
	})
}

// narrowest are patterns that together take all of rest, each of them the one that takes
// the least beside what is allowed; false if there is none for some value.
func (a *atoms) narrowest(candidates []space.Pattern, rest, allowed bitset) ([]space.Pattern, bool) {
	var out []space.Pattern
	ok := true
	rest.each(func(i int) bool {
		best, least := space.Pattern{}, -1
		for _, p := range candidates {
			in := a.in[a.number[p]]
			if !in.has(i) {
				continue
			}
			if n := in.minus(allowed).count()*len(a.witness) + in.count(); least < 0 || n < least {
				best, least = p, n
			}
		}
		ok = least >= 0
		out = append(out, best)
		return ok
	})
	slices.SortFunc(out, comparePatterns)
	return a.needed(slices.Compact(out), rest), ok
}

// meeting lists the smallest patterns that take some of target and not all of rest.
func (a *atoms) meeting(candidates []space.Pattern, target, rest bitset) []space.Pattern {
	return slices.DeleteFunc(slices.Clone(candidates), func(p space.Pattern) bool {
		in := a.in[a.number[p]]
		return !in.meets(target) || rest.within(in)
	})
}

// needed drops patterns without which the others take as much of target.
func (a *atoms) needed(ps []space.Pattern, target bitset) []space.Pattern {
	times := make([]int, len(a.witness))
	count := func(p space.Pattern, by int) (alone bool) {
		a.in[a.number[p]].and(target).each(func(i int) bool {
			times[i] += by
			alone = alone || times[i] == 0
			return true
		})
		return alone
	}
	for _, p := range ps {
		count(p, 1)
	}
	var out []space.Pattern
	for _, p := range slices.Backward(ps) {
		if count(p, -1) {
			count(p, 1)
			out = append(out, p)
		}
	}
	slices.Reverse(out)
	return out
}

// domainOf is the union of patterns; none take nothing.
func (a *atoms) domainOf(ps []space.Pattern) bitset {
	d := newBits(len(a.witness))
	for _, p := range ps {
		d.orInto(a.in[a.number[p]])
	}
	return d
}

// Simplify rewrites a conjunction: per single-valued dimension at most two tests, in
// the patterns that say the same with the fewest words. Tests of headers and those
// that no automaton can say stay as they are. False says that no value of some dimension
// is in all of its tests.
func Simplify(when []space.Test, lim Limits) ([]space.Test, bool) {
	lim = lim.withDefaults()
	var out []space.Test
	done := map[space.Dim]bool{}
	for _, t := range when {
		dim, _ := t.Dim.Of()
		if dim.Lines || done[t.Dim] {
			if dim.Lines && !slices.ContainsFunc(out, func(o space.Test) bool { return o.Key() == t.Key() }) {
				out = append(out, t)
			}
			continue
		}
		done[t.Dim] = true
		tests, possible := conjunction(t.Dim, when, lim)
		if !possible {
			return when, false
		}
		out = append(out, tests...)
	}
	return out, true
}

// conjunction is Simplify for one dimension.
func conjunction(d space.Dim, when []space.Test, lim Limits) ([]space.Test, bool) {
	own := slices.DeleteFunc(slices.Clone(when), func(t space.Test) bool { return t.Dim != d })
	if len(own) == 1 && len(own[0].Any) < 2 {
		return own, true
	}
	var patterns []space.Pattern
	for _, t := range own {
		patterns = append(patterns, t.Any...)
		for _, p := range t.Any { // what is left of /a and below is /a alone
			if p.Kind == space.Segment {
				patterns = append(patterns, space.Pattern{Kind: space.Exact, Text: p.Text})
			}
		}
	}
	slices.SortFunc(patterns, comparePatterns)
	patterns = slices.Compact(patterns)
	dim, _ := d.Of()
	a, err := lim.Cuts.atomize(patterns, nil, dim.Universe(patterns), lim.States)
	if err != nil {
		return own, true
	}
	target := fullBits(len(a.witness))
	for _, t := range own {
		in := a.domain(t.Any)
		if t.Not {
			in = fullBits(len(a.witness)).minus(in)
		}
		target = target.and(in)
	}
	if target.empty() {
		return own, false
	}
	s := a.cover(target, patterns)
	if s.Rough || len(s.Wide) > 0 && len(s.In) > 0 {
		return own, true // two unions are no conjunction
	}
	var out []space.Test
	if in := slices.Concat(s.In, s.Wide); len(in) > 0 {
		out = append(out, space.Test{Dim: d, Any: in})
	}
	if len(s.Except) > 0 {
		out = append(out, space.Test{Dim: d, Any: s.Except, Not: true})
	}
	return out, true
}
