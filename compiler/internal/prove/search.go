package prove

import "slices"

// search looks for a request in a box (both rules match) outside all clauses
// (rules that must not match). Domains are bit sets per single dimension; a
// header's tests are true or false, and a truth assignment is possible exactly
// if every true test keeps an atom that no false test covers.
type search struct {
	p     *problem
	steps int
	over  bool
	dims  []bitset
	value []int8 // per pred: 0 open, 1 true, -1 false
	trail []int  // assigned preds
}

func (p *problem) newSearch() *search {
	return &search{p: p, steps: p.limits.Steps, dims: make([]bitset, len(p.dims)), value: make([]int8, len(p.preds))}
}

// budgetErr is the error after a search that ran over its steps.
func (s *search) budgetErr() error {
	if !s.over {
		return nil
	}
	return &BudgetError{Scope: s.p.scope, Budget: "too many search steps"}
}

// find reports whether a request matches all of box and none of not. On true
// the state of s is the answer, until the next find.
func (s *search) find(box []*coded, not []*coded) bool {
	s.undo(0)
	clear(s.dims)
	for _, r := range box {
		if r.never || !s.enter(r) {
			return false
		}
	}
	return s.solve(not)
}

// enter asserts every condition of r.
func (s *search) enter(r *coded) bool {
	for i, d := range r.dims {
		if d != nil && !s.restrict(i, d) {
			return false
		}
	}
	for _, l := range r.lits {
		if !s.assign(l.pred, l.want) {
			return false
		}
	}
	return true
}

func (s *search) restrict(dim int, to bitset) bool {
	if s.dims[dim] != nil {
		to = s.dims[dim].and(to)
	}
	s.dims[dim] = to
	return !to.empty()
}

func (s *search) exclude(dim int, set bitset) bool {
	if s.dims[dim] == nil {
		s.dims[dim] = fullBits(len(s.p.atoms[dim].witness))
	}
	s.dims[dim] = s.dims[dim].minus(set)
	return !s.dims[dim].empty()
}

func (s *search) assign(pred int, want bool) bool {
	v := int8(-1)
	if want {
		v = 1
	}
	if s.value[pred] != 0 {
		return s.value[pred] == v
	}
	s.value[pred] = v
	s.trail = append(s.trail, pred)
	return s.possible(s.p.preds[pred].header)
}

// possible reports whether every true test of a header has a line left.
func (s *search) possible(header int) bool {
	covered := s.covered(header)
	for _, t := range s.trail {
		pr := &s.p.preds[t]
		if pr.header == header && s.value[t] > 0 && pr.in.within(covered) {
			return false
		}
	}
	return true
}

// covered is what the false tests of a header exclude for every line.
func (s *search) covered(header int) bitset {
	out := newBits(len(s.p.header[header].witness))
	for _, t := range s.trail {
		if pr := &s.p.preds[t]; pr.header == header && s.value[t] < 0 {
			out.orInto(pr.in)
		}
	}
	return out
}

func (s *search) undo(to int) {
	for _, t := range s.trail[to:] {
		s.value[t] = 0
	}
	s.trail = s.trail[:to]
}

// condition is one condition of a rule: a dimension, or a literal.
type condition struct {
	dim int // -1: lit
	lit literal
}

// open looks at a clause: hit says that one of its conditions has failed; else
// n is the number of its undecided conditions and first the first of them.
func (s *search) open(r *coded) (first condition, n int, hit bool) {
	for i, d := range r.dims {
		if d == nil {
			continue
		}
		switch now := s.dims[i]; {
		case now == nil:
			if d.count() == len(s.p.atoms[i].witness) {
				continue
			}
		case !now.meets(d):
			return condition{}, 0, true
		case now.within(d):
			continue
		}
		if n == 0 {
			first = condition{dim: i}
		}
		n++
	}
	for _, l := range r.lits {
		switch v := s.value[l.pred]; {
		case v == 0:
			if n == 0 {
				first = condition{dim: -1, lit: l}
			}
			n++
		case (v > 0) != l.want:
			return condition{}, 0, true
		}
	}
	return first, n, false
}

// falsify makes condition c of r fail.
func (s *search) falsify(c condition, r *coded) bool {
	if c.dim >= 0 {
		return s.exclude(c.dim, r.dims[c.dim])
	}
	return s.assign(c.lit.pred, !c.lit.want)
}

// affirm makes condition c of r hold.
func (s *search) affirm(c condition, r *coded) bool {
	if c.dim >= 0 {
		return s.restrict(c.dim, r.dims[c.dim])
	}
	return s.assign(c.lit.pred, c.lit.want)
}

// propagate removes clauses that hold and forces those with one way left.
// It returns the clauses that are still open and the one with the fewest ways.
func (s *search) propagate(clauses []*coded) (rest []*coded, best int, ok bool) {
	for {
		forced := false
		rest, best = nil, -1
		bestOpen := 0
		for _, r := range clauses {
			if s.steps--; s.steps < 0 {
				s.over = true
				return nil, -1, false
			}
			if r.never {
				continue
			}
			c, n, hit := s.open(r)
			switch {
			case hit:
			case n == 0:
				return nil, -1, false
			case n == 1:
				if !s.falsify(c, r) {
					return nil, -1, false
				}
				forced = true
			default:
				if best < 0 || n < bestOpen {
					best, bestOpen = len(rest), n
				}
				rest = append(rest, r)
			}
		}
		if !forced {
			return rest, best, true
		}
		clauses = rest
	}
}

// solve satisfies all clauses or reports that it cannot be done. Branching
// learns: once "c fails" is refuted, c holds for the rest of the search.
func (s *search) solve(clauses []*coded) bool {
	for {
		rest, best, ok := s.propagate(clauses)
		if !ok {
			return false
		}
		if best < 0 {
			return true
		}
		r := rest[best]
		c, _, _ := s.open(r)
		dims, mark := slices.Clone(s.dims), len(s.trail)
		if s.falsify(c, r) && s.solve(rest) {
			return true
		}
		if s.over {
			return false
		}
		s.undo(mark)
		copy(s.dims, dims)
		if !s.affirm(c, r) {
			return false
		}
		clauses = rest
	}
}
