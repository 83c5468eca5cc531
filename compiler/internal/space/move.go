package space

import (
	"regexp"
	"slices"
	"strings"
)

// Moving says how a Move makes a path of another one.
type Moving string

// The ways of moving.
const (
	// Whole puts To in place of any path.
	Whole Moving = "whole"
	// Below puts To in place of the segments From at the beginning. A To that ends in a slash
	// takes the place of the slash behind them as well: "/a" to "/" makes "/" of "/a" and of
	// "/a/", and "/x" of "/a/x".
	Below Moving = "below"
	// Filled puts To in place of paths that the template From takes, with the segments that
	// stand at its variables. A variable is a whole segment of To.
	Filled Moving = "filled"
	// Substituted puts To in place of paths that the expression From (RE2) takes as a whole,
	// with what its groups took: \0 to \9. Others stay.
	Substituted Moving = "substituted"
)

// Move makes a path of another. Paths are normalised, and so are those that it makes.
type Move struct {
	How  Moving `json:"how"`
	From string `json:"from,omitempty"`
	To   string `json:"to"`
}

const root = "/"

// MoveBelow moves what is at or below from to below to. All paths are below "/", so that
// what follows it never begins with a slash.
func MoveBelow(from, to string) Move {
	if from == root && !strings.HasSuffix(to, root) {
		to += root
	}
	return Move{How: Below, From: from, To: to}
}

// MoveFilled moves what a template takes: as a whole if no variable is used.
func MoveFilled(from, to string) Move {
	if !slices.ContainsFunc(split(to), IsVariable) {
		return Move{How: Whole, To: to}
	}
	return Move{How: Filled, From: from, To: to}
}

// IsVariable reports whether a template's segment takes any that is not empty.
func IsVariable(segment string) bool {
	return strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "}")
}

// split cuts a path into segments, of which the first, before the slash, is empty.
func split(path string) []string { return strings.Split(path, root) }

func join(segments []string) string { return strings.Join(segments, root) }

// base is From without a slash at its end.
func (m Move) base() string { return strings.TrimSuffix(m.From, root) }

// open reports whether what follows To comes without its slash.
func (m Move) open() bool { return strings.HasSuffix(m.To, root) }

// takes reports whether the Move is about a path.
func (m Move) takes(path string) bool {
	switch m.How {
	case Below:
		return Pattern{Segment, m.From}.Matches(path)
	case Filled:
		return Pattern{Template, m.From}.Matches(path)
	default:
		return true
	}
}

// Of is what becomes of a path that the Move takes.
func (m Move) Of(path string) string {
	switch m.How {
	case Below:
		rest := strings.TrimPrefix(path, m.base())
		if m.open() {
			rest = strings.TrimLeft(rest, root)
		}
		return m.To + rest
	case Filled:
		bound := binding{}
		for i, s := range split(m.From) {
			if IsVariable(s) {
				bound[s] = split(path)[i]
			}
		}
		return join(bound.fill(split(m.To)))
	case Substituted:
		return m.substituted(path)
	case Whole:
	}
	return m.To
}

// before are patterns of which one takes a path exactly if one of any takes what becomes
// of it; is tells if that is known of all paths.
func (m Move) before(any []Pattern) (before []Pattern, is truth, err error) {
	for _, p := range any {
		ps, all, err := m.Before(p)
		if err != nil {
			return nil, maybe, err
		}
		if all {
			return nil, always, nil
		}
		before = append(before, ps...)
	}
	if len(before) == 0 {
		return nil, never, nil
	}
	return before, maybe, nil
}

// Before are the patterns of the paths from which p's come, of those that the Move takes;
// all says that it is all of them. The error is an Unclear.
func (m Move) Before(p Pattern) (before []Pattern, all bool, err error) {
	switch {
	case m.How == Whole:
		return nil, p.Matches(m.To), nil
	case m.How == Substituted && p.everything():
		return nil, true, nil
	case m.How == Substituted:
		return []Pattern{MovedPattern(m, p)}, false, nil
	case p.Kind == Moved:
		return nil, false, Unclear("it is rewritten twice")
	case p.Kind == Regex:
		return nil, false, Unclear("what an expression takes behind a rewriting is no expression")
	case p.Kind == Spelt:
		return m.spelt(p)
	case m.How == Filled:
		before, all = m.filled(p)
	default:
		before, all = m.below(p)
	}
	return before, all, nil
}

// below is Before of Below.
func (m Move) below(p Pattern) (before []Pattern, all bool) {
	at := strings.TrimSuffix(m.To, root)
	switch p.Kind {
	case Exact:
		return m.becoming(p.Text), false
	case Segment:
		text := strings.TrimSuffix(p.Text, root)
		if text == at || strings.HasPrefix(at, text+root) {
			return nil, true
		}
		if rest, ok := strings.CutPrefix(text, at); ok && strings.HasPrefix(rest, root) {
			return []Pattern{{Segment, m.base() + rest}}, false
		}
	case Prefix:
		if strings.HasPrefix(m.To, p.Text) {
			return nil, true
		}
		if rest, ok := strings.CutPrefix(p.Text, m.To); ok && strings.HasPrefix(rest, root) != m.open() {
			return []Pattern{{Prefix, m.base() + m.slash() + rest}}, false
		}
	case Suffix:
		return m.ending(p.Text)
	case Template:
		return m.fitting(p.Text), false
	case Regex, Spelt, Moved: // said before
	}
	return nil, false
}

// spelt is Before of a Spelt pattern, which takes a path segment by segment. Segments of
// To that have nothing but parameters are none to it.
func (m Move) spelt(p Pattern) (before []Pattern, all bool, err error) {
	if m.How == Filled || strings.Contains(m.To, "%25") {
		return nil, false, Unclear("which spellings of a path come out of a template is not known")
	}
	path, below := strings.CutSuffix(p.Text, "*")
	want := slices.DeleteFunc(split(path), func(s string) bool { return s == "" })
	spells := func(path, segment string) bool { return Pattern{Spelt, path}.Matches(root + segment) }
	for _, s := range split(m.To) {
		switch {
		case len(want) == 0 && below:
			return nil, true, nil
		case len(want) > 0 && s != "" && spells(root+want[0], s):
			want = want[1:]
		case !spells(root, s):
			return nil, false, nil
		}
	}
	if len(want) == 0 && below {
		return nil, true, nil
	}
	if text := m.base() + root + join(want); below {
		return []Pattern{{Spelt, text + "/*"}}, false, nil
	} else if len(want) > 0 {
		return []Pattern{{Spelt, text}}, false, nil
	}
	return []Pattern{{Spelt, m.base() + root}}, false, nil
}

// slash is what stands between base and what follows To.
func (m Move) slash() string {
	if m.open() {
		return root
	}
	return ""
}

// becoming takes the paths that become one path.
func (m Move) becoming(path string) []Pattern {
	rest, ok := strings.CutPrefix(path, m.To)
	switch {
	case !ok || rest != "" && strings.HasPrefix(rest, root) == m.open():
		return nil
	case rest != "" || !m.open():
		return []Pattern{{Exact, m.base() + m.slash() + rest}}
	case m.base() == "":
		return []Pattern{{Exact, root}, {Exact, root + root}}
	}
	return []Pattern{{Exact, m.base()}, {Exact, m.base() + root}}
}

// ending takes the paths that become such as end in text: those that end so themselves,
// behind base, and those of which a part of text's beginning is To's end.
func (m Move) ending(text string) (before []Pattern, all bool) {
	if text == "" {
		return nil, true
	}
	before = []Pattern{{Regex, regexp.QuoteMeta(m.base()+m.slash()) + ".*" + regexp.QuoteMeta(text)}}
	for i := 1; i <= len(text); i++ {
		if strings.HasSuffix(m.To, text[:i]) {
			before = append(before, m.becoming(m.To+text[i:])...)
		}
	}
	return before, false
}

// fitting takes the paths that become such as a template takes.
func (m Move) fitting(template string) []Pattern {
	have, want := split(strings.TrimSuffix(m.To, root)), split(template)
	if len(want) < len(have) || m.open() && len(want) == len(have) {
		return nil
	}
	if _, ok := unify(have, want[:len(have)]); !ok {
		return nil
	}
	rest := want[len(have):]
	if !slices.ContainsFunc(rest, IsVariable) {
		if len(rest) == 0 {
			return m.becoming(m.To)
		}
		return m.becoming(strings.TrimSuffix(m.To, root) + root + join(rest))
	}
	return []Pattern{{Template, m.base() + root + join(rest)}}
}

// binding gives variables a segment.
type binding map[string]string

// fill puts bound segments in place of variables.
func (b binding) fill(segments []string) []string {
	out := slices.Clone(segments)
	for i, s := range out {
		if v, ok := b[s]; ok {
			out[i] = v
		}
	}
	return out
}

// unify finds what have's variables stand for where a path has have's segments and fits want.
func unify(have, want []string) (binding, bool) {
	if len(have) != len(want) {
		return nil, false
	}
	bound := binding{}
	for i, h := range have {
		w := want[i]
		switch {
		case IsVariable(h) && IsVariable(w):
		case IsVariable(h):
			if old, ok := bound[h]; w == "" || ok && old != w {
				return nil, false
			}
			bound[h] = w
		case IsVariable(w):
			if h == "" {
				return nil, false
			}
		case h != w:
			return nil, false
		}
	}
	return bound, true
}

// filled is Before of Filled.
func (m Move) filled(p Pattern) (before []Pattern, all bool) {
	have := split(m.To)
	want, n := split(p.Text), len(have)
	part := part{}
	switch p.Kind {
	case Segment:
		if want = split(strings.TrimSuffix(p.Text, root)); len(want) > n {
			return nil, false
		}
		have = have[:len(want)]
	case Prefix:
		if len(want) > n {
			return nil, false
		}
		last := len(want) - 1
		part.of, part.before = have[last], want[last]
		have, want = have[:last], want[:last]
	case Suffix:
		if len(want) > n {
			return nil, false
		}
		first := n - len(want)
		part.of, part.behind = have[first], want[0]
		have, want = have[first+1:], want[1:]
	default:
		if len(want) != n {
			return nil, false
		}
	}
	bound, ok := unify(have, want)
	if !ok || !part.fits(bound) {
		return nil, false
	}
	return part.within(split(m.From), bound)
}

// part is a segment of which only the beginning, or only the end, is known.
type part struct{ of, before, behind string }

// fits reports whether the segment can be such: one that is bound, or no variable, is.
func (p part) fits(bound binding) bool {
	s, ok := bound[p.of]
	if !ok && IsVariable(p.of) {
		return true
	}
	if !ok {
		s = p.of
	}
	return strings.HasPrefix(s, p.before) && strings.HasSuffix(s, p.behind)
}

// within takes what a template takes with variables bound; all says that it is the same.
func (p part) within(template []string, bound binding) (before []Pattern, all bool) {
	segments := bound.fill(template)
	if _, ok := bound[p.of]; !ok && IsVariable(p.of) && p.before+p.behind != "" {
		for i, s := range segments {
			switch {
			case s == p.of:
				segments[i] = regexp.QuoteMeta(p.before) + "[^/]*" + regexp.QuoteMeta(p.behind)
			case IsVariable(s):
				segments[i] = "[^/]+"
			default:
				segments[i] = regexp.QuoteMeta(s)
			}
		}
		return []Pattern{{Regex, join(segments)}}, false
	}
	if len(bound) == 0 {
		return nil, true
	}
	return []Pattern{templated(segments)}, false
}

// templated is a template, or a path if nothing is free.
func templated(segments []string) Pattern {
	if slices.ContainsFunc(segments, IsVariable) {
		return Pattern{Template, join(segments)}
	}
	return Pattern{Exact, join(segments)}
}

// Joins reports whether one Move does as m and then as next.
func (m Move) Joins(next Move) bool {
	return m.How == Whole || next.How == Whole || m.How != Substituted && next.How != Substituted
}

// Then is the Move that does as m and then as next, if they join, for the paths that next takes
// of those that m makes; without any it is whatever Move.
func (m Move) Then(next Move) Move {
	switch {
	case next.How == Whole:
		return next
	case m.How == Whole && next.takes(m.To):
		return Move{How: Whole, To: next.Of(m.To)}
	case m.How == Whole:
		return next // no path meets both
	case m.How == Below && next.How == Below:
		return m.belowBelow(next)
	case m.How == Below:
		return m.belowFilled(next)
	case next.How == Below:
		return m.filledBelow(next)
	}
	have, want := split(m.To), split(next.From)
	bound, ok := unify(have, want)
	if !ok {
		return next // no path meets both
	}
	from := binding{}
	for i, v := range bound.fill(have) {
		if IsVariable(want[i]) {
			from[want[i]] = v
		}
	}
	return MoveFilled(join(bound.fill(split(m.From))), join(from.fill(split(next.To))))
}

func (m Move) belowBelow(next Move) Move {
	at, from := strings.TrimSuffix(m.To, root), next.base()
	if rest, ok := strings.CutPrefix(from, at); ok && strings.HasPrefix(rest, root) {
		return Move{How: Below, From: m.base() + rest, To: next.To}
	}
	rest := strings.TrimPrefix(m.To, from)
	if next.open() {
		rest = strings.TrimLeft(rest, root)
	}
	return Move{How: Below, From: m.From, To: next.To + rest}
}

func (m Move) belowFilled(next Move) Move {
	have, want := split(strings.TrimSuffix(m.To, root)), split(next.From)
	if len(want) < len(have) {
		return next // no path meets both
	}
	from := binding{}
	for i, s := range have {
		if IsVariable(want[i]) {
			from[want[i]] = s
		}
	}
	path := m.base()
	if rest := want[len(have):]; len(rest) > 0 {
		path += root + join(rest)
	}
	return MoveFilled(path, join(from.fill(split(next.To))))
}

func (m Move) filledBelow(next Move) Move {
	have, want := split(m.To), split(next.base())
	if len(have) < len(want) {
		return next // no path meets both
	}
	bound, ok := unify(have[:len(want)], want)
	if !ok {
		return next
	}
	to := strings.TrimSuffix(next.To, root)
	if rest := bound.fill(have[len(want):]); len(rest) > 0 {
		to += root + join(rest)
	} else {
		to = next.To
	}
	return MoveFilled(join(bound.fill(split(m.From))), to)
}
