package prove

import (
	"encoding/binary"
	"regexp/syntax"
	"slices"
	"strconv"
	"unicode/utf8"

	"meshc.dev/meshc/compiler/internal/space"
)

// Bounds of the automaton for what a substitution makes into one of a pattern.
const (
	maxMovedStates = 5_000
	maxMovedCells  = 1_000_000
)

// moved adds the values that a Move takes and of which it makes one that another pattern takes.
// What copies parts of a value in their order is followed step by step (copier).
//
// For others, and for expressions:
//
// A value is read once, from left to right, as RE2 does: an ordered list of threads, of which
// the first one that ends decides what each group took. What becomes of a group's text is known
// when the text before it in the result is, which may be read later; so a thread keeps, for
// each place of a group in the result, where the other pattern's automaton comes to behind that text from
// each state in which it may stand before it.
func (b *builder) moved(p space.Pattern, number int32) ([]int32, error) {
	moving, is := p.Behind()
	inner := newBuilder()
	if err := inner.add(is, 0); err != nil {
		return nil, err
	}
	if pieces, ok := piecesOf(moving); ok {
		return (&copier{b: b, inner: inner, pieces: pieces, number: number}).put(), nil
	}
	m := moving.Substitution()
	prog, err := space.Program(m.From)
	if err != nil {
		return nil, &UnsupportedError{Pattern: p, Reason: err.Error()}
	}
	parts, err := space.Parts(m.To)
	if err != nil {
		return nil, &UnsupportedError{Pattern: p, Reason: err.Error()}
	}
	r := &reader{prog: prog, parts: parts, stays: moving.How == space.Substituted, classes: classesOf(inner.sets, prog, parts)}
	if r.behind, err = determinize(inner, r.classes); err != nil {
		return nil, err
	}
	r.places()
	return r.put(b, number)
}

// classesOf cuts the runes into sets that neither automaton tells apart.
func classesOf(sets []ranges, prog *syntax.Prog, parts []space.Part) []ranges {
	sets = slices.Clone(sets)
	for i := range prog.Inst {
		switch prog.Inst[i].Op {
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			sets = append(sets, instRunes(&prog.Inst[i]))
		default:
		}
	}
	for _, p := range parts {
		for _, c := range p.Text {
			sets = append(sets, ranges{c, c})
		}
	}
	cuts := []rune{0, utf8.MaxRune + 1}
	for _, s := range sets {
		for i := 0; i < len(s); i += 2 {
			cuts = append(cuts, s[i], s[i+1]+1)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	at := map[string]int{}
	var out []ranges
	for i, lo := range cuts[:len(cuts)-1] {
		signature := make([]byte, len(sets))
		for k, s := range sets {
			if s.has(lo) {
				signature[k] = 1
			}
		}
		k, ok := at[string(signature)]
		if !ok {
			k = len(out)
			at[string(signature)], out = k, append(out, nil)
		}
		out[k] = append(out[k], lo, cuts[i+1]-1)
	}
	return out
}

// machine is a deterministic automaton over classes of runes.
type machine struct {
	next   [][]int32 // state, class → state
	accept []bool
}

// determinize makes a builder's automaton deterministic; state 0 is its beginning.
func determinize(b *builder, classes []ranges) (machine, error) {
	var m machine
	var states [][]int32
	index := map[string]int32{}
	add := func(set []int32) int32 {
		slices.Sort(set)
		set = slices.Compact(set)
		key := takenKey(set)
		i, ok := index[key]
		if !ok {
			i = int32(len(states))
			index[key], states = i, append(states, set)
			m.accept = append(m.accept, slices.ContainsFunc(set, func(p int32) bool { return b.positions[p].accept != noPattern }))
		}
		return i
	}
	add(slices.Clone(b.start))
	for i := 0; i < len(states); i++ {
		if len(states) > maxMovedStates {
			return m, errStates{"more than " + strconv.Itoa(maxMovedStates) + " states behind a substitution"}
		}
		row := make([]int32, 0, len(classes))
		for _, c := range classes {
			var set []int32
			for _, p := range states[i] {
				if pos := &b.positions[p]; pos.set != noSet && b.sets[pos.set].has(c[0]) {
					set = append(set, pos.next...)
				}
			}
			row = append(row, add(set))
		}
		m.next = append(m.next, row)
	}
	return m, nil
}

// reader reads values as the expression does.
type reader struct {
	prog    *syntax.Prog
	parts   []space.Part
	classes []ranges
	behind  machine
	// stays says that a value which the expression does not take stays as it is.
	stays bool
	// before holds, for each part that is a group, the states in which it may begin.
	before [][]int32
}

// thread is one way in which the expression may take the value so far.
type thread struct {
	pc uint32
	// to is, for each part that is a group, what each state before it becomes; open says that
	// the group is being read.
	to   [][]int32
	open []bool
}

// reading is a state: threads in the order of preference, and where the value itself has come
// to in the pattern behind, for the case that no thread takes it.
type reading struct {
	threads []thread
	plain   int32
	begin   bool
}

// text is where a text leads from a state.
func (r *reader) text(from int32, text string) int32 {
	for _, c := range text {
		from = r.behind.next[from][slices.IndexFunc(r.classes, func(s ranges) bool { return s.has(c) })]
	}
	return from
}

// places finds the states before each group of the result.
func (r *reader) places() {
	r.before = make([][]int32, len(r.parts))
	at := []int32{0}
	for k, p := range r.parts {
		if p.Group < 0 {
			for i := range at {
				at[i] = r.text(at[i], p.Text)
			}
			slices.Sort(at)
			at = slices.Compact(at)
			continue
		}
		r.before[k] = slices.Clone(at)
		seen := map[int32]bool{}
		for _, s := range at {
			seen[s] = true
		}
		for i := 0; i < len(at); i++ {
			for _, s := range r.behind.next[at[i]] {
				if !seen[s] {
					seen[s], at = true, append(at, s)
				}
			}
		}
		slices.Sort(at)
	}
}

func (r *reader) first() reading {
	t := thread{pc: uint32(r.prog.Start), to: r.before, open: make([]bool, len(r.parts))}
	for k, p := range r.parts {
		t.open[k] = p.Group == 0
	}
	return reading{threads: []thread{t}, begin: true}
}

// closure are the threads that wait for a rune, or have taken the value if it ends here, in
// order.
func (r *reader) closure(s reading, end bool) []thread {
	var out []thread
	seen := map[uint32]bool{}
	var walk func(t thread)
	walk = func(t thread) {
		if seen[t.pc] {
			return
		}
		seen[t.pc] = true
		in := &r.prog.Inst[t.pc]
		on := func(pc uint32) thread { return thread{pc, t.to, t.open} }
		switch in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			walk(on(in.Out))
			walk(on(in.Arg))
		case syntax.InstCapture:
			walk(r.captured(on(in.Out), in.Arg))
		case syntax.InstNop:
			walk(on(in.Out))
		case syntax.InstEmptyWidth:
			op := syntax.EmptyOp(in.Arg)
			if (op&syntax.EmptyBeginText == 0 || s.begin) && (op&syntax.EmptyEndText == 0 || end) {
				walk(on(in.Out))
			}
		case syntax.InstMatch, syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			out = append(out, t)
		case syntax.InstFail:
		}
	}
	for _, t := range s.threads {
		walk(t)
	}
	return out
}

// captured begins or ends a group of a thread.
func (r *reader) captured(t thread, capture uint32) thread {
	group, ends := int(capture/2), capture%2 == 1
	if !slices.ContainsFunc(r.parts, func(p space.Part) bool { return group > 0 && p.Group == group }) {
		return t
	}
	t.to, t.open = slices.Clone(t.to), slices.Clone(t.open)
	for k, p := range r.parts {
		if p.Group == group {
			t.open[k] = !ends
			if !ends {
				t.to[k] = r.before[k]
			}
		}
	}
	return t
}

// step reads a rune of a class.
func (r *reader) step(s reading, class int) reading {
	next := reading{plain: r.behind.next[s.plain][class]}
	seen := map[uint32]bool{}
	for _, t := range r.closure(s, false) {
		in := &r.prog.Inst[t.pc]
		if in.Op == syntax.InstMatch || seen[in.Out] || !instRunes(in).has(r.classes[class][0]) {
			continue
		}
		seen[in.Out] = true
		t.pc, t.to = in.Out, slices.Clone(t.to)
		for k := range t.to {
			if t.open[k] {
				to := make([]int32, len(t.to[k]))
				for i, q := range t.to[k] {
					to[i] = r.behind.next[q][class]
				}
				t.to[k] = to
			}
		}
		next.threads = append(next.threads, t)
	}
	return next
}

// accepts reports whether the pattern behind takes what becomes of a value that ends here.
func (r *reader) accepts(s reading) bool {
	for _, t := range r.closure(s, true) {
		if r.prog.Inst[t.pc].Op != syntax.InstMatch {
			continue
		}
		at := int32(0)
		for k, p := range r.parts {
			if p.Group < 0 {
				at = r.text(at, p.Text)
			} else {
				at = t.to[k][slices.Index(r.before[k], at)]
			}
		}
		return r.behind.accept[at]
	}
	return r.stays && r.behind.accept[s.plain]
}

// key tells readings apart.
func (s reading) key() string {
	k := binary.AppendVarint(nil, int64(s.plain))
	if s.begin {
		k = append(k, 1)
	}
	for _, t := range s.threads {
		k = binary.AppendUvarint(k, uint64(t.pc))
		for i := range t.to {
			if t.open[i] {
				k = append(k, 1)
			} else {
				k = append(k, 0)
			}
			for _, q := range t.to[i] {
				k = binary.AppendVarint(k, int64(q))
			}
		}
	}
	return string(k)
}

// put adds the automaton of all readings to a builder.
func (r *reader) put(b *builder, number int32) ([]int32, error) {
	var states []reading
	var entries [][]int32 // state → its positions: an edge each, and one that accepts
	index := map[string]int32{}
	cells := 0
	add := func(s reading) int32 {
		key := s.key()
		i, ok := index[key]
		if !ok {
			i = int32(len(states))
			index[key], states = i, append(states, s)
			cells += len(key)
		}
		return i
	}
	type edge struct{ position, to int32 }
	var edges []edge
	add(r.first())
	for i := 0; i < len(states); i++ {
		if len(states) > maxMovedStates || cells > maxMovedCells {
			return nil, errStates{"more than " + strconv.Itoa(maxMovedStates) + " states of a substitution"}
		}
		var out []int32
		if r.accepts(states[i]) {
			out = append(out, b.accept(number))
		}
		for class, runes := range r.classes {
			p := b.put(position{set: b.set(runes), accept: noPattern})
			edges, out = append(edges, edge{p, add(r.step(states[i], class))}), append(out, p)
		}
		entries = append(entries, out)
	}
	for _, e := range edges {
		b.positions[e.position].next = entries[e.to]
	}
	return entries[0], nil
}

// Substituted tells of a substitution and the paths that all tests take: one of them that it
// makes into what no proxy passes on as it is, "" for none, and whether it changes any.
func Substituted(m space.Move, when []space.Test) (stray string, used bool, err error) {
	lasting := space.MovedPattern(m, space.Pattern{Kind: space.Regex, Text: space.PathUniverse})
	taken := space.Pattern{Kind: space.Regex, Text: m.From}
	patterns := []space.Pattern{lasting, taken}
	for _, t := range when {
		if t.Dim == space.PathDim {
			patterns = append(patterns, t.Any...)
		}
	}
	slices.SortFunc(patterns, comparePatterns)
	a, err := atomize(slices.Compact(patterns), nil, space.PathUniverse, Limits{}.withDefaults().States)
	if err != nil {
		return "", false, err
	}
	in := fullBits(len(a.witness))
	for _, t := range when {
		if t.Dim != space.PathDim {
			continue
		}
		if d := a.domain(t.Any); t.Not {
			in = in.minus(d)
		} else {
			in = in.and(d)
		}
	}
	if out := in.minus(a.in[a.number[lasting]]); !out.empty() {
		stray = a.witness[out.first()]
	}
	return stray, in.meets(a.in[a.number[taken]]), nil
}
