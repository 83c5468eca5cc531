package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// merged makes lines of pieces: one line for all scopes in which class, kind and
// words are the same.
func (c *comparison) merged() []Line {
	sortPieces(c.found)
	var out []Line
	for i := 0; i < len(c.found); {
		first := c.found[i]
		l := Line{Class: first.class, Kind: first.kind, Witness: first.witness, Before: first.before, After: first.after}
		names := map[string]bool{}
		for ; i < len(c.found) && alike(first, c.found[i]); i++ {
			l.Scopes = append(l.Scopes, c.found[i].scope)
			names[c.found[i].name] = true
		}
		slices.Sort(l.Scopes)
		l.Scopes = slices.Compact(l.Scopes)
		l.Text = first.change
		if first.when != "" {
			l.Text = first.when + ": " + first.change
		}
		own := "<service>"
		if len(names) == 1 {
			own = first.name
		}
		l.Text = strings.ReplaceAll(l.Text, self, own)
		out = append(out, l)
	}
	slices.SortStableFunc(out, func(a, b Line) int {
		return cmp.Or(cmp.Compare(rank(a.Class), rank(b.Class)), cmp.Compare(len(b.Scopes), len(a.Scopes)),
			cmp.Compare(a.Text, b.Text), slices.Compare(a.Scopes, b.Scopes))
	})
	return out
}

func alike(a, b piece) bool {
	return a.class == b.class && a.kind == b.kind && a.when == b.when && a.change == b.change
}

// access sums up who gained and who lost what, by caller.
func (c *comparison) access() []Access {
	byKey := map[string]*Access{}
	for _, p := range c.found {
		if p.who == "" {
			continue
		}
		key := fmt.Sprintf("%v|%q|%q", !p.gained, p.who, p.what)
		a := byKey[key]
		if a == nil {
			a = &Access{Gained: p.gained, Who: p.who, What: p.what}
			byKey[key] = a
		}
		a.To = append(a.To, p.scope)
	}
	out := make([]Access, 0, len(byKey))
	for _, key := range sortedKeys(byKey) {
		a := byKey[key]
		slices.Sort(a.To)
		a.To = slices.Compact(a.To)
		out = append(out, *a)
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
