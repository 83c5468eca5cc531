package prove

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/space"
)

// Compare finds what differs between the effective outcomes of two decisions of
// one scope: one Change for each pair (deciding rule before, deciding rule
// after) that some request has and whose outcomes differ, in the order of the
// rules. No change means that no request at all has another outcome. The
// scope's name and protocol are not compared.
func Compare(before, after space.Decision, lim Limits) ([]Change, error) {
	return CompareLists(after.Scope, before.Effective, after.Effective, lim)
}

// CompareLists is Compare for two lists of one scope. Requests that no rule
// takes are not found.
func CompareLists(scope space.Scope, before, after space.List, lim Limits) ([]Change, error) {
	if equalLists(before, after) {
		return nil, nil
	}
	before, after = closed(before), closed(after)
	p, err := newProblem(scope, lim, before, after)
	if err != nil {
		return nil, err
	}
	c := &comparison{p: p, a: p.list(before), b: p.list(after)}
	c.search = p.newSearch()
	c.byPath = [2]pathIndex{c.indexPaths(c.a), c.indexPaths(c.b)}
	c.common()
	for i := range c.a {
		if err := c.row(i); err != nil {
			return nil, err
		}
	}
	return c.changes, nil
}

// closed ends a list with a rule that takes the rest.
func closed(l space.List) space.List {
	if n := len(l); n > 0 && len(l[n-1].When) == 0 {
		return l
	}
	return append(slices.Clip(l), space.Rule{Then: space.NotRouted()})
}

func equalLists(a, b space.List) bool {
	return slices.EqualFunc(a, b, func(x, y space.Rule) bool { return x.Key() == y.Key() })
}

// comparison is one run of Compare.
type comparison struct {
	p      *problem
	a, b   []coded
	search *search
	byPath [2]pathIndex
	// kept marks rules of a and b that stand in a common subsequence: two kept
	// rules cannot decide one request unless they are the same rule.
	keptA, keptB []bool
	prefer       *preferences
	changes      []Change
}

// pathIndex lists rules by path atom; any are those without a path.
type pathIndex struct {
	dim int // -1: no rule tests the path
	of  [][]int32
	any []int32
}

func (c *comparison) indexPaths(rules []coded) pathIndex {
	x := pathIndex{dim: slices.Index(c.p.dims, space.PathDim)}
	if x.dim >= 0 {
		x.of = make([][]int32, len(c.p.atoms[x.dim].witness))
	}
	for i := range rules {
		if x.dim < 0 || rules[i].dims[x.dim] == nil {
			x.any = append(x.any, int32(i))
			continue
		}
		rules[i].dims[x.dim].each(func(atom int) bool {
			x.of[atom] = append(x.of[atom], int32(i))
			return true
		})
	}
	return x
}

// overlapping lists, in order, the first limit rules that may share a path with domain.
func (x pathIndex) overlapping(domain bitset, limit int) []int32 {
	var out []int32
	if domain == nil || x.dim < 0 || 2*domain.count() > len(x.of) {
		out = make([]int32, limit)
		for i := range out {
			out[i] = int32(i)
		}
		return out
	}
	out = slices.Clone(x.any)
	domain.each(func(atom int) bool {
		out = append(out, x.of[atom]...)
		return true
	})
	slices.Sort(out)
	out = slices.Compact(out)
	n, _ := slices.BinarySearch(out, int32(limit))
	return out[:n]
}

// common marks a common subsequence of both lists. Rules are distinct within a
// list, so the longest one is the longest increasing run of positions.
func (c *comparison) common() {
	c.keptA, c.keptB = make([]bool, len(c.a)), make([]bool, len(c.b))
	at := make(map[string]int, len(c.b))
	for j := range c.b {
		at[c.b[j].key] = j
	}
	type link struct{ i, j, prev int }
	var links []link
	var tails []int // link that ends the best run of each length
	for i := range c.a {
		j, ok := at[c.a[i].key]
		if !ok {
			continue
		}
		n, _ := slices.BinarySearchFunc(tails, j, func(t, j int) int { return links[t].j - j })
		l := link{i, j, -1}
		if n > 0 {
			l.prev = tails[n-1]
		}
		links = append(links, l)
		if n == len(tails) {
			tails = append(tails, len(links)-1)
		} else {
			tails[n] = len(links) - 1
		}
	}
	if len(tails) == 0 {
		return
	}
	for k := tails[len(tails)-1]; k >= 0; k = links[k].prev {
		c.keptA[links[k].i], c.keptB[links[k].j] = true, true
	}
}

// row compares rule i of before with all rules of after that it may meet.
func (c *comparison) row(i int) error {
	a := &c.a[i]
	if a.never {
		return nil
	}
	var path bitset
	if d := c.byPath[1].dim; d >= 0 {
		path = a.dims[d]
	}
	for _, j := range c.byPath[1].overlapping(path, len(c.b)) {
		b := &c.b[j]
		if a.then == b.then || c.keptA[i] && c.keptB[j] || !meet(a, b) {
			continue
		}
		if err := c.pair(i, int(j)); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) pair(i, j int) error {
	a, b := &c.a[i], &c.b[j]
	not := c.earlier(i, j)
	if !c.search.find([]*coded{a, b}, not) {
		return c.search.budgetErr()
	}
	if c.prefer == nil {
		c.prefer = c.p.preferences()
	}
	ch := Change{Scope: c.p.scope, Before: a.rule, After: b.rule, Witness: c.prefer.request(c.search)}
	for k, r := range not {
		if k == MaxExcept {
			ch.More = len(not) - k
			break
		}
		ch.Except = append(ch.Except, r.rule)
	}
	c.changes = append(c.changes, ch)
	return nil
}

// earlier lists the rules before i and before j that meet both, without repeats.
func (c *comparison) earlier(i, j int) []*coded {
	a, b := &c.a[i], &c.b[j]
	var path bitset
	if d := c.byPath[0].dim; d >= 0 {
		switch {
		case a.dims[d] == nil:
			path = b.dims[d]
		case b.dims[d] == nil:
			path = a.dims[d]
		default:
			path = a.dims[d].and(b.dims[d])
		}
	}
	var out []*coded
	seen := map[string]bool{}
	add := func(rules []coded, which []int32) {
		for _, k := range which {
			r := &rules[k]
			if meet(r, a) && meet(r, b) && !seen[r.key] {
				seen[r.key] = true
				out = append(out, r)
			}
		}
	}
	add(c.a, c.byPath[0].overlapping(path, i))
	add(c.b, c.byPath[1].overlapping(path, j))
	return out
}
