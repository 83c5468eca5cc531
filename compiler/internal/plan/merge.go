package plan

import (
	"cmp"
	"slices"

	"meshc.dev/meshc/compiler/internal/space"
)

// merged makes lines of pieces: one line for all scopes in which class, kind and
// words are the same.
func (c *comparison) merged() []Line {
	var out []Line
	for _, g := range c.groups() {
		first := g[0]
		l := Line{Class: first.class, Kind: first.kind, Says: first.says, Feature: first.feature, Witness: first.witness, Before: first.before, After: first.after, Requests: first.parts, Code: first.code, Steps: first.steps}
		if i := slices.IndexFunc(g, func(p piece) bool { return p.witness != nil && !p.witness.Uncalled && !p.witness.Direct }); i > 0 {
			l.Witness, l.Before, l.After = g[i].witness, g[i].before, g[i].after
		}
		for _, p := range g {
			if p.tries != nil {
				l.Tries = append(l.Tries, *p.tries)
			}
			l.Scopes = append(l.Scopes, p.scope)
			if p.at != (space.Scope{}) {
				l.At = append(l.At, p.at)
			}
		}
		slices.Sort(l.Scopes)
		l.Scopes = slices.Compact(l.Scopes)
		slices.SortFunc(l.At, func(a, b space.Scope) int { return cmp.Compare(a.String(), b.String()) })
		l.At = slices.Compact(l.At)
		slices.SortFunc(l.Tries, func(a, b Tries) int { return cmp.Compare(a.To, b.To) })
		if first.kind == KindAccess {
			l.Access = accessOf(g)
		}
		l.Text = l.Say(c.words)
		out = append(out, l)
	}
	slices.SortStableFunc(out, func(a, b Line) int {
		return cmp.Or(cmp.Compare(rank(a.Class), rank(b.Class)), cmp.Compare(len(b.Scopes), len(a.Scopes)),
			cmp.Compare(a.Text, b.Text), slices.Compare(a.Scopes, b.Scopes))
	})
	return out
}

// mostByCallers is how many lines say the same of different callers; if there were
// more, they are one.
const mostByCallers = 3

// groups are the pieces that make one line each.
func (c *comparison) groups() [][]piece {
	sortPieces(c.found)
	var out [][]piece
	for i := 0; i < len(c.found); {
		first, from := c.found[i], i
		for ; i < len(c.found) && alike(first, c.found[i]); i++ {
		}
		same := c.found[from:i]
		if first.kind != KindAccess {
			out = append(out, same)
			continue
		}
		byCallers := map[string][]piece{}
		for _, p := range same {
			who := p.callers.text("")
			byCallers[who] = append(byCallers[who], p)
		}
		if len(byCallers) > mostByCallers {
			out = append(out, same)
			continue
		}
		for _, who := range sortedKeys(byCallers) {
			out = append(out, byCallers[who])
		}
	}
	return out
}

func alike(a, b piece) bool {
	return a.class == b.class && a.kind == b.kind && a.about == b.about && a.change == b.change
}

// accessOf is what the pieces of a line give or take.
func accessOf(g []piece) *Access {
	first := g[0]
	a := &Access{Gained: first.gained, Methods: first.methods, Paths: first.paths, Conditions: first.rest, Callers: []Caller{}}
	one := true
	for _, p := range g {
		one = one && p.callers.equal(first.callers)
		a.Callers = append(a.Callers, p.callers.in...)
		a.Each = append(a.Each, AccessAt{At: p.at, Callers: p.callers.in, Except: p.callers.except, Rough: p.callers.rough})
	}
	if one {
		a.Each, a.Except, a.Rough = nil, first.callers.except, first.callers.rough
	}
	slices.SortFunc(a.Callers, Caller.compare)
	a.Callers = slices.Compact(a.Callers)
	return a
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
