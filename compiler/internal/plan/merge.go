package plan

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// merged makes lines of pieces: one line for all scopes in which class, kind and
// words are the same.
func (c *comparison) merged() []Line {
	var out []Line
	for _, g := range c.groups() {
		first := g[0]
		l := Line{Class: first.class, Kind: first.kind, Feature: first.feature, Witness: first.witness, Before: first.before, After: first.after, Requests: first.parts}
		if i := slices.IndexFunc(g, func(p piece) bool { return p.witness != nil && !p.witness.Uncalled && !p.witness.Direct }); i > 0 {
			l.Witness, l.Before, l.After, l.Requests = g[i].witness, g[i].before, g[i].after, g[i].parts
		}
		names := map[string]bool{}
		for _, p := range g {
			if p.tries != nil {
				l.Tries = append(l.Tries, *p.tries)
			}
			l.Scopes = append(l.Scopes, p.scope)
			names[p.name] = true
			if p.at != (space.Scope{}) {
				l.At = append(l.At, p.at)
			}
			l.Callers = append(l.Callers, p.callers.in...)
		}
		slices.Sort(l.Scopes)
		l.Scopes = slices.Compact(l.Scopes)
		slices.SortFunc(l.At, func(a, b space.Scope) int { return cmp.Compare(a.String(), b.String()) })
		l.At = slices.Compact(l.At)
		slices.SortFunc(l.Callers, Caller.compare)
		l.Callers = slices.Compact(l.Callers)
		l.Text = first.change
		if first.kind == KindAccess {
			l.Text = "from " + callersOf(g) + ": " + first.what + ": " + first.change
			if first.at.Kind == space.External {
				l.Text = "from " + callersOf(g) + ": " + first.change
			}
		} else if first.when != "" {
			l.Text = first.when + ": " + first.change
		}
		own := "<service>"
		if len(names) == 1 {
			own = first.name
		}
		slices.SortFunc(l.Tries, func(a, b Tries) int { return cmp.Compare(a.To, b.To) })
		l.Text = strings.ReplaceAll(l.Text, self, own) + triesWords(first.kind, l.Tries)
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
			who := p.callers.text(p.near)
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
	return a.class == b.class && a.kind == b.kind && a.when == b.when && a.change == b.change && a.what == b.what
}

// callersOf words who the pieces of a line are about. Where that is not the same for
// all of them, it says so.
func callersOf(g []piece) string {
	var texts, all []string
	for _, p := range g {
		texts = appendNew(texts, p.callers.text(p.near))
		for _, x := range p.callers.in {
			all = append(all, x.text(""))
		}
	}
	if len(texts) == 1 {
		return texts[0]
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return "callers of each, " + strconv.Itoa(len(all)) + " in all (" + limited(all, ", ", 5) + ")"
}

// access sums up who gained and who lost what.
func (c *comparison) access() []Access {
	var out []Access
	for _, g := range c.groups() {
		first := g[0]
		if first.kind != KindAccess {
			continue
		}
		a := Access{
			Gained: first.gained, Who: callersOf(g), What: first.what,
			Methods: first.methods, Paths: first.paths, Conditions: first.rest, Callers: []Caller{},
		}
		one := true
		for _, p := range g {
			one = one && p.callers.equal(first.callers)
			a.To = append(a.To, p.scope)
			a.Callers = append(a.Callers, p.callers.in...)
			a.Each = append(a.Each, AccessAt{To: p.scope, Callers: p.callers.in, Except: p.callers.except})
		}
		if one {
			a.Each, a.Except = nil, first.callers.except
		}
		slices.SortFunc(a.Callers, Caller.compare)
		a.Callers = slices.Compact(a.Callers)
		slices.Sort(a.To)
		a.To = slices.Compact(a.To)
		out = append(out, a)
	}
	slices.SortStableFunc(out, func(a, b Access) int {
		return cmp.Or(strings.Compare(gainWord(a), gainWord(b)), strings.Compare(a.Who, b.Who), strings.Compare(a.What, b.What))
	})
	return out
}

func gainWord(a Access) string {
	if a.Gained {
		return "gained"
	}
	return "lost"
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
