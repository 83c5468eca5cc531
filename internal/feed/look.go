package feed

import (
	"context"
	"fmt"
	"time"

	"meshc.dev/meshc/internal/gitrepo"
)

// look is the context of one look at the repository: it ends when the feed is
// stopped, and when reading and judging take too long.
type look struct {
	context.Context
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	patience time.Duration
}

func newLook(ctx context.Context, patience time.Duration) *look {
	l := &look{patience: patience}
	l.Context, l.cancel = context.WithCancelCause(ctx)
	late := &gitrepo.TransportError{Step: "looking through the repository", Err: fmt.Errorf("not done within %s", patience)}
	l.timer = time.AfterFunc(patience, func() { l.cancel(late) })
	return l
}

// apart runs what has limits of its own. Afterwards the look has its whole time again.
func (l *look) apart(f func()) {
	if !l.timer.Stop() {
		return // it is over already
	}
	f()
	l.timer.Reset(l.patience)
}

func (l *look) end() {
	l.timer.Stop()
	l.cancel(context.Canceled)
}
