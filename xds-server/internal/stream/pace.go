package stream

import (
	"context"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// pacer makes a client that asks too fast wait: its requests are read later, and
// pile up on its own side. It belongs to one receiver.
type pacer struct {
	rate, tokens float64
	at           time.Time
}

const burstSeconds = 2

func newPacer(perSecond int, now time.Time) *pacer {
	return &pacer{rate: float64(perSecond), tokens: float64(perSecond * burstSeconds), at: now}
}

// wait takes tokens, and sleeps until there are some again.
func (p *pacer) wait(ctx context.Context, tokens float64, now time.Time) error {
	p.tokens = min(p.rate*burstSeconds, p.tokens+p.rate*now.Sub(p.at).Seconds()) - tokens
	p.at = now
	if p.tokens >= 0 {
		return nil
	}
	t := time.NewTimer(time.Duration(-p.tokens / p.rate * float64(time.Second)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// namesPerToken is how many names cost as much as a request.
const namesPerToken = 50

// tokensOf is what a request costs.
func tokensOf(r request) float64 {
	names := 0
	switch r := r.(type) {
	case *discoveryv3.DeltaDiscoveryRequest:
		names = len(r.GetResourceNamesSubscribe()) + len(r.GetResourceNamesUnsubscribe()) + len(r.GetInitialResourceVersions())
	case *discoveryv3.DiscoveryRequest:
		names = len(r.GetResourceNames())
	}
	return 1 + float64(names)/namesPerToken
}
