package compiler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/plan"
)

// CompareAhead is Compare, and the same at every later instant at which something of
// either side ends: an exception that lasts longer differs only then. A side that is no
// intent stays as it is.
func CompareAhead(before, after *Program, l Limits) (Changes, error) {
	c, err := Compare(before, after, l)
	if err != nil {
		return c, err
	}
	told := map[string]bool{}
	note := func(ls []plan.Line) (fresh []plan.Line) {
		now := map[string]bool{}
		for _, x := range ls {
			key := strings.Join(append([]string{string(x.Class), string(x.Kind), x.Text}, x.Scopes...), "\n")
			if now[key] = true; !told[key] {
				fresh = append(fresh, x)
			}
		}
		told = now
		return fresh
	}
	note(c.Lines)
	was := after
	for _, end := range ends(before, after) {
		b, err := before.asOf(end)
		if err != nil {
			return c, err
		}
		a, err := after.asOf(end)
		if err != nil {
			return c, err
		}
		then, err := Compare(b, a, l)
		if err != nil {
			return c, err
		}
		own, err := Compare(was, a, l)
		if err != nil {
			return c, err
		}
		was = a
		c.AddStep(plan.Step{After: end, Lines: note(then.Lines), Ends: own.Lines}, then.OverBudget || own.OverBudget)
	}
	c.locate()
	return c, nil
}

// ends are the instants after which something of either side is no longer in force,
// sorted, of those that are ahead of both.
func ends(before, after *Program) []time.Time {
	out := slices.Concat(before.Expiries(), after.Expiries())
	out = slices.DeleteFunc(out, func(t time.Time) bool {
		now := t.UTC().Format(time.RFC3339)
		return cmp.Compare(now, before.inputs.At) < 0 || cmp.Compare(now, after.inputs.At) < 0
	})
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}

// asOf is the program one second after an end.
func (p *Program) asOf(end time.Time) (*Program, error) {
	if p.intent == nil {
		return p, nil
	}
	out, ds := p.At(end.Add(time.Second))
	if ds.HasErrors() {
		return nil, fmt.Errorf("as of %s: %w", end.Format(time.RFC3339), ds.Err())
	}
	return out, nil
}
