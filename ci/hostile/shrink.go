package hostile

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Bounds of the search for the bytes that matter.
const (
	shrinkTries = 400
	shrinkFor   = 4 * time.Minute
)

// explain finds the attack of a batch that did the harm, and cuts it down. Harm has
// to come twice: what an earlier attack did may be felt late.
func (f *arena) explain(ctx context.Context, at int, batch []Attack, harm error) Finding {
	s := shrinker{f: f, ctx: ctx, at: at, until: time.Now().Add(shrinkFor)}
	once := -1 // did harm, but not again
	for range 2 {
		for i, a := range batch {
			if why := s.harm(a); why != nil {
				if again := s.harm(a); again != nil {
					a, harm = s.shrink(a, again)
					return Finding{Door: f.hunt.Doors[at], Number: i, Attack: a, Harm: harm.Error()}
				}
				once, harm = i, fmt.Errorf("%w; but not each time", why)
			}
		}
	}
	if once >= 0 {
		return Finding{Door: f.hunt.Doors[at], Number: once, Attack: batch[once], Harm: harm.Error()}
	}
	return Finding{Door: f.hunt.Doors[at], Number: len(batch) - 1, Together: batch, Harm: harm.Error()}
}

type shrinker struct {
	f     *arena
	ctx   context.Context //nolint:containedctx // that of one search
	at    int
	tries int
	until time.Time
}

// harm is what an attack does to a neighbour who is well before.
func (s *shrinker) harm(a Attack) error {
	if s.f.ready(s.ctx, s.at) != nil || s.ctx.Err() != nil {
		return nil
	}
	return s.f.check(s.ctx, s.at, []Attack{a})
}

// shrink cuts an attack that does harm down while it does: twice, for what was tried
// before may be felt late.
func (s *shrinker) shrink(a Attack, why error) (Attack, error) {
	keep := func(b Attack) bool {
		if s.tries >= shrinkTries || time.Now().After(s.until) {
			return false
		}
		s.tries++
		if s.harm(b) == nil {
			return false
		}
		err := s.harm(b)
		if err == nil {
			return false
		}
		a, why = b, err
		return true
	}
	plain := a
	plain.Sends, plain.Pause, plain.Times, plain.End = [][]byte{a.Bytes()}, 0, 0, Answered
	for _, b := range []Attack{plain, {a.Part, plain.Sends, 0, 0, a.End}, {a.Part, plain.Sends, 0, a.Times, a.End}, {a.Part, a.Sends, a.Pause, 0, a.End}} {
		if keep(b) {
			break
		}
	}
	for i := range a.Sends {
		for size := len(a.Sends[i]) / 2; size > 0; size /= 2 {
			for from := 0; from < len(a.Sends[i]); {
				b := a
				b.Sends = slices.Clone(a.Sends)
				b.Sends[i] = slices.Delete(slices.Clone(a.Sends[i]), from, min(from+size, len(a.Sends[i])))
				if !keep(b) {
					from += size
				}
			}
		}
	}
	return a, why
}
