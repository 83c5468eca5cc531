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

// Without is an expression for what another one takes that has none of the letters, which are
// signs of ASCII. any is false if it takes nothing. One that takes no such thing stays as it is written.
func Without(expression, letters string) (out string, any bool) {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return expression, true
	}
	if !has(re, func(re *syntax.Regexp) bool { return reaches(re, letters) }) {
		return expression, true
	}
	re = without(re, letters)
	return re.String(), re.Op != syntax.OpNoMatch
}

// reaches reports whether an expression without parts takes a letter.
func reaches(re *syntax.Regexp, letters string) bool {
	switch re.Op {
	case syntax.OpLiteral:
		return strings.ContainsAny(string(re.Rune), letters)
	case syntax.OpCharClass:
		for i := 0; i < len(re.Rune); i += 2 {
			if strings.ContainsFunc(letters, func(r rune) bool { return re.Rune[i] <= r && r <= re.Rune[i+1] }) {
				return true
			}
		}
		return false
	default:
		return re.Op == syntax.OpAnyChar || re.Op == syntax.OpAnyCharNotNL
	}
}

func without(re *syntax.Regexp, letters string) *syntax.Regexp {
	out := *re
	switch re.Op {
	case syntax.OpLiteral:
		if reaches(re, letters) {
			return &syntax.Regexp{Op: syntax.OpNoMatch}
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		out.Op, out.Rune = syntax.OpCharClass, []rune{0, maxRune}
		if re.Op == syntax.OpAnyCharNotNL {
			letters += "\n"
		}
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

const maxRune = '\U0010FFFF'

// cut takes letters out of ranges.
func cut(ranges []rune, letters string) []rune {
	for _, r := range letters {
		var left []rune
		for i := 0; i < len(ranges); i += 2 {
			lo, hi := ranges[i], ranges[i+1]
			if r < lo || r > hi {
				left = append(left, lo, hi)
				continue
			}
			if lo < r {
				left = append(left, lo, r-1)
			}
			if r < hi {
				left = append(left, r+1, hi)
			}
		}
		ranges = left
	}
	return ranges
}

// withoutIn is without for an expression of parts: nothing stands for those of which nothing is left.
func withoutIn(re *syntax.Regexp, letters string) *syntax.Regexp {
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
