package hostile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Hunt says how to look for attacks that hurt a neighbour.
type Hunt struct {
	Doors []Door
	Seed  uint64
	// First is the number of the first attack.
	First int
	// For is how long to look.
	For time.Duration
	// Check looks at what a neighbour does not feel at once, such as a workload out
	// of rotation; nil = nothing. It is called after every round.
	Check func(context.Context) error
	// Most findings before the hunt ends; 0 is one.
	Most int
}

// Finding is an attack that hurt a neighbour.
type Finding struct {
	Door Door
	// Number is the attack's, as At has it; -1 for one that was given.
	Number int
	// Attack has only what it needs to hurt. If Together is not empty, no single
	// attack did, but these did together.
	Attack   Attack
	Together []Attack
	// Harm is what the neighbour met.
	Harm string
}

// maxShell is the longest command that is worth printing.
const maxShell = 4096

// String is the finding with all that is needed to see it again.
func (f Finding) String() string {
	if len(f.Together) > 0 {
		var b strings.Builder
		first := f.Number - len(f.Together) + 1
		fmt.Fprintf(&b, "at the door %s: %s\n  by attacks %d to %d together, or by those before; none of these does it alone:\n", f.Door.Name, f.Harm, first, f.Number)
		for i, a := range f.Together {
			fmt.Fprintf(&b, "    %d: %.400s\n", first+i, a.Go())
		}
		return b.String()
	}
	out := fmt.Sprintf("at the door %s: %s\n  by attack %d: %s\n  %s", f.Door.Name, f.Harm, f.Number, f.Attack.Part, f.Attack.Go())
	if sh := f.Attack.Shell(f.Door.Addr); f.Door.Dial == nil && len(sh) < maxShell {
		out += "\n  " + sh
	}
	return out
}

// Result is what a hunt did.
type Result struct {
	Attacks  int
	Took     time.Duration
	Parts    map[string]int // how many attacks were about each part
	Findings []Finding
}

const (
	perRound = 24 // attacks at once
	opens    = 3  // requests that a neighbour has under way meanwhile
)

// Run hunts. An error means that the neighbour was not served before there was an
// attack, or the context ended.
func (h Hunt) Run(ctx context.Context) (Result, error) {
	r := Result{Parts: map[string]int{}}
	began := time.Now()
	f := newArena(h)
	defer f.close()
	for round := 0; time.Since(began) < h.For && len(r.Findings) < max(1, h.Most); round++ {
		at := round % len(h.Doors)
		if err := f.ready(ctx, at); err != nil {
			return r, err
		}
		batch := make([]Attack, perRound)
		for i := range batch {
			batch[i] = At(h.Seed, h.First+r.Attacks+i, h.Doors[at].Target)
			part, _, _ := strings.Cut(batch[i].Part, ",")
			r.Parts[part]++
		}
		if harm := f.check(ctx, at, batch); harm != nil && ctx.Err() == nil {
			x := f.explain(ctx, at, batch, harm)
			x.Number += h.First + r.Attacks
			r.Findings = append(r.Findings, x)
		}
		r.Attacks += perRound
	}
	r.Took = time.Since(began)
	return r, ctx.Err()
}

// repeats is how often an attack that did harm gets another chance to.
const repeats = 2

// Try carries out one attack at all doors at once and returns what it did to
// neighbours, not cut down. As in Run, harm is what the attack does again: a machine
// with too much to do fails a request by itself now and then.
func (h Hunt) Try(ctx context.Context, a func(Door) Attack) ([]Finding, error) {
	found, err := h.once(ctx, a)
	if len(found) == 0 || err != nil {
		return found, err
	}
	for range repeats {
		if again, err := h.once(ctx, a); len(again) > 0 || err != nil {
			return append(found, again...), err
		}
	}
	return nil, nil
}

// once is one round of Try.
func (h Hunt) once(ctx context.Context, a func(Door) Attack) ([]Finding, error) {
	f := newArena(h)
	defer f.close()
	var g errgroup.Group
	harm := make([]error, len(h.Doors))
	for at, d := range h.Doors {
		g.Go(func() error {
			if err := f.ready(ctx, at); err != nil {
				return err
			}
			harm[at] = f.round(ctx, at, []Attack{a(d)})
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []Finding
	for at, d := range h.Doors {
		if harm[at] != nil {
			out = append(out, Finding{Door: d, Number: -1, Attack: a(d), Harm: harm[at].Error()})
		}
	}
	if h.Check != nil {
		if err := h.Check(ctx); err != nil {
			out = append(out, Finding{Door: h.Doors[0], Number: -1, Attack: a(h.Doors[0]), Harm: err.Error()})
		}
	}
	return out, ctx.Err()
}

// arena is where hostile clients and neighbours meet.
type arena struct {
	hunt       Hunt
	client     client
	neighbours []*neighbour // one at each door
}

func newArena(h Hunt) *arena {
	f := &arena{hunt: h}
	for _, d := range h.Doors {
		f.neighbours = append(f.neighbours, newNeighbour(d))
	}
	return f
}

func (f *arena) close() {
	f.client.close()
	for _, n := range f.neighbours {
		n.close()
	}
}

// check is a round at one door and a look at what is felt later.
func (f *arena) check(ctx context.Context, at int, batch []Attack) error {
	harm := f.round(ctx, at, batch)
	if f.hunt.Check != nil {
		harm = errors.Join(harm, f.hunt.Check(ctx))
	}
	return harm
}

func (f *arena) ready(ctx context.Context, at int) error {
	if err := f.neighbours[at].well(ctx); err != nil {
		return fmt.Errorf("the neighbour at the door %s, before the attack: %w", f.hunt.Doors[at].Name, err)
	}
	return nil
}

// round begins a neighbour's requests, carries out the attacks, and demands the
// rest of the answers and those to new requests.
func (f *arena) round(ctx context.Context, at int, batch []Attack) error {
	n := f.neighbours[at]
	var held []*open
	for range opens {
		o, err := n.open(ctx)
		if err != nil {
			return fmt.Errorf("a new request before the attack: %w", err)
		}
		held = append(held, o)
	}
	var wg sync.WaitGroup
	for _, a := range batch {
		wg.Go(func() { f.client.attack(ctx, f.hunt.Doors[at], a) })
	}
	wg.Wait()
	harm := make([]error, opens+1)
	for i, o := range held {
		wg.Go(func() {
			if err := o.finish(); err != nil {
				harm[i] = fmt.Errorf("a request under way: %w", err)
			}
		})
	}
	wg.Wait()
	if err := n.ask(ctx); err != nil {
		harm[opens] = fmt.Errorf("a new request: %w", err)
	}
	return errors.Join(harm...)
}
