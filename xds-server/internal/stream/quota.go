package stream

import (
	"context"
	"sync"
	"time"

	"meshc.dev/meshc/xds-server/internal/view"
)

// quota bounds what all streams of one identity cost together. A workload that
// was taken over has one identity, however many streams it opens.
type quota struct {
	mu sync.Mutex
	// subs counts the streams of each distinct subscription, bytes is what these
	// take. Equal subscriptions, which replicas of a workload have, count once.
	subs         map[*view.Names]int
	bytes, limit int
	// arrivals makes streams that open too fast wait.
	arrivals *pacer
	// lines bounds what is logged because of the identity; unsaid counts what was not.
	lines  *pacer
	unsaid int
}

const (
	// arrivalRate and arrivalBurst are in units of a stream's own rate of requests:
	// some thousand proxies of one identity may come back at once.
	arrivalRate  = 20
	arrivalBurst = 10
	// arrivalTokens is what opening a stream costs beside its first request.
	arrivalTokens = 10
	// linesPerSecond are logged after a burst of linesBurst times that.
	linesPerSecond, linesBurst = 5, 20 * time.Second
)

func newQuota(l Limits, now time.Time) *quota {
	return &quota{
		subs: map[*view.Names]int{}, limit: l.SubscriptionBytes,
		arrivals: newPacer(arrivalRate*l.RequestsPerSecond, arrivalBurst*time.Second, now),
		lines:    newPacer(linesPerSecond, linesBurst, now),
	}
}

// swap replaces a stream's subscription; either may be nil. It reports false, and
// changes nothing, if the identity has too many.
func (q *quota) swap(old, next *view.Names) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if old == next {
		return true
	}
	if next != nil {
		if q.subs[next] == 0 {
			// What everybody has, "everything" or a single name, is never refused.
			if next.Len() > 1 && q.bytes+next.Bytes() > q.limit {
				return false
			}
			q.bytes += next.Bytes()
		}
		q.subs[next]++
	}
	if old != nil {
		if q.subs[old]--; q.subs[old] == 0 {
			delete(q.subs, old)
			q.bytes -= old.Bytes()
		}
	}
	return true
}

// charge takes tokens for a stream that opened.
func (q *quota) charge(tokens float64, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.arrivals.take(tokens, now)
	// Many streams may be let in at once: what they cost together keeps others of
	// the identity waiting only so long.
	q.arrivals.tokens = max(q.arrivals.tokens, -q.arrivals.burst)
}

// admit waits until a stream may open.
func (q *quota) admit(ctx context.Context, now time.Time) error {
	q.mu.Lock()
	wait := q.arrivals.take(0, now)
	q.mu.Unlock()
	return sleep(ctx, wait)
}

// say tells whether a line about the identity may be logged, and how many were not
// since the last one.
func (q *quota) say(now time.Time) (bool, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.lines.allow(now) {
		q.unsaid++
		return false, 0
	}
	n := q.unsaid
	q.unsaid = 0
	return true, n
}
