package cli

import (
	"github.com/prometheus/client_golang/prometheus"

	"meshc.dev/meshc/internal/feed"
)

// sourceMetrics count what the feed tells, so that an alarm need not read logs.
type sourceMetrics struct {
	events    *prometheus.CounterVec
	reachable prometheus.Gauge
	stale     prometheus.Gauge
	policy    prometheus.Gauge
}

func newSourceMetrics(r prometheus.Registerer) *sourceMetrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "meshc", Subsystem: "source", Name: name, Help: help}
	}
	m := &sourceMetrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts(opts("events_total", "What the repository brought, by kind: approved, refused, ignored, damaged and so on.")),
			[]string{"kind", "code"}),
		reachable: prometheus.NewGauge(prometheus.GaugeOpts(opts("reachable", "1 while the repository answers."))),
		stale:     prometheus.NewGauge(prometheus.GaugeOpts(opts("stale", "1 while the newest signed evidence is older than the trust policy's freshness."))),
		policy:    prometheus.NewGauge(prometheus.GaugeOpts(opts("policy_current", "1 while the trust policy in use is what its file holds, 0 while that cannot be used."))),
	}
	m.reachable.Set(1)
	m.policy.Set(1)
	r.MustRegister(m.events, m.reachable, m.stale, m.policy)
	return m
}

func (m *sourceMetrics) see(e feed.Event) {
	code := ""
	if ds := findings(e.Err); len(ds) > 0 {
		code = string(ds[0].Code)
	}
	m.events.WithLabelValues(string(e.Kind), code).Inc()
	switch e.Kind {
	case feed.Unreachable:
		m.reachable.Set(0)
	case feed.Reachable:
		m.reachable.Set(1)
	case feed.Stale:
		m.stale.Set(1)
	case feed.Fresh:
		m.stale.Set(0)
	case feed.PolicyTaken:
		m.policy.Set(1)
	case feed.PolicyRefused:
		m.policy.Set(0)
	case feed.Approved, feed.Refused, feed.Damaged, feed.NotStored, feed.Ignored:
	}
}
