package prove

import (
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// spells reports whether a pattern takes odd spellings, behind a Move or not.
func spells(p space.Pattern) bool {
	if p.Kind == space.Moved {
		_, p = p.Behind()
	}
	return p.Kind == space.Spelt
}

// literally is a pattern that spells without odd spellings: what somebody has in mind who
// writes it.
func literally(p space.Pattern) []space.Pattern {
	if p.Kind == space.Moved {
		m, is := p.Behind()
		out := literally(is)
		for i, l := range out {
			out[i] = space.MovedPattern(m, l)
		}
		return out
	}
	if tail, ends := strings.CutPrefix(p.Text, "*"); ends {
		tail = strings.TrimSuffix(tail, "/")
		return []space.Pattern{{Kind: space.Suffix, Text: tail}, {Kind: space.Suffix, Text: tail + "/"}}
	}
	path, below := strings.CutSuffix(p.Text, "*")
	switch path = strings.TrimSuffix(path, "/"); {
	case strings.Contains(path, "{"):
		at := []space.Pattern{{Kind: space.Template, Text: path}, {Kind: space.Template, Text: path + "/"}}
		if below {
			at[1].Text += "*"
		}
		return at
	case below:
		return []space.Pattern{{Kind: space.Segment, Text: path + "/"}}
	case path == "":
		return []space.Pattern{{Kind: space.Exact, Text: "/"}}
	}
	return []space.Pattern{{Kind: space.Exact, Text: path}, {Kind: space.Exact, Text: path + "/"}}
}

// literals are those of all patterns in lists that spell.
func literals(lists ...space.List) []space.Pattern {
	var out []space.Pattern
	for _, l := range lists {
		for _, r := range l {
			for _, t := range r.When {
				for _, p := range t.Any {
					if spells(p) {
						out = append(out, literally(p)...)
					}
				}
			}
		}
	}
	return out
}

// named reports whether the text of a pattern is a path itself, or what its paths begin with.
func named(p space.Pattern) bool {
	return p.Kind == space.Exact || p.Kind == space.Segment || p.Kind == space.Prefix
}

// plainly leaves out the atoms of odd spellings: those that a pattern takes which spells and that
// are literals of none, nor what one of written names itself. Of the others each such pattern takes
// what it says, so that a set of them has plain words; odd spellings follow what they are spellings
// of. It returns in, as a set of atoms of what is left.
func (a *atoms) plainly(in bitset, written []space.Pattern) (*atoms, bitset) {
	odd, literal := newBits(len(a.witness)), newBits(len(a.witness))
	for i, p := range a.patterns {
		if spells(p) {
			odd.orInto(a.in[i])
			literal.orInto(a.domainOf(literally(p))) // also where it is another's odd spelling
		}
	}
	odd = odd.minus(literal)
	for _, p := range written {
		if at := a.atomOf(p.Text); named(p) && at >= 0 && odd.has(at) {
			odd = odd.minus(a.domainOf([]space.Pattern{p}))
		}
	}
	if odd.empty() {
		return a, in
	}
	var kept []int
	out := &atoms{patterns: a.patterns, number: a.number}
	for i, w := range a.witness {
		if !odd.has(i) {
			kept, out.witness = append(kept, i), append(out.witness, w)
		}
	}
	renumbered := func(set bitset) bitset {
		to := newBits(len(kept))
		for i, atom := range kept {
			if set.has(atom) {
				to.add(i)
			}
		}
		return to
	}
	out.in = make([]bitset, 0, len(a.in))
	for _, set := range a.in {
		out.in = append(out.in, renumbered(set))
	}
	return out, renumbered(in)
}
