package prove

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// reads is how a piece of a value is read.
type reads int

const (
	literalLeft    reads = iota // a text, which is left out
	segmentLeft                 // a segment that is not empty, which is left out
	segmentCopied               // one that is copied
	restLeft                    // whatever follows, which is left out
	restCopied                  // or copied
	belowCopied                 // nothing, or a slash and whatever follows
	slashesDropped              // the same, copied from behind the slashes
	ends                        // nothing more
)

// piece is what a Move writes next, and then reads of a value.
type piece struct {
	write string
	how   reads
	text  string // of literalLeft
}

// piecesOf are the pieces of a Move that copies parts of a value in their order; false for
// any other one.
func piecesOf(m space.Move) ([]piece, bool) {
	switch m.How {
	case space.Below:
		how := belowCopied
		if strings.HasSuffix(m.To, "/") {
			how = slashesDropped
		}
		return []piece{{how: literalLeft, text: strings.TrimSuffix(m.From, "/")}, {write: m.To, how: how}, {how: ends}}, true
	case space.Filled:
		return filledPieces(m)
	case space.Whole, space.Substituted:
	}
	return nil, false
}

func filledPieces(m space.Move) ([]piece, bool) {
	from, rest := space.CutOpen(m.From)
	to, open := space.CutOpen(m.To)
	var variables, writes []string // a text before each variable
	tail := ""
	for i, s := range strings.Split(to, "/") {
		if i > 0 {
			tail += "/"
		}
		if space.IsVariable(s) {
			variables, writes, tail = append(variables, s), append(writes, tail), ""
		} else {
			tail += s
		}
	}
	var out []piece
	skipped, copied := "", 0
	for i, s := range strings.Split(from, "/") {
		if i > 0 {
			skipped += "/"
		}
		if !space.IsVariable(s) {
			skipped += s
			continue
		}
		out, skipped = append(out, piece{how: literalLeft, text: skipped}), ""
		if copied < len(variables) && variables[copied] == s {
			out = append(out, piece{write: writes[copied], how: segmentCopied})
			copied++
		} else {
			out = append(out, piece{how: segmentLeft})
		}
	}
	switch {
	case open:
		out = append(out, piece{how: literalLeft, text: skipped + "/"}, piece{write: tail + "/", how: restCopied}, piece{how: ends})
	case rest:
		out = append(out, piece{how: literalLeft, text: skipped + "/"}, piece{how: restLeft}, piece{write: tail, how: ends})
	default:
		out = append(out, piece{how: literalLeft, text: skipped}, piece{write: tail, how: ends})
	}
	return out, copied == len(variables)
}

// copier adds an automaton that reads a value piece by piece while another one reads what the
// Move writes.
type copier struct {
	b, inner *builder
	pieces   []piece
	number   int32
	nodes    map[node]int32
	entries  map[entry][]int32
}

// node reads a rune that is copied, in a piece, as a position of the inner automaton does;
// entry comes to a piece when that is at one of some positions.
type (
	node struct {
		piece    int
		position int32
		first    bool // behind slashes
	}
	entry struct {
		piece int
		at    string
	}
)

// put returns the beginning.
func (c *copier) put() []int32 {
	c.nodes, c.entries = map[node]int32{}, map[entry][]int32{}
	return c.enter(0, c.inner.start)
}

// step is where the inner automaton comes to by a text.
func (c *copier) step(at []int32, text string) []int32 {
	for _, r := range text {
		var next []int32
		for _, p := range at {
			if pos := &c.inner.positions[p]; pos.set != noSet && c.inner.sets[pos.set].has(r) {
				next = append(next, pos.next...)
			}
		}
		slices.Sort(next)
		at = slices.Compact(next)
	}
	return at
}

// enter adds what reads from a piece on; at is where the inner automaton is.
func (c *copier) enter(i int, at []int32) []int32 {
	p := c.pieces[i]
	if at = c.step(at, p.write); len(at) == 0 {
		return nil
	}
	key := entry{i, takenKey(at)}
	if known, ok := c.entries[key]; ok {
		return known
	}
	var out []int32
	switch p.how {
	case literalLeft:
		out = c.b.literal(p.text, c.enter(i+1, at))
	case segmentLeft:
		out = []int32{c.loop(notSlash(), c.enter(i+1, at))}
	case restLeft:
		next := c.enter(i+1, at)
		out = append(slices.Clone(next), c.loop(allRunes(), next))
	case segmentCopied:
		out = c.copied(i, at)
	case restCopied:
		out = c.rest(i, at)
	case belowCopied:
		out = append(slices.Clone(c.enter(i+1, at)), c.b.literal("/", c.rest(i, c.step(at, "/")))...)
	case slashesDropped:
		end := c.enter(i+1, at)
		out = append(slices.Clone(end), c.loop(ranges{'/', '/'}, append(c.firsts(i, at), end...)))
	case ends:
		if slices.ContainsFunc(at, func(p int32) bool { return c.inner.positions[p].accept != noPattern }) {
			out = []int32{c.b.accept(c.number)}
		}
	}
	c.entries[key] = out
	return out
}

// loop reads runes of a set, at least one, and goes on to next.
func (c *copier) loop(runes ranges, next []int32) int32 {
	p := c.b.put(position{set: c.b.set(runes), accept: noPattern})
	c.b.positions[p].next = append([]int32{p}, next...)
	return p
}

// rest copies whatever follows.
func (c *copier) rest(i int, at []int32) []int32 {
	return append(c.copied(i, at), c.enter(i+1, at)...)
}

// firsts copies whatever follows and does not begin with a slash, at least one rune.
func (c *copier) firsts(i int, at []int32) []int32 {
	var out []int32
	for _, p := range at {
		out = append(out, c.node(node{i, p, true})...)
	}
	return out
}

// copied copies what a piece reads, at least one rune.
func (c *copier) copied(i int, at []int32) []int32 {
	var out []int32
	for _, p := range at {
		out = append(out, c.node(node{i, p, false})...)
	}
	return out
}

func (c *copier) node(n node) []int32 {
	from := c.inner.positions[n.position]
	if from.set == noSet {
		return nil
	}
	runes := c.inner.sets[from.set]
	if n.first || c.pieces[n.piece].how == segmentCopied {
		runes = runes.without('/')
	}
	if len(runes) == 0 {
		return nil
	}
	if known, ok := c.nodes[n]; ok {
		return []int32{known}
	}
	p := c.b.put(position{set: c.b.set(runes), accept: noPattern})
	c.nodes[n] = p
	next := c.rest(n.piece, from.next)
	c.b.positions[p].next = next
	return []int32{p}
}
