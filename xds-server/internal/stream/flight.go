package stream

import (
	"time"

	"meshc.dev/meshc/xds-server/internal/phase"
	"meshc.dev/meshc/xds-server/internal/store"
	"meshc.dev/meshc/xds-server/internal/view"
)

// flight is a response that was sent and not answered yet.
type flight struct {
	nonce    string
	step     phase.Step
	base     *view.List // what the client held before
	target   *view.List // what it was on the way to
	v        *version
	frame    *store.Frame
	sentAt   time.Time
	deadline time.Time
	overdue  bool
	// marks says that the response has something that tells its release's position.
	marks bool
	// doubt is what the client is believed to hold after the flight became
	// overdue: if that is still so when it is confirmed after all, nothing was
	// sent in between and the doubt is over.
	doubt *view.List
}

// names are the names that the response touches.
func (f *flight) names() []string {
	out := make([]string, 0, len(f.step.Items)+len(f.step.Removed))
	for _, it := range f.step.Items {
		out = append(out, it.Name)
	}
	return append(out, f.step.Removed...)
}

// warms tells whether the client confirms only after the clusters' endpoints.
func (f *flight) warms() bool {
	if f.step.Type != view.Clusters {
		return false
	}
	for _, it := range f.step.Items {
		if len(it.Needs[view.Endpoints]) > 0 {
			return true
		}
	}
	return false
}

// channel is one resource type of a stream.
type channel struct {
	// names is nil until the client asks for the type.
	names *view.Names
	// part is what was asked for last of what the client subscribes to.
	part part
	// explicit says that a state-of-the-world client gave names at least once, so
	// that none means nothing from then on.
	explicit bool
	// dropped are names that a state-of-the-world client gave up in a request that
	// crossed a response and did not count.
	dropped []string
	// held is what the client has or will have when it takes what was sent.
	held    *view.List
	flights []*flight
	// last is the nonce of the last response, which a state-of-the-world request
	// must carry to count.
	last string
	// failures counts those of the target that failed, which nothing was confirmed since;
	// until retry nothing is sent unless the target is another.
	failures int
	retry    time.Time
	failed   *view.List
	// greet says that the client said that it has nothing and got no answer yet.
	greet bool
}

// part is what a list has of the names.
type part struct {
	of    *view.List
	names *view.Names
	list  *view.List
}

func (c *channel) open() bool { return c.names != nil }

// underway returns the newest flight within its time limit.
func (c *channel) underway() bool {
	for _, f := range c.flights {
		if !f.overdue {
			return true
		}
	}
	return false
}

func (c *channel) take(nonce string) *flight {
	for i, f := range c.flights {
		if f.nonce == nonce {
			// An answer to a later response answers the earlier ones too: the
			// client reads in order, and an overdue one may never be answered.
			c.flights = append([]*flight{}, c.flights[i+1:]...)
			return f
		}
	}
	return nil
}

const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// backOff postpones the next attempt at the same target.
func (c *channel) backOff(target *view.List, now time.Time) {
	if c.failed != target {
		c.failures = 0
	}
	wait := min(firstRetry<<min(c.failures, 10), lastRetry)
	c.failures++
	c.retry, c.failed = now.Add(wait), target
}
