package space

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// Anchored reports whether an expression that compiles looks for the beginning or the end of a
// text. It says little of whole values, and nothing where they are parts of something longer.
func Anchored(expression string) bool {
	re, err := syntax.Parse(expression, syntax.Perl)
	return err == nil && has(re, func(re *syntax.Regexp) bool { return re.Op == syntax.OpBeginText || re.Op == syntax.OpEndText })
}

// Begins is the longest text that all values begin with which p takes, as far as that is seen: it
// is "" where letters may be of either case.
func (p Pattern) Begins() string {
	switch p.Kind {
	case Exact, Prefix:
		return p.Text
	case Segment:
		return strings.TrimSuffix(p.Text, root)
	case Regex:
		if re, err := regexp.Compile(p.Text); err == nil {
			text, _ := re.LiteralPrefix()
			return text
		}
	default:
	}
	return ""
}

// Literal is the only text that an expression takes, ok is false if there are more or none.
func Literal(expression string) (text string, ok bool) {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil || re.Op != syntax.OpLiteral || re.Flags&syntax.FoldCase != 0 {
		return "", false
	}
	return string(re.Rune), true
}

func has(re *syntax.Regexp, is func(*syntax.Regexp) bool) bool {
	return is(re) || slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return has(sub, is) })
}

// Without is an expression for what another one takes that has none of the letters. any is false
// if it takes nothing. One that takes no such thing stays as it is written.
func Without(expression, letters string) (out string, any bool) {
	var ranges []rune
	for _, r := range letters {
		ranges = append(ranges, r, r)
	}
	return outside(expression, ranges)
}

// ASCII is an expression for what a Regex takes: texts of ASCII alone. Elsewhere Go's expressions
// go by letters, and Envoy's by bytes.
func ASCII(expression string) string {
	out, _ := outside(expression, []rune{firstBeyond, maxRune})
	return out
}

const (
	firstBeyond = 0x80
	maxRune     = '\U0010FFFF'
)

func isASCII(v string) bool {
	return !strings.ContainsFunc(v, func(r rune) bool { return r >= firstBeyond })
}

// outside is Without for ranges of letters, from and to.
func outside(expression string, letters []rune) (out string, any bool) {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil || !has(re, func(re *syntax.Regexp) bool { return reaches(re, letters) }) {
		return expression, true
	}
	re = without(re, letters)
	return re.String(), re.Op != syntax.OpNoMatch
}

// reaches reports whether an expression without parts takes one of the letters.
func reaches(re *syntax.Regexp, letters []rune) bool {
	among := func(lo, hi rune) bool {
		for i := 0; i < len(letters); i += 2 {
			if lo <= letters[i+1] && letters[i] <= hi {
				return true
			}
		}
		return false
	}
	switch re.Op {
	case syntax.OpLiteral:
		return slices.ContainsFunc(re.Rune, func(r rune) bool { return among(r, r) })
	case syntax.OpCharClass:
		for i := 0; i < len(re.Rune); i += 2 {
			if among(re.Rune[i], re.Rune[i+1]) {
				return true
			}
		}
		return false
	default:
		return re.Op == syntax.OpAnyChar || re.Op == syntax.OpAnyCharNotNL
	}
}

func without(re *syntax.Regexp, letters []rune) *syntax.Regexp {
	out := *re
	switch re.Op {
	case syntax.OpLiteral:
		if reaches(re, letters) {
			return &syntax.Regexp{Op: syntax.OpNoMatch}
		}
	case syntax.OpAnyChar:
		out.Op, out.Rune = syntax.OpCharClass, []rune{0, maxRune}
		return without(&out, letters)
	case syntax.OpAnyCharNotNL:
		out.Op, out.Rune = syntax.OpCharClass, []rune{0, '\n' - 1, '\n' + 1, maxRune}
		return without(&out, letters)
	case syntax.OpCharClass:
		if out.Rune = cut(re.Rune, letters); len(out.Rune) == 0 {
			return &syntax.Regexp{Op: syntax.OpNoMatch}
		}
	default:
		return withoutIn(&out, letters)
	}
	return &out
}

// cut takes letters out of ranges.
func cut(ranges, letters []rune) []rune {
	for k := 0; k < len(letters); k += 2 {
		from, to := letters[k], letters[k+1]
		var left []rune
		for i := 0; i < len(ranges); i += 2 {
			lo, hi := ranges[i], ranges[i+1]
			if hi < from || to < lo {
				left = append(left, lo, hi)
				continue
			}
			if lo < from {
				left = append(left, lo, from-1)
			}
			if to < hi {
				left = append(left, to+1, hi)
			}
		}
		ranges = left
	}
	return ranges
}

// withoutIn is without for an expression of parts: nothing stands for those of which nothing is left.
func withoutIn(re *syntax.Regexp, letters []rune) *syntax.Regexp {
	var subs []*syntax.Regexp
	for _, sub := range re.Sub {
		if sub = without(sub, letters); sub.Op != syntax.OpNoMatch {
			subs = append(subs, sub)
			continue
		}
		switch {
		case re.Op == syntax.OpAlternate:
		case re.Op == syntax.OpStar, re.Op == syntax.OpQuest, re.Op == syntax.OpRepeat && re.Min == 0:
			return &syntax.Regexp{Op: syntax.OpEmptyMatch}
		default:
			return &syntax.Regexp{Op: syntax.OpNoMatch}
		}
	}
	re.Sub = subs
	if re.Op == syntax.OpAlternate {
		switch len(subs) {
		case 0:
			return &syntax.Regexp{Op: syntax.OpNoMatch}
		case 1:
			return subs[0]
		}
	}
	return re
}
