package space

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
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
	// stand at its variables. A variable is a whole segment of To. If both end in "/*", what
	// stands behind that slash stays.
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

// MoveFilled moves what a template takes: as a whole if nothing of it is used.
func MoveFilled(from, to string) Move {
	closed, open := CutOpen(to)
	if !open && !slices.ContainsFunc(split(closed), IsVariable) {
		return Move{How: Whole, To: to}
	}
	return Move{How: Filled, From: from, To: to}
}

// IsVariable reports whether a template's segment takes any that is not empty.
func IsVariable(segment string) bool {
	return strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "}")
}

// CutOpen takes "/*" from the end of a template that has it: such a template is open, and
// takes whatever follows its segments and a slash.
func CutOpen(template string) (closed string, open bool) {
	return strings.CutSuffix(template, root+"*")
}

// opened is a template as CutOpen cuts it.
func opened(segments []string, open bool) string {
	if open {
		return join(segments) + root + "*"
	}
	return join(segments)
}

// split cuts a path into segments, of which the first, before the slash, is empty.
func split(path string) []string { return strings.Split(path, root) }

func join(segments []string) string { return strings.Join(segments, root) }

// base is From without a slash at its end.
func (m Move) base() string { return strings.TrimSuffix(m.From, root) }

// open reports whether what follows To comes without its slash.
func (m Move) open() bool { return strings.HasSuffix(m.To, root) }

// Takes reports whether the Move is about a path.
func (m Move) Takes(path string) bool {
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
		from, _ := CutOpen(m.From)
		to, open := CutOpen(m.To)
		have, want := split(path), split(from)
		bound := binding{}
		for i, s := range want {
			if IsVariable(s) {
				bound[s] = have[i]
			}
		}
		out := bound.fill(split(to))
		if open {
			out = append(out, have[len(want):]...)
		}
		return join(out)
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
	case p.Kind == Regex, p.Kind == Line, p.Kind == Folded, p.Kind == Contains, p.Kind == Spelt && !m.spells(p), m.How == Filled && m.cuts(p):
		return []Pattern{MovedPattern(m, p)}, false, nil
	case p.Kind == Spelt:
		before, all = m.spelt(p)
	case m.How == Filled:
		before, all = m.filled(p)
	default:
		before, all = m.below(p)
	}
	return before, all, nil
}

// Substitution is the Move as an expression, for the paths that it takes.
func (m Move) Substitution() Move {
	if m.How == Substituted {
		return m
	}
	if m.How == Below {
		if m.open() {
			return Move{Substituted, regexp.QuoteMeta(m.base()) + "(?:/+(.*))?", m.To + `\1`}
		}
		return Move{Substituted, regexp.QuoteMeta(m.base()) + "(/.*)?", m.To + `\1`}
	}
	from, rest := CutOpen(m.From)
	to, open := CutOpen(m.To)
	want, segments := split(to), split(from)
	groups := binding{}
	for i, s := range segments {
		switch {
		case !IsVariable(s):
			segments[i] = regexp.QuoteMeta(s)
		case slices.Contains(want, s):
			groups[s] = `\` + strconv.Itoa(len(groups)+1)
			segments[i] = "([^/]+)"
		default:
			segments[i] = "[^/]+"
		}
	}
	want = groups.fill(want)
	if rest {
		segments = append(segments, "(.*)")
	}
	if open {
		want = append(want, `\`+strconv.Itoa(len(groups)+1))
	}
	return Move{Substituted, join(segments), join(want)}
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
		return m.fitting(p.Text)
	case Regex, Line, Folded, Contains, Spelt, Moved: // said before
	case Wild, Identified, Named, Called: // of callers and hosts, not of paths
	}
	return nil, false
}

// spells reports whether spelt knows what comes out of the Move in every spelling.
func (m Move) spells(p Pattern) bool {
	return m.How == Below && !strings.Contains(m.To, "%25") && !strings.Contains(p.Text, "{") && !strings.HasPrefix(p.Text, "*")
}

// spelt is Before of a Spelt pattern without free segments, which takes a path segment by
// segment. Segments of To that have nothing but parameters are none to it.
func (m Move) spelt(p Pattern) (before []Pattern, all bool) {
	path, below := strings.CutSuffix(p.Text, "*")
	want := slices.DeleteFunc(split(path), func(s string) bool { return s == "" })
	spells := func(path, segment string) bool { return Pattern{Spelt, path}.Matches(root + segment) }
	for _, s := range split(m.To) {
		switch {
		case len(want) == 0 && below:
			return nil, true
		case len(want) > 0 && s != "" && spells(root+want[0], s):
			want = want[1:]
		case !spells(root, s):
			return nil, false
		}
	}
	if len(want) == 0 && below {
		return nil, true
	}
	if text := m.base() + root + join(want); below {
		return []Pattern{{Spelt, text + "/*"}}, false
	} else if len(want) > 0 {
		return []Pattern{{Spelt, text}}, false
	}
	return []Pattern{{Spelt, m.base() + root}}, false
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
func (m Move) fitting(template string) (before []Pattern, all bool) {
	closed, open := CutOpen(template)
	have, want := split(strings.TrimSuffix(m.To, root)), split(closed)
	both := min(len(have), len(want))
	if _, ok := unify(have[:both], want[:both]); !ok {
		return nil, false
	}
	rest := want[both:]
	switch {
	case open && (len(want) < len(have) || m.open() && len(want) == len(have)):
		return nil, true
	case open:
		return []Pattern{templated(append(split(m.base()), rest...), true)}, false
	case len(want) < len(have), m.open() && len(want) == len(have):
		return nil, false
	case len(rest) == 0:
		return m.becoming(m.To), false
	case !slices.ContainsFunc(rest, IsVariable):
		return m.becoming(strings.TrimSuffix(m.To, root) + root + join(rest)), false
	}
	return []Pattern{{Template, m.base() + root + join(rest)}}, false
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

// cuts reports whether a pattern of the paths behind a Filled takes what begins or ends
// within a segment, of which filled knows only where no rest follows.
func (m Move) cuts(p Pattern) bool {
	_, open := CutOpen(m.To)
	return open && (p.Kind == Suffix || p.Kind == Prefix && !strings.HasSuffix(p.Text, root))
}

// filled is Before of Filled.
func (m Move) filled(p Pattern) (before []Pattern, all bool) {
	closed, open := CutOpen(p.Text)
	switch {
	case p.Kind == Prefix && strings.HasSuffix(p.Text, root):
		return m.fitted(split(strings.TrimSuffix(p.Text, root)), true)
	case p.Kind == Prefix, p.Kind == Suffix:
		return m.partly(p)
	case p.Kind == Template:
		return m.fitted(split(closed), open)
	case p.Kind == Segment:
		text := split(strings.TrimSuffix(p.Text, root))
		below, all := m.fitted(text, true)
		at, every := m.fitted(text, false)
		return slices.Concat(at, below), all || every
	}
	return m.fitted(split(p.Text), false)
}

// fitted takes the paths that become such as have segments, of which some may be free, and
// something behind a slash if open.
func (m Move) fitted(want []string, open bool) (before []Pattern, all bool) {
	to, more := CutOpen(m.To)
	have := split(to)
	k, n := len(want), len(have)
	if !open && !more && k != n || !open && more && k <= n || open && !more && k >= n {
		return nil, false
	}
	both := min(k, n)
	bound, ok := unify(have[:both], want[:both])
	if !ok {
		return nil, false
	}
	if len(bound) == 0 && k <= n {
		return nil, true
	}
	from, rest := CutOpen(m.From)
	segments := bound.fill(split(from))
	if k > n {
		segments, rest = append(segments, want[n:]...), open
	}
	return []Pattern{templated(segments, rest)}, false
}

// partly is Before of a Filled without a rest, of a pattern that ends or begins within a segment.
func (m Move) partly(p Pattern) (before []Pattern, all bool) {
	have, want := split(m.To), split(p.Text)
	n := len(have)
	if len(want) > n {
		return nil, false
	}
	part := part{}
	if p.Kind == Prefix {
		last := len(want) - 1
		part.of, part.before = have[last], want[last]
		have, want = have[:last], want[:last]
	} else {
		first := n - len(want)
		part.of, part.behind = have[first], want[0]
		have, want = have[first+1:], want[1:]
	}
	bound, ok := unify(have, want)
	if !ok || !part.fits(bound) {
		return nil, false
	}
	return part.within(m.From, bound)
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
func (p part) within(template string, bound binding) (before []Pattern, all bool) {
	closed, open := CutOpen(template)
	segments := bound.fill(split(closed))
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
		if open {
			segments = append(segments, ".*")
		}
		return []Pattern{{Regex, join(segments)}}, false
	}
	if len(bound) == 0 {
		return nil, true
	}
	return []Pattern{templated(segments, open)}, false
}

// templated is a template, or a path and what is below it if nothing is free.
func templated(segments []string, open bool) Pattern {
	switch {
	case slices.ContainsFunc(segments, IsVariable):
		return Pattern{Template, opened(segments, open)}
	case open:
		return Pattern{Prefix, join(segments) + root}
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
	case m.How == Whole && next.Takes(m.To):
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
	return m.filledFilled(next)
}

// filledFilled: what next takes of m's rest becomes a part of the template.
func (m Move) filledFilled(next Move) Move {
	to, more := CutOpen(m.To)
	from, open := CutOpen(next.From)
	out, rest := CutOpen(next.To)
	have, want := split(to), split(from)
	k, n := len(want), len(have)
	if !open && !more && k != n || !open && more && k <= n || open && !more && k >= n {
		return next // no path meets both
	}
	both := min(k, n)
	bound, ok := unify(have[:both], want[:both])
	if !ok {
		return next
	}
	before, left := CutOpen(m.From)
	taken := bound.fill(split(before))
	have = bound.fill(have)
	filling := binding{}
	for i, v := range have[:both] {
		if IsVariable(want[i]) {
			filling[want[i]] = v
		}
	}
	if k > n { // of m's rest
		for _, s := range want[n:] {
			if name := s; IsVariable(s) {
				for slices.Contains(taken, name) {
					name = strings.TrimSuffix(name, "}") + "'}"
				}
				filling[s], s = name, name
			}
			taken = append(taken, s)
		}
		left = open
	}
	made := filling.fill(split(out))
	if rest {
		made = append(made, have[both:]...)
	}
	return MoveFilled(opened(taken, left), opened(made, rest && (more || k > n)))
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
	closed, open := CutOpen(next.From)
	to, rest := CutOpen(next.To)
	have, want := split(strings.TrimSuffix(m.To, root)), split(closed)
	if len(want) < len(have) && !open {
		return next // no path meets both
	}
	from := binding{}
	both := min(len(have), len(want))
	for i, s := range have[:both] {
		if IsVariable(want[i]) {
			from[want[i]] = s
		}
	}
	made := from.fill(split(to))
	if rest && len(want) <= len(have) { // the rest is m's, or more
		to := join(append(made, have[both:]...))
		if m.open() {
			to += root
		}
		return MoveBelow(m.From, cmp.Or(to, root))
	}
	return MoveFilled(opened(append(split(m.base()), want[both:]...), open), opened(made, rest))
}

func (m Move) filledBelow(next Move) Move {
	closed, more := CutOpen(m.To)
	have, want := split(closed), split(next.base())
	both := min(len(have), len(want))
	if len(have) < len(want) && !more {
		return next // no path meets both
	}
	bound, ok := unify(have[:both], want[:both])
	if !ok {
		return next
	}
	from, open := CutOpen(m.From)
	taken := bound.fill(split(from))
	if len(want) > len(have) { // at and below a part of m's rest, which no template says
		at := join(append(taken, want[both:]...))
		if !strings.Contains(at, "{") {
			return Move{How: Below, From: at, To: next.To}
		}
		behind := Move{How: Below, To: next.To}.Substitution()
		behind.From = Move{How: Filled, From: at}.Substitution().From + behind.From
		return behind
	}
	to := split(strings.TrimSuffix(next.To, root))
	rest := bound.fill(have[both:])
	if len(rest) == 0 && !more {
		to = split(next.To)
	}
	return MoveFilled(opened(taken, open), opened(append(to, rest...), more))
}
