package prove

import (
	"regexp/syntax"
	"slices"
	"unicode"

	"meshc.dev/meshc/compiler/internal/space"
)

// regex adds a full-match regular expression.
func (b *builder) regex(p space.Pattern, number int32) ([]int32, error) {
	expression := p.Expression()
	if p.Kind == space.Regex || p.Kind == space.Folded && p.Unfolded().Kind == space.Regex {
		expression = space.ASCII(expression)
	}
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, &UnsupportedError{Pattern: p, Reason: err.Error()}
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return nil, &UnsupportedError{Pattern: p, Reason: err.Error()}
	}
	c := regexCompiler{b: b, prog: prog, at: map[uint32]int32{}, accept: b.accept(number)}
	for i := range prog.Inst {
		if reason := unsupported(&prog.Inst[i]); reason != "" {
			return nil, &UnsupportedError{Pattern: p, Reason: reason}
		}
	}
	return c.closure(uint32(prog.Start), true), nil
}

func unsupported(in *syntax.Inst) string {
	if in.Op != syntax.InstEmptyWidth {
		return ""
	}
	if syntax.EmptyOp(in.Arg)&^(syntax.EmptyBeginText|syntax.EmptyEndText) != 0 {
		return `\b, \B and (?m) cannot be compared`
	}
	return ""
}

type regexCompiler struct {
	b      *builder
	prog   *syntax.Prog
	at     map[uint32]int32 // instruction → position
	accept int32
}

// closure lists the positions that are reached from pc without consuming a
// rune. begin says that nothing has been consumed yet.
func (c *regexCompiler) closure(pc uint32, begin bool) []int32 {
	var out []int32
	type visit struct {
		pc  uint32
		end bool // behind an end anchor: only a match counts
	}
	seen := map[visit]bool{}
	var walk func(v visit)
	walk = func(v visit) {
		if seen[v] {
			return
		}
		seen[v] = true
		in := &c.prog.Inst[v.pc]
		switch in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			walk(visit{in.Out, v.end})
			walk(visit{in.Arg, v.end})
		case syntax.InstCapture, syntax.InstNop:
			walk(visit{in.Out, v.end})
		case syntax.InstEmptyWidth:
			op := syntax.EmptyOp(in.Arg)
			if op&syntax.EmptyBeginText != 0 && !begin {
				return
			}
			walk(visit{in.Out, v.end || op&syntax.EmptyEndText != 0})
		case syntax.InstMatch:
			out = append(out, c.accept)
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			if !v.end {
				out = append(out, c.position(v.pc))
			}
		case syntax.InstFail:
		}
	}
	walk(visit{pc, false})
	slices.Sort(out)
	return slices.Compact(out)
}

func (c *regexCompiler) position(pc uint32) int32 {
	if i, ok := c.at[pc]; ok {
		return i
	}
	in := &c.prog.Inst[pc]
	i := c.b.put(position{set: c.b.set(instRunes(in)), accept: noPattern})
	c.at[pc] = i
	next := c.closure(in.Out, false)
	c.b.positions[i].next = next
	return i
}

// instRunes is the set of runes that an instruction takes.
func instRunes(in *syntax.Inst) ranges {
	switch in.Op {
	case syntax.InstRuneAny:
		return allRunes()
	case syntax.InstRuneAnyNotNL:
		return ranges{0, '\n' - 1, '\n' + 1, unicode.MaxRune}
	}
	if len(in.Rune) != 1 {
		return ranges(in.Rune)
	}
	r := in.Rune[0]
	set := []rune{r}
	if syntax.Flags(in.Arg)&syntax.FoldCase != 0 {
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			set = append(set, f)
		}
	}
	slices.Sort(set)
	var out ranges
	for _, x := range set {
		out = append(out, x, x)
	}
	return out
}
