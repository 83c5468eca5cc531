package prove

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/space"
)

// Hit is a rule that decides some request of a region.
type Hit struct {
	// Index is the rule's place in the list.
	Index int
	Rule  space.Rule
	// Except are earlier rules that take part of the region and the rule.
	Except []space.Rule
	// Witness is a request of the region that the rule decides.
	Witness space.Request
}

// Reach lists the rules of l that decide some request of the region when (all
// tests hold), in order. The region is exactly the union of what they take.
func Reach(scope space.Scope, l space.List, when []space.Test, lim Limits) ([]Hit, error) {
	region := space.Rule{When: when}
	p, err := newProblem(scope, lim, l, space.List{region})
	if err != nil {
		return nil, err
	}
	box := p.code(region)
	rules := make([]coded, len(l))
	for i, r := range l {
		rules[i] = p.code(r)
	}
	s, prefer := p.newSearch(), p.preferences()
	var out []Hit
	for i := range rules {
		if !meet(&rules[i], &box) {
			continue
		}
		not := meeting(rules[:i], &rules[i], &box)
		if !s.find([]*coded{&rules[i], &box}, not) {
			if err := s.budgetErr(); err != nil {
				return nil, err
			}
			continue
		}
		h := Hit{Index: i, Rule: l[i], Witness: prefer.request(s)}
		for _, r := range not[:min(len(not), MaxExcept)] {
			h.Except = append(h.Except, r.rule)
		}
		out = append(out, h)
	}
	return out, nil
}

func meeting(rules []coded, with ...*coded) []*coded {
	var out []*coded
	for i := range rules {
		r := &rules[i]
		if !slices.ContainsFunc(with, func(w *coded) bool { return !meet(r, w) }) {
			out = append(out, r)
		}
	}
	return out
}

// Never proves that no request of the region when has that verdict in l. If one
// has, it returns such a request, the rule that decides it, and true.
func Never(scope space.Scope, l space.List, when []space.Test, verdict space.Verdict, lim Limits) (Hit, bool, error) {
	hits, err := Reach(scope, l, when, lim)
	if err != nil {
		return Hit{}, false, err
	}
	for _, h := range hits {
		if h.Rule.Then.Verdict == verdict {
			return h, true, nil
		}
	}
	return Hit{}, false, nil
}

// Shadow is a rule that decides no request.
type Shadow struct {
	// Index is the rule's place in the list.
	Index int
	// By are the places of earlier rules that together take all that it would
	// match, none of which could be left out. Empty: its own conditions exclude
	// each other.
	By []int
}

// Shadowed lists the rules of l that decide no request, in order. The closing
// rule of a list (404, or the denial) is often one of them: callers skip it.
func Shadowed(scope space.Scope, l space.List, lim Limits) ([]Shadow, error) {
	p, err := newProblem(scope, lim, l)
	if err != nil {
		return nil, err
	}
	rules := make([]coded, len(l))
	place := make(map[*coded]int, len(l))
	for i, r := range l {
		rules[i] = p.code(r)
		place[&rules[i]] = i
	}
	s := p.newSearch()
	var out []Shadow
	for i := range rules {
		not := meeting(rules[:i], &rules[i])
		if s.find([]*coded{&rules[i]}, not) {
			continue
		}
		if err := s.budgetErr(); err != nil {
			return nil, err
		}
		by := s.needed(&rules[i], not)
		if err := s.budgetErr(); err != nil {
			return nil, err
		}
		sh := Shadow{Index: i}
		for _, r := range by {
			sh.By = append(sh.By, place[r])
		}
		out = append(out, sh)
	}
	return out, nil
}

// needed drops from a refutation every rule without which it still holds.
func (s *search) needed(r *coded, not []*coded) []*coded {
	kept := slices.Clone(not)
	for i := len(kept) - 1; i >= 0; i-- {
		without := slices.Delete(slices.Clone(kept), i, i+1)
		if !s.find([]*coded{r}, without) && !s.over {
			kept = without
		}
	}
	return kept
}
