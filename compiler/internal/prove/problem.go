package prove

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// problem is one scope's rules over atoms.
type problem struct {
	scope  space.Scope
	limits Limits
	dims   []space.Dim // single-valued dimensions in use; a rule's dims has the same length
	atoms  []*atoms    // per dimension in use
	header []*atoms    // per header, or other dimension with lines, in use
	lined  []space.Dim // which those are
	preds  []pred
	index  map[string]int     // test key → pred
	whole  map[space.Dim]bool // headers whose lines are tested as a whole
	once   map[space.Dim]bool // headers all of whose lines are tested together, and parameters if the whole query is
}

// pred is a header's test without its Not: "some line is in one of these".
type pred struct {
	header int
	in     bitset
}

// literal says that a pred is true or false.
type literal struct {
	pred int
	want bool
}

// coded is a rule over atoms.
type coded struct {
	rule space.Rule
	key  string
	then string
	dims []bitset // nil: unrestricted
	lits []literal
	// never says that no request can match.
	never bool
}

// newProblem atomizes all dimensions that the rules test.
func newProblem(scope space.Scope, lim Limits, lists ...space.List) (*problem, error) {
	p := &problem{scope: scope, limits: lim.withDefaults(), index: map[string]int{}}
	p.whole, p.once = wholeLines(lists)
	patterns := p.patterns(lists)
	for _, d := range slices.Sorted(maps.Keys(patterns)) {
		sorted := make([]space.Pattern, 0, len(patterns[d]))
		for x := range patterns[d] {
			sorted = append(sorted, x)
		}
		slices.SortFunc(sorted, comparePatterns)
		dim, _ := d.Of()
		universe, without := dim.Universe(sorted), []space.Pattern(nil)
		if d == space.HostDim && scope.Kind == space.Gateway && scope.Port != "" {
			universe = space.HostUniverse(scope.Port)
			for _, name := range strings.Fields(scope.Besides) {
				without = append(without, space.Pattern{Kind: space.Line, Text: space.HostUniverse(name)})
			}
		}
		a, err := p.limits.Cuts.atomize(sorted, without, universe, p.limits.States)
		var over errStates
		if errors.As(err, &over) {
			return nil, &BudgetError{Scope: scope, Dimension: d, Budget: over.budget}
		}
		if err != nil {
			return nil, err
		}
		if dim.Lines {
			p.header, p.lined = append(p.header, a), append(p.lined, d)
		} else {
			p.dims, p.atoms = append(p.dims, d), append(p.atoms, a)
		}
	}
	return p, nil
}

// patterns are those that rules test, by their dimensions.
func (p *problem) patterns(lists []space.List) map[space.Dim]map[space.Pattern]bool {
	out := map[space.Dim]map[space.Pattern]bool{}
	for _, l := range lists {
		for _, r := range l {
			for _, t := range r.When {
				t = p.plain(t)
				if out[t.Dim] == nil {
					out[t.Dim] = map[space.Pattern]bool{}
				}
				for _, x := range t.Any {
					out[t.Dim][x] = true
				}
			}
		}
	}
	return out
}

// wholeLines are the headers whose lines some rule tests as a whole, and those of which one tests
// all lines together.
func wholeLines(lists []space.List) (whole, once map[space.Dim]bool) {
	whole, once = map[space.Dim]bool{}, map[space.Dim]bool{}
	for _, l := range lists {
		for _, r := range l {
			for _, t := range r.When {
				if _, ok := t.Dim.Header(); ok {
					whole[t.Dim] = true
				}
				if t.Dim == space.ParametersDim {
					once[t.Dim] = true
				}
				if name, ok := t.Dim.Once(); ok {
					whole[space.HeaderDim(name)], once[space.HeaderDim(name)] = true, true
				}
			}
		}
	}
	return whole, once
}

// plain is the test as it is compared: one of a part of a header's lines is one of the lines where
// those are tested as a whole, too, for the two depend on each other, and one of the lines is one of all
// of them where those are tested together; so with parameters and the whole query. Else each part is a dimension of its own, which keeps the atoms few.
func (p *problem) plain(t space.Test) space.Test {
	if lines, ok := t.OnLines(); ok && p.whole[lines.Dim] {
		t = lines
	}
	if p.once[t.Dim] {
		if all, ok := t.AmongLines(); ok {
			return all
		}
	}
	if p.once[space.ParametersDim] {
		if all, ok := t.AmongParameters(); ok {
			return all
		}
	}
	return t
}

// list codes a list: later repeats of a rule's conditions are dropped, because
// they decide nothing and would be told as differences.
func (p *problem) list(l space.List) []coded {
	var out []coded
	seen := map[string]bool{}
	for _, r := range l {
		c := p.code(r)
		if conditions := conditionsKey(r); !seen[conditions] {
			seen[conditions] = true
			out = append(out, c)
		}
	}
	return out
}

func conditionsKey(r space.Rule) string { return space.Rule{When: r.When}.Key() }

func (p *problem) code(r space.Rule) coded {
	then := r.Then.Key()
	c := coded{rule: r, then: then, key: conditionsKey(r) + then, dims: make([]bitset, len(p.dims))}
	for _, t := range r.When {
		t = p.plain(t)
		if dim, _ := t.Dim.Of(); dim.Lines {
			l := literal{p.pred(t), !t.Not}
			c.never = c.never || slices.Contains(c.lits, literal{l.pred, !l.want})
			c.lits = append(c.lits, l)
			continue
		}
		i := slices.Index(p.dims, t.Dim)
		d := p.atoms[i].domain(t.Any)
		if t.Not {
			d = fullBits(len(p.atoms[i].witness)).minus(d)
		}
		if c.dims[i] != nil {
			d = d.and(c.dims[i])
		}
		c.dims[i] = d
		c.never = c.never || d.empty()
	}
	return c
}

func (p *problem) pred(t space.Test) int {
	t.Not = false
	key := t.Key()
	if i, ok := p.index[key]; ok {
		return i
	}
	h := slices.Index(p.lined, t.Dim)
	p.preds = append(p.preds, pred{header: h, in: p.header[h].domain(t.Any)})
	p.index[key] = len(p.preds) - 1
	return len(p.preds) - 1
}

// meet reports whether some request may match both rules, as far as the single
// dimensions and plain contradictions of headers tell.
func meet(a, b *coded) bool {
	if a.never || b.never {
		return false
	}
	for i, d := range a.dims {
		if d != nil && b.dims[i] != nil && !d.meets(b.dims[i]) {
			return false
		}
	}
	for _, l := range a.lits {
		if len(b.lits) > 0 && slices.Contains(b.lits, literal{l.pred, !l.want}) {
			return false
		}
	}
	return true
}
