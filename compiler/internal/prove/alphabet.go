package prove

import (
	"cmp"
	"slices"
	"unicode/utf8"
)

// class is a set of runes that no position tells apart, by one readable member.
type class struct {
	rep   rune
	group int32
	rank  int // order of preference: letters, digits, capitals, signs, the rest
}

// alphabet cuts the runes into classes. A rune that some position names alone
// is a class of its own; classes that the wider sets treat alike form a group.
type alphabet struct {
	classes  []class           // by rank
	ofRune   map[rune]int32    // single runes → class
	members  [][]int32         // group → classes by rank
	groupsOf map[int32][]int32 // wide set → groups in it
	singleOf []int32           // set → class, -1 for a wide set
}

func newAlphabet(sets []ranges) *alphabet {
	cuts := []rune{0}
	var wide []int32
	for i, s := range sets {
		if !s.single() {
			wide = append(wide, int32(i))
		}
		for k := 0; k < len(s); k += 2 {
			cuts = append(cuts, s[k], s[k+1]+1)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	a := &alphabet{ofRune: map[rune]int32{}, groupsOf: map[int32][]int32{}}
	singles := map[rune]bool{}
	for _, s := range sets {
		if s.single() {
			singles[s[0]] = true
		}
	}
	a.classes = cutClasses(cuts, sets, wide, singles)
	a.index(sets, wide, singles)
	return a
}

// cutClasses makes one class of each interval between cuts, merging those that
// belong to the same wide sets and that no position names alone.
func cutClasses(cuts []rune, sets []ranges, wide []int32, singles map[rune]bool) []class {
	groups := map[string]int32{}
	merged := map[int32]int{} // group → its class without single runes
	var out []class
	for i, lo := range cuts {
		if lo > utf8.MaxRune {
			break
		}
		hi := rune(utf8.MaxRune)
		if i+1 < len(cuts) {
			hi = cuts[i+1] - 1
		}
		signature := make([]byte, len(wide))
		for k, w := range wide {
			if sets[w].has(lo) {
				signature[k] = 1
			}
		}
		g, ok := groups[string(signature)]
		if !ok {
			g = int32(len(groups))
			groups[string(signature)] = g
		}
		c := class{rep: readable(lo, hi), group: g}
		c.rank = rank(c.rep)
		if singles[lo] {
			out = append(out, c)
			continue
		}
		if k, ok := merged[g]; ok {
			if c.rank < out[k].rank {
				out[k] = c
			}
			continue
		}
		merged[g] = len(out)
		out = append(out, c)
	}
	slices.SortFunc(out, func(x, y class) int { return cmp.Compare(x.rank, y.rank) })
	return out
}

func (a *alphabet) index(sets []ranges, wide []int32, singles map[rune]bool) {
	groups := 0
	for i, c := range a.classes {
		groups = max(groups, int(c.group)+1)
		if singles[c.rep] {
			a.ofRune[c.rep] = int32(i)
		}
	}
	a.members = make([][]int32, groups)
	for i, c := range a.classes {
		a.members[c.group] = append(a.members[c.group], int32(i))
	}
	for _, w := range wide {
		for g, m := range a.members {
			if len(m) > 0 && sets[w].has(a.classes[m[0]].rep) {
				a.groupsOf[w] = append(a.groupsOf[w], int32(g))
			}
		}
	}
	a.singleOf = make([]int32, len(sets))
	for i, s := range sets {
		a.singleOf[i] = -1
		if s.single() {
			a.singleOf[i] = a.ofRune[s[0]]
		}
	}
}

// readable picks the member of lo..hi that reads best.
func readable(lo, hi rune) rune {
	for _, want := range [][2]rune{{'a', 'z'}, {'0', '9'}, {'A', 'Z'}, {'!', '~'}, {' ', ' '}} {
		if l, h := max(lo, want[0]), min(hi, want[1]); l <= h {
			return l
		}
	}
	return lo
}

// rank orders runes: a–z, 0–9, A–Z, signs, the rest.
func rank(r rune) int {
	switch {
	case 'a' <= r && r <= 'z':
		return int(r)
	case '0' <= r && r <= '9':
		return 1<<10 + int(r)
	case 'A' <= r && r <= 'Z':
		return 2<<10 + int(r)
	case '!' <= r && r <= '~':
		return 3<<10 + int(r)
	}
	return 4<<10 + int(r)
}
