package gitrepo

import (
	"context"
	"sync"
	"time"
)

// turn lets one goroutine at a time do what may never end: read files of a network
// file system, speak with a server, wait for an SSH agent.
type turn struct {
	lock chan struct{}
	// patience bounds one such work; without it, it is done in the caller's goroutine.
	patience time.Duration
	late     error // tells that patience ended
	// work is for the one worker, which takes the next as soon as its last has let go of
	// lock. Whether there is a worker has a lock of its own: one that goes must not look
	// like one at work to whoever only tries lock.
	work   chan func()
	mu     sync.Mutex
	worker bool
}

func newTurn(patience time.Duration, late error) *turn {
	return &turn{lock: make(chan struct{}, 1), patience: patience, late: late, work: make(chan func(), 1)}
}

// lull is how long a worker waits for more: a look reads thousands of objects one after
// another, and a goroutine for each would grow a stack for each.
const lull = 50 * time.Millisecond

// do gives work to the worker. The caller holds lock, and the work lets go of it.
func (t *turn) do(work func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.worker {
		t.worker = true
		go t.workAll()
	}
	t.work <- work // which holds one, and only who holds lock sends
}

func (t *turn) workAll() {
	rest := time.NewTimer(lull)
	defer rest.Stop()
	for {
		select {
		case work := <-t.work:
			work()
			rest.Reset(lull)
		case <-rest.C:
			if t.goes() {
				return
			}
			rest.Reset(lull)
		}
	}
}

// goes lets the worker go, unless it has been given work.
func (t *turn) goes() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.worker = len(t.work) > 0
	return !t.worker
}

// inTurn runs f and gives up with ctx and when patience ends. What does not look at
// its context is left behind: no file can be made to answer. It keeps its turn until
// it ends, so that there is never more than one that is left.
func inTurn[T any](ctx context.Context, t *turn, f func(context.Context) (T, error)) (value T, err error) {
	if ctx.Err() != nil {
		return value, context.Cause(ctx)
	}
	if t.patience <= 0 {
		t.lock <- struct{}{}
		defer func() { <-t.lock }()
		return f(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.patience, t.late)
	defer cancel()
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	select {
	case t.lock <- struct{}{}:
		t.do(func() {
			v, err := f(ctx)
			<-t.lock // before the answer: who has it finds nobody at work
			done <- answer{v, err}
		})
	case <-ctx.Done():
		return value, context.Cause(ctx)
	}
	select {
	case a := <-done:
		if a.err != nil && ctx.Err() != nil { // it ended because of that
			return value, context.Cause(ctx)
		}
		return a.value, a.err
	case <-ctx.Done():
		return value, context.Cause(ctx)
	}
}
