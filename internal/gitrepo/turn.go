package gitrepo

import (
	"context"
	"time"
)

// turn lets one goroutine at a time do what may never end: read files of a network
// file system, speak with a server, wait for an SSH agent.
type turn struct {
	lock chan struct{}
	// patience bounds one such work; without it, it is done in the caller's goroutine.
	patience time.Duration
	late     error // tells that patience ended
}

func newTurn(patience time.Duration, late error) *turn {
	return &turn{lock: make(chan struct{}, 1), patience: patience, late: late}
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
		go func() {
			defer func() { <-t.lock }()
			v, err := f(ctx)
			done <- answer{v, err}
		}()
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
