package webhook

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/webhook/internal/review"
)

// metrics have labels from closed sets only: a name in a cluster is anybody's.
type metrics struct {
	reviews  *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	findings *prometheus.CounterVec
	exempted *prometheus.CounterVec
	requests *prometheus.CounterVec
	restores *prometheus.CounterVec
}

func newMetrics(r *prometheus.Registry) *metrics {
	m := &metrics{
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meshc_webhook_reviews_total", Help: "Reviews answered, by webhook, operation and verdict.",
		}, []string{"webhook", "operation", "verdict"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "meshc_webhook_review_seconds", Help: "Time from a review's header to its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		}, []string{"webhook"}),
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meshc_webhook_findings_total", Help: "What rules over objects found in reviews, by rule and severity.",
		}, []string{"rule", "severity"}),
		exempted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meshc_webhook_exempted_total", Help: "Findings that an exemption let through, by exemption and rule.",
		}, []string{"exemption", "rule"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meshc_webhook_refused_requests_total", Help: "Requests that were no reviews, by HTTP status.",
		}, []string{"status"}),
		restores: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meshc_webhook_configuration_restored_total", Help: "Times that a webhook configuration was put back because somebody had changed or removed it.",
		}, []string{"configuration"}),
	}
	for _, name := range []string{GuardName, InjectName} {
		m.restores.WithLabelValues(name)
	}
	if r != nil {
		r.MustRegister(m.reviews, m.seconds, m.findings, m.exempted, m.requests, m.restores)
	}
	return m
}

func (m *metrics) answered(path string, q review.Review, v verdict, took time.Duration) {
	word := "allowed"
	switch {
	case !v.allowed() && v.status != 0:
		word = "not judged"
	case !v.allowed():
		word = "denied"
	case slices.ContainsFunc(v.problems, func(d diag.Diagnostic) bool { return d.Severity == diag.Warning }):
		word = "warned"
	}
	for _, f := range v.found {
		if f.Exemption != "" {
			m.exempted.WithLabelValues(f.Exemption, f.Rule.ID).Inc()
			continue
		}
		m.findings.WithLabelValues(f.Rule.ID, string(f.Severity)).Inc()
	}
	webhook := strings.TrimPrefix(path, "/")
	m.reviews.WithLabelValues(webhook, strings.ToLower(string(q.Operation)), word).Inc()
	m.seconds.WithLabelValues(webhook).Observe(took.Seconds())
}

func (m *metrics) refused(status int) { m.requests.WithLabelValues(strconv.Itoa(status)).Inc() }

func (m *metrics) restored(configuration string) { m.restores.WithLabelValues(configuration).Inc() }
