package xdsserver

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meshc.dev/meshc/xds-server/internal/endpoints/kube"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/stream"
	"meshc.dev/meshc/xds-server/internal/view"
)

// meter is the Prometheus form of stream.Meter. Labels come from small fixed
// sets: no metric grows with the number of proxies.
type meter struct {
	connected *prometheus.GaugeVec
	refused   *prometheus.CounterVec
	pushes    *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	answers   *prometheus.CounterVec
	latency   *prometheus.HistogramVec
	held      prometheus.Gauge
	ignored   prometheus.Gauge
	unwanted  prometheus.Counter
	rejected  prometheus.Counter
	release   *prometheus.GaugeVec
	published prometheus.Gauge
	// opened counts the streams of all time.
	opened atomic.Int64
}

func newMeter(r prometheus.Registerer) *meter {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "meshc", Subsystem: "xds", Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.GaugeOpts { return prometheus.GaugeOpts(opts(name, help)) }
	counter := func(name, help string) prometheus.CounterOpts { return prometheus.CounterOpts(opts(name, help)) }
	m := &meter{
		connected: prometheus.NewGaugeVec(gauge("connected_proxies", "Open streams of proxies."), []string{"protocol"}),
		refused:   prometheus.NewCounterVec(counter("refused_streams_total", "Streams that got no service."), []string{"reason"}),
		pushes:    prometheus.NewCounterVec(counter("pushes_total", "Responses sent."), []string{"type"}),
		bytes:     prometheus.NewCounterVec(counter("pushed_bytes_total", "Bytes of responses sent."), []string{"type"}),
		answers:   prometheus.NewCounterVec(counter("answers_total", "Answers to responses: acked, nacked, or overdue."), []string{"type", "state"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "meshc", Subsystem: "xds", Name: "push_latency_seconds", Help: "Time from a response to its confirmation.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"type"}),
		held:      prometheus.NewGauge(gauge("held_classes", "Classes kept at an earlier release after a failure.")),
		ignored:   prometheus.NewGauge(gauge("ignored_endpoint_sources", "Sources of addresses that no cluster of the release names.")),
		unwanted:  prometheus.NewCounter(counter("ignored_endpoint_changes_total", "Changes made by sources that no cluster of the release names.")),
		rejected:  prometheus.NewCounter(counter("rejected_connections_total", "Connections over the rate limit of their address.")),
		release:   prometheus.NewGaugeVec(gauge("release_info", "The release that is served, as labels."), []string{"commit", "release", "environment"}),
		published: prometheus.NewGauge(gauge("release_published_seconds", "When the release was published, as a Unix time.")),
	}
	r.MustRegister(m.connected, m.refused, m.pushes, m.bytes, m.answers, m.latency, m.held, m.ignored, m.unwanted, m.rejected, m.release, m.published)
	// From 0 on: who looks for what a counter grows by does not see one that appears with a 1.
	for _, reason := range stream.Reasons() {
		m.refused.WithLabelValues(reason)
	}
	for t := range view.Types {
		for _, s := range []ledger.State{ledger.Acked, ledger.Nacked, ledger.Overdue} {
			m.answers.WithLabelValues(t.String(), string(s))
		}
	}
	return m
}

func (m *meter) Connected(protocol string, n int) {
	m.connected.WithLabelValues(protocol).Add(float64(n))
	if n > 0 {
		m.opened.Add(int64(n))
	}
}

func (m *meter) Refused(reason string) { m.refused.WithLabelValues(reason).Inc() }

func (m *meter) Pushed(t view.Type, bytes int) {
	m.pushes.WithLabelValues(t.String()).Inc()
	m.bytes.WithLabelValues(t.String()).Add(float64(bytes))
}

func (m *meter) Answered(t view.Type, s ledger.State, after time.Duration) {
	m.answers.WithLabelValues(t.String(), string(s)).Inc()
	if s == ledger.Acked {
		m.latency.WithLabelValues(t.String()).Observe(after.Seconds())
	}
}

func (m *meter) Held(classes int) { m.held.Set(float64(classes)) }

func (m *meter) Ignored(sources int) { m.ignored.Set(float64(sources)) }

func (m *meter) Unwanted(changes int) { m.unwanted.Add(float64(changes)) }

func (m *meter) released(commit, digest, environment string, at time.Time) {
	m.release.Reset()
	m.release.WithLabelValues(commit, digest, environment).Set(1)
	m.published.Set(float64(at.Unix()))
}

// byClass counts proxies of which something is wrong, by class, when it is asked. A class
// without any has no sample, so that the usual answer is empty.
type byClass struct {
	desc  *prometheus.Desc
	count func() map[string]int
}

func newBehindProxies(count func() map[string]int) byClass {
	const help = "Connected proxies that have not confirmed what is approved for them, held or not."
	return byClass{prometheus.NewDesc("meshc_xds_behind_proxies", help, []string{"class"}, nil), count}
}

func newHeldProxies(count func() map[string]int) byClass {
	const help = "Connected proxies kept at an earlier release after a failure."
	return byClass{prometheus.NewDesc("meshc_xds_held_proxies", help, []string{"class"}, nil), count}
}

const (
	// maxHeldClasses are told by name, those with the most such proxies.
	maxHeldClasses = 100
	// otherClasses is the label of all others together; no class is called that.
	otherClasses = "other"
)

// Describe implements prometheus.Collector.
func (h byClass) Describe(ch chan<- *prometheus.Desc) { ch <- h.desc }

// Collect implements prometheus.Collector.
func (h byClass) Collect(ch chan<- prometheus.Metric) {
	counts := h.count()
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	others := 0
	for i, name := range names {
		if i >= maxHeldClasses {
			others += counts[name]
			continue
		}
		ch <- prometheus.MustNewConstMetric(h.desc, prometheus.GaugeValue, float64(counts[name]), name)
	}
	if others > 0 {
		ch <- prometheus.MustNewConstMetric(h.desc, prometheus.GaugeValue, float64(others), otherClasses)
	}
}

// clusterMetrics are how it is with the cluster in which services are discovered, asked
// when they are read.
type clusterMetrics struct {
	state                   func() kube.State
	now                     func() time.Time
	endpoints, current, age *prometheus.Desc
}

func newClusterMetrics(state func() kube.State, now func() time.Time) clusterMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("meshc_kubernetes_"+name, help, labels, nil)
	}
	return clusterMetrics{
		state, now,
		desc("endpoints", "Endpoints of the cluster by what became of them.", "state"),
		desc("current", "1 while all that is needed of the Kubernetes API is being followed."),
		desc("table_age_seconds", "How long some of it has not been followed; 0 while all is."),
	}
}

// Describe implements prometheus.Collector.
func (c clusterMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.endpoints
	ch <- c.current
	ch <- c.age
}

// Collect implements prometheus.Collector.
func (c clusterMetrics) Collect(ch chan<- prometheus.Metric) {
	st := c.state()
	for fate, n := range st.Endpoints {
		ch <- prometheus.MustNewConstMetric(c.endpoints, prometheus.GaugeValue, float64(n), string(fate))
	}
	current, age := 1.0, 0.0
	if !st.Current {
		current, age = 0, max(0, c.now().Sub(st.Since).Seconds())
	}
	ch <- prometheus.MustNewConstMetric(c.current, prometheus.GaugeValue, current)
	ch <- prometheus.MustNewConstMetric(c.age, prometheus.GaugeValue, age)
}
