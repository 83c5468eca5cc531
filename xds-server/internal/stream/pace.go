package stream

import (
	"context"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
)

// pacer makes a client that asks too fast wait: its requests are read later, and
// pile up on its own side. It belongs to one receiver.
type pacer struct {
	rate, burst, tokens float64
	at                  time.Time
}

// requestBurst is how long a stream may save up.
const requestBurst = 2 * time.Second

func newPacer(perSecond int, burst time.Duration, now time.Time) *pacer {
	b := float64(perSecond) * burst.Seconds()
	return &pacer{rate: float64(perSecond), burst: b, tokens: b, at: now}
}

// take takes tokens and says how long it is until there are some again.
func (p *pacer) take(tokens float64, now time.Time) time.Duration {
	// A clock that goes back takes nothing away.
	p.tokens = min(p.burst, p.tokens+p.rate*max(0, now.Sub(p.at).Seconds())) - tokens
	p.at = now
	if p.tokens >= 0 {
		return 0
	}
	return time.Duration(-p.tokens / p.rate * float64(time.Second))
}

// allow takes one token if there is one.
func (p *pacer) allow(now time.Time) bool {
	if p.take(0, now); p.tokens < 1 {
		return false
	}
	p.tokens--
	return true
}

// sleep sleeps until d is over or ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// namesPerToken and bytesPerToken are what costs as much as a request.
const (
	namesPerToken = 50
	bytesPerToken = 8 << 10
)

// effort is what the requests since the last call cost beside their own size: a
// short request can change a long subscription.
func (s *session) effort() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.work
	s.work = 0
	return float64(n) / namesPerToken
}

// tokensOf is what a request costs.
func tokensOf(r request) float64 {
	names := 0
	switch r := r.(type) {
	case *discoveryv3.DeltaDiscoveryRequest:
		names = len(r.GetResourceNamesSubscribe()) + len(r.GetResourceNamesUnsubscribe()) + len(r.GetInitialResourceVersions())
	case *discoveryv3.DiscoveryRequest:
		names = len(r.GetResourceNames())
	}
	return 1 + float64(names)/namesPerToken + float64(proto.Size(r))/bytesPerToken
}
