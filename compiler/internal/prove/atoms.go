package prove

import (
	"cmp"
	"slices"
	"strconv"

	"meshc.dev/meshc/compiler/internal/space"
)

// atoms are the classes of a dimension's values that its patterns do not tell
// apart. in says per pattern which atoms it takes; witness is the shortest
// value of each atom, letters before digits before signs.
type atoms struct {
	patterns []space.Pattern
	number   map[space.Pattern]int
	in       []bitset
	witness  []string
	byTaken  map[string]int // set of accepting patterns → atom
}

// errStates says that the automaton or its table is too large.
type errStates struct{ budget string }

func (e errStates) Error() string { return e.budget }

// atomize cuts the language of universe, but for what one of without takes, along patterns.
func atomize(patterns, without []space.Pattern, universe string, maxStates int) (*atoms, error) {
	b := newBuilder()
	for i, p := range patterns {
		if err := b.add(p, int32(i)); err != nil {
			return nil, err
		}
	}
	for i, p := range without { // numbered behind the universe
		if err := b.add(p, int32(len(patterns)+1+i)); err != nil {
			return nil, err
		}
	}
	w := &walker{b: b, maxStates: maxStates, frontier: int32(len(b.positions)), inside: int32(len(patterns))}
	if err := b.add(space.Pattern{Kind: space.Line, Text: universe}, w.inside); err != nil {
		return nil, err
	}
	w.alpha = newAlphabet(b.sets)
	if err := w.run(); err != nil {
		return nil, err
	}
	return w.atoms(patterns)
}

// walker enumerates the reachable sets of positions, breadth first. Positions
// from frontier on belong to the universe: a state without one is dead.
type walker struct {
	b         *builder
	alpha     *alphabet
	maxStates int
	frontier  int32
	inside    int32 // the universe's pattern number

	cells  []int32 // positions of all states
	offset []int   // state → its first cell
	parent []int32
	via    []rune
	index  map[uint64][]int32

	found map[string]int32 // set of accepting patterns → its first state
	order []string         // the keys of found, in order of discovery
	taken [][]int32        // the sets themselves

	byClass, byGroup [][]int32
	touchedC         []int32
	touchedG         []int32
}

func (w *walker) state(i int) []int32 {
	if i+1 < len(w.offset) {
		return w.cells[w.offset[i]:w.offset[i+1]]
	}
	return w.cells[w.offset[i]:]
}

func (w *walker) run() error {
	w.index = map[uint64][]int32{}
	w.found = map[string]int32{}
	w.byClass = make([][]int32, len(w.alpha.classes))
	w.byGroup = make([][]int32, len(w.alpha.members))
	w.visit(slices.Clone(w.b.start), -1, 0)
	for i := 0; i < len(w.offset); i++ {
		if len(w.offset) > w.maxStates {
			return errStates{"more than " + strconv.Itoa(w.maxStates) + " automaton states"}
		}
		if len(w.cells) > maxCells {
			return errStates{"more than " + strconv.Itoa(maxCells) + " automaton positions"}
		}
		w.expand(i)
	}
	return nil
}

// expand visits the successors of state i, preferred runes first.
func (w *walker) expand(i int) {
	w.touchedC, w.touchedG = w.touchedC[:0], w.touchedG[:0]
	for _, p := range w.state(i) {
		pos := &w.b.positions[p]
		if pos.set == noSet {
			continue
		}
		if c := w.alpha.singleOf[pos.set]; c >= 0 {
			if len(w.byClass[c]) == 0 {
				w.touchedC = append(w.touchedC, c)
			}
			w.byClass[c] = append(w.byClass[c], pos.next...)
			continue
		}
		for _, g := range w.alpha.groupsOf[pos.set] {
			if len(w.byGroup[g]) == 0 {
				w.touchedG = append(w.touchedG, g)
			}
			w.byGroup[g] = append(w.byGroup[g], pos.next...)
		}
	}
	steps := slices.Clone(w.touchedC)
	for _, g := range w.touchedG {
		for _, c := range w.alpha.members[g] {
			if len(w.byClass[c]) == 0 {
				steps = append(steps, c) // one untouched member stands for all
				break
			}
		}
	}
	slices.Sort(steps) // classes are numbered by rank
	for _, c := range steps {
		cl := w.alpha.classes[c]
		w.visit(slices.Concat(w.byClass[c], w.byGroup[cl.group]), int32(i), cl.rep)
	}
	for _, c := range w.touchedC {
		w.byClass[c] = w.byClass[c][:0]
	}
	for _, g := range w.touchedG {
		w.byGroup[g] = w.byGroup[g][:0]
	}
}

// visit adds the state of these positions unless it is known or dead.
func (w *walker) visit(set []int32, parent int32, via rune) {
	slices.Sort(set)
	set = slices.Compact(set)
	if len(set) == 0 || set[len(set)-1] < w.frontier {
		return
	}
	accepted := w.accepted(set)
	if len(accepted) > 0 && accepted[len(accepted)-1] > w.inside {
		accepted = nil // what goes on from here may be inside again
	}
	inside := len(accepted) > 0 && accepted[len(accepted)-1] == w.inside
	if inside {
		accepted = accepted[:len(accepted)-1]
	}
	key := takenKey(accepted)
	_, known := w.found[key]
	if known && w.settled(set) {
		return // whatever follows has the same accept set, which has its witness
	}
	h := hash(set)
	for _, s := range w.index[h] {
		if slices.Equal(w.state(int(s)), set) {
			return
		}
	}
	w.index[h] = append(w.index[h], int32(len(w.offset)))
	w.offset = append(w.offset, len(w.cells))
	w.cells = append(w.cells, set...)
	w.parent = append(w.parent, parent)
	w.via = append(w.via, via)
	if inside && !known {
		w.found[key] = int32(len(w.offset) - 1)
		w.order, w.taken = append(w.order, key), append(w.taken, accepted)
	}
}

// settled reports whether the accept set cannot change any more: besides the
// universe only sinks are left.
func (w *walker) settled(set []int32) bool {
	for _, p := range set {
		if p >= w.frontier {
			return true
		}
		pos := &w.b.positions[p]
		if len(pos.next) != 1 || pos.next[0] != p || pos.accept == noPattern {
			return false
		}
	}
	return true
}

func hash(set []int32) uint64 {
	h := uint64(14695981039346656037)
	for _, p := range set {
		h = (h ^ uint64(uint32(p))) * 1099511628211
	}
	return h
}

// atoms makes the table of the distinct accept sets. States were visited in
// order of length, so the first state of an accept set has its shortest value.
func (w *walker) atoms(patterns []space.Pattern) (*atoms, error) {
	a := &atoms{patterns: patterns, number: map[space.Pattern]int{}, byTaken: map[string]int{}}
	for i, key := range w.order {
		a.byTaken[key] = i
		a.witness = append(a.witness, w.value(w.found[key]))
	}
	taken := w.taken
	if len(patterns)*len(taken) > maxBits {
		return nil, errStates{"more than " + strconv.Itoa(maxBits) + " pairs of pattern and atom"}
	}
	for i, p := range patterns {
		a.number[p] = i
		a.in = append(a.in, newBits(len(taken)))
	}
	for atom, ps := range taken {
		for _, p := range ps {
			a.in[p].add(atom)
		}
	}
	return a, nil
}

func (w *walker) accepted(set []int32) []int32 {
	var out []int32
	for _, p := range set {
		if x := w.b.positions[p].accept; x != noPattern {
			out = append(out, x)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (w *walker) value(state int32) string {
	var runes []rune
	for s := state; w.parent[s] >= 0; s = w.parent[s] {
		runes = append(runes, w.via[s])
	}
	slices.Reverse(runes)
	return string(runes)
}

func takenKey(ps []int32) string {
	b := make([]byte, 0, 4*len(ps))
	for _, p := range ps {
		b = append(b, byte(p), byte(p>>8), byte(p>>16), byte(p>>24))
	}
	return string(b)
}

// atomOf is the atom of a value, -1 if it has none (outside the universe).
func (a *atoms) atomOf(value string) int {
	var taken []int32
	for i, p := range a.patterns {
		if p.Matches(value) {
			taken = append(taken, int32(i))
		}
	}
	if i, ok := a.byTaken[takenKey(taken)]; ok {
		return i
	}
	return -1
}

// domain is the set of atoms that a test admits. For a header's test, Not is
// left to the caller: it is a truth value there.
func (a *atoms) domain(any []space.Pattern) bitset {
	if len(any) == 0 {
		return fullBits(len(a.witness))
	}
	d := newBits(len(a.witness))
	for _, p := range any {
		d.orInto(a.in[a.number[p]])
	}
	return d
}

// comparePatterns orders patterns, so that atoms do not depend on rule order.
func comparePatterns(x, y space.Pattern) int {
	return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Text, y.Text))
}
