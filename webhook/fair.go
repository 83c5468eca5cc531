package webhook

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"meshc.dev/meshc/internal/diag"
)

// maxShare bounds the questions about one namespace that are judged at a time: whoever
// has objects there whose judgement takes long must not take all of maxJudged.
const maxShare = maxJudged / 4

// shares gives each namespace room of its own.
type shares struct {
	most  int64 // questions about one namespace at a time
	mu    sync.Mutex
	inUse map[string]*share
}

type share struct {
	room *semaphore.Weighted
	held int // by those who wait and those who have room
}

// acquire waits for room for a question about a namespace; release gives it back.
func (s *shares) acquire(ctx context.Context, namespace string) (release func(), err error) {
	s.mu.Lock()
	if s.inUse == nil {
		s.inUse = map[string]*share{}
	}
	own := s.inUse[namespace]
	if own == nil {
		own = &share{room: semaphore.NewWeighted(s.most)}
		s.inUse[namespace] = own
	}
	own.held++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if own.held--; own.held == 0 {
			delete(s.inUse, namespace)
		}
	}
	if err := own.room.Acquire(ctx, 1); err != nil {
		leave()
		return nil, err
	}
	return func() {
		own.room.Release(1)
		leave()
	}, nil
}

// endless is how long an evaluation may go on after it was to end. It is no request's
// any more, but it has a processor and memory, and nothing but the end of the process
// takes them back.
const endless = 10 * time.Second

// watch ends the server when an evaluation cannot be ended, so that whoever runs the
// process starts it anew.
func (s *Server) watch(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var seen lateness
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		steps := s.steps.Load()
		if steps == nil {
			continue
		}
		number, pkg := (*steps)[0].policies.Stuck() // those of all steps, and of the releases before
		if err := seen.look(number, pkg, s.c.Now()); err != nil {
			return err
		}
	}
}

// lateness is the evaluation that was last seen to run after its time.
type lateness struct {
	number int
	since  time.Time
}

// look says that an evaluation of a policy does not end, nil while it may.
func (l *lateness) look(number int, pkg string, now time.Time) error {
	if number == 0 || l.number != number {
		*l = lateness{number, now}
		return nil
	}
	late := now.Sub(l.since)
	if late < endless {
		return nil
	}
	d := diag.New(diag.CodePolicyBudget, diag.Pos{}, "an evaluation of policy %q does not end, %s after its time was over: the process ends to be started anew", pkg, late.Round(time.Second))
	return fmt.Errorf("judging: %w", diag.List{d.WithFix("make the rule cheaper, and report the function that it computes with")}.Err())
}
