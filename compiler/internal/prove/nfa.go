package prove

import (
	"strings"
	"unicode/utf8"

	"meshc.dev/meshc/compiler/internal/space"
)

// position is one state of the automaton for all patterns together: it consumes
// one rune of a set and goes on to next, or accepts a pattern if the value ends
// here, or both.
type position struct {
	set    int32 // index into sets; noSet consumes nothing
	accept int32 // pattern; noPattern accepts nothing
	next   []int32
}

const (
	noSet     int32 = -1
	noPattern int32 = -1
)

// ranges is a set of runes: sorted, disjoint pairs lo, hi.
type ranges []rune

func allRunes() ranges { return ranges{0, utf8.MaxRune} }
func notSlash() ranges { return ranges{0, '/' - 1, '/' + 1, utf8.MaxRune} }

func (r ranges) single() bool { return len(r) == 2 && r[0] == r[1] }

// without leaves a rune out.
func (r ranges) without(c rune) ranges {
	var out ranges
	for i := 0; i < len(r); i += 2 {
		lo, hi := r[i], r[i+1]
		switch {
		case c < lo || c > hi:
			out = append(out, lo, hi)
			continue
		case lo < c:
			out = append(out, lo, c-1)
		}
		if c < hi {
			out = append(out, c+1, hi)
		}
	}
	return out
}

func (r ranges) has(c rune) bool {
	for i := 0; i < len(r); i += 2 {
		if r[i] <= c && c <= r[i+1] {
			return true
		}
	}
	return false
}

// builder collects positions of all patterns of one dimension.
type builder struct {
	positions []position
	sets      []ranges
	setIndex  map[string]int32
	start     []int32
}

func newBuilder() *builder { return &builder{setIndex: map[string]int32{}} }

func (b *builder) set(r ranges) int32 {
	key := string(r)
	if i, ok := b.setIndex[key]; ok {
		return i
	}
	i := int32(len(b.sets))
	b.sets, b.setIndex[key] = append(b.sets, r), i
	return i
}

func (b *builder) put(p position) int32 {
	b.positions = append(b.positions, p)
	return int32(len(b.positions) - 1)
}

func (b *builder) accept(pattern int32) int32 {
	return b.put(position{set: noSet, accept: pattern})
}

// sink accepts pattern whatever follows.
func (b *builder) sink(pattern int32) int32 {
	i := b.put(position{set: b.set(allRunes()), accept: pattern})
	b.positions[i].next = []int32{i}
	return i
}

// literal is a chain for text that goes on to next; it returns the entry.
func (b *builder) literal(text string, next []int32) []int32 {
	runes := []rune(text)
	for i := len(runes) - 1; i >= 0; i-- {
		next = []int32{b.put(position{set: b.set(ranges{runes[i], runes[i]}), accept: noPattern, next: next})}
	}
	return next
}

// add adds a pattern with that number and returns nothing but an error if it
// cannot be said.
func (b *builder) add(p space.Pattern, number int32) error {
	var entry []int32
	switch p.Kind {
	case space.Exact:
		entry = b.literal(p.Text, []int32{b.accept(number)})
	case space.Prefix:
		entry = b.literal(p.Text, []int32{b.sink(number)})
	case space.Segment:
		below := b.literal("/", []int32{b.sink(number)})
		entry = b.literal(strings.TrimSuffix(p.Text, "/"), append(below, b.accept(number)))
	case space.Suffix:
		entry = b.suffix(p.Text, number)
	case space.Template:
		entry = b.template(p.Text, number)
	case space.Regex, space.Line, space.Spelt, space.Wild, space.Identified, space.Named, space.Called, space.Folded, space.Contains:
		var err error
		if entry, err = b.regex(p, number); err != nil {
			return err
		}
	case space.Moved:
		var err error
		if entry, err = b.moved(p, number); err != nil {
			return err
		}
	default:
		return &UnsupportedError{Pattern: p, Reason: "unknown kind of pattern"}
	}
	b.start = append(b.start, entry...)
	return nil
}

func (b *builder) suffix(text string, number int32) []int32 {
	if text == "" {
		return []int32{b.sink(number)}
	}
	tail := b.literal(text, []int32{b.accept(number)})
	loop := b.put(position{set: b.set(allRunes()), accept: noPattern})
	b.positions[loop].next = append([]int32{loop}, tail...)
	return b.positions[loop].next
}

func (b *builder) template(text string, number int32) []int32 {
	next := []int32{b.accept(number)}
	closed, open := space.CutOpen(text)
	if open {
		next = b.literal("/", []int32{b.sink(number)})
	}
	segments := strings.Split(closed, "/")
	for i := len(segments) - 1; i >= 0; i-- {
		s := segments[i]
		if space.IsVariable(s) {
			w := b.put(position{set: b.set(notSlash()), accept: noPattern})
			b.positions[w].next = append([]int32{w}, next...)
			next = []int32{w}
		} else {
			next = b.literal(s, next)
		}
		if i > 0 {
			next = b.literal("/", next)
		}
	}
	return next
}
