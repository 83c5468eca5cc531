package eval

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/space"
)

// end is where one of a way's shares goes.
type end struct {
	at   destination
	door door
}

// meeting is a way with what one rule of each door so far says.
type meeting struct {
	way way
	at  []space.Outcome
}

func (m meeting) and(r space.Rule) meeting {
	out := meeting{way: m.way, at: append(slices.Clip(m.at), r.Then)}
	out.way.when, out.way.from = slices.Concat(m.way.when, r.When), slices.Concat(m.way.from, r.From)
	return out
}

// nobody reports whether all callers that a test of some lists are none to others: then nobody meets both.
func nobody(some, others []space.Test) bool {
	return slices.ContainsFunc(some, func(t space.Test) bool {
		if t.Dim != space.IdentityDim || t.Not || len(t.Any) == 0 {
			return false
		}
		return !slices.ContainsFunc(t.Any, func(p space.Pattern) bool {
			q := space.Request{From: p.Text}
			return p.Kind != space.Exact || !slices.ContainsFunc(others, func(o space.Test) bool { return o.Dim == space.IdentityDim && !o.Holds(q) })
		})
	})
}

// follow leads the way to where its shares go, in their order, all at once. A share that its
// destination's proxy answers stays in the outcome with that status; if that is so of all, the
// outcome is that answer, as refused makes it.
func (w way) follow(ends []end, acts []act, refused func(way, space.Outcome) way) space.List {
	doors := make([]int, len(ends)) // which share was the first to meet the same
	for i := range ends {
		for ends[doors[i]].at != ends[i].at || !w.imageOf(doors[i]).Equal(w.imageOf(i)) {
			doors[i]++
		}
	}
	partial, met := []meeting{{way: w}}, map[int]int{}
	for i, e := range ends {
		if doors[i] != i {
			continue
		}
		met[i] = len(met)
		var next []meeting
		for _, m := range partial {
			for _, r := range beforeDoor(w.imageOf(i), e.door.rules) {
				if !nobody(m.way.when, r.When) && !nobody(r.When, m.way.when) { // of many grants at each, most name others
					next = append(next, m.and(r))
				}
			}
		}
		partial = next
	}
	var out space.List
	for _, m := range partial {
		there := make([]space.Outcome, len(ends))
		for i := range ends {
			there[i] = m.at[met[doors[i]]]
		}
		out = append(out, m.way.arriving(ends, there, acts, refused)...)
	}
	return out
}

// arriving is where requests arrive whose shares meet these outcomes.
func (w way) arriving(ends []end, there []space.Outcome, acts []act, refused func(way, space.Outcome) way) space.List {
	shares, passed := slices.Clone(w.then.Shares), false
	for i := range shares {
		s := &shares[i]
		s.Status, s.Upgrades = there[i].Status, ends[i].door.passes(s.Upgrades)
		if s.Status != 0 && w.each != nil {
			s.Fields = w.each[i].fields(true)
		}
		passed = passed || s.Status == 0 && s.Weight > 0
	}
	if !passed && !slices.ContainsFunc(shares, func(s space.Share) bool { return s.Status != there[0].Status }) {
		return space.List{refused(w, there[0]).rule()}
	}
	w.then.Shares = shares
	return w.through(acts, func(w way) space.List { return space.List{w.rule()} })
}
