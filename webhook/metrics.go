package webhook

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meshc.dev/meshc/compiler/release"
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
	audit    auditMetrics
}

// auditMetrics are about the last audit of this replica.
type auditMetrics struct {
	findings                           *prometheus.GaugeVec
	objects, unread, seconds, finished prometheus.Gauge
}

func newAuditMetrics() auditMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "meshc_webhook_audit_" + name, Help: help})
	}
	return auditMetrics{
		findings: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "meshc_webhook_audit_findings", Help: "What the last audit found in objects that are there, by severity and code.",
		}, []string{"severity", "code"}),
		objects:  gauge("objects", "Objects that the last audit looked at."),
		unread:   gauge("unread", "What the last audit could not look at; the log says why."),
		seconds:  gauge("seconds", "How long the last audit took."),
		finished: gauge("finished_timestamp_seconds", "When this replica finished its last audit, in seconds since 1970; 0 if another one has them."),
	}
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
	m.audit = newAuditMetrics()
	for _, name := range append(release.PolicyNames(), GuardName, InjectName) {
		m.restores.WithLabelValues(name)
	}
	if r != nil {
		r.MustRegister(m.reviews, m.seconds, m.findings, m.exempted, m.requests, m.restores,
			m.audit.findings, m.audit.objects, m.audit.unread, m.audit.seconds, m.audit.finished)
	}
	return m
}

// tellAsked has a metric say whether the API server asks.
func tellAsked(r *prometheus.Registry, asked func() bool) {
	if r == nil {
		return
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "meshc_webhook_asked", Help: "1 while the API server asks webhooks of this mesh, as a question of this one's own shows; 0 while it does not, or nobody knows yet.",
	}, func() float64 {
		if asked() {
			return 1
		}
		return 0
	}))
}

func (m *metrics) answered(path string, q review.Review, v verdict, took time.Duration) {
	word := "allowed"
	switch {
	case !v.allowed() && own(q):
		word = "tried"
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

func (m *metrics) audited(a *Audit) {
	m.audit.findings.Reset()
	for severity, counts := range a.Findings {
		for code, n := range counts {
			m.audit.findings.WithLabelValues(string(severity), string(code)).Set(float64(n))
		}
	}
	m.audit.objects.Set(float64(a.Objects))
	m.audit.unread.Set(float64(len(a.Unread)))
	m.audit.seconds.Set(a.Seconds)
	m.audit.finished.Set(0)
	if !a.Began.IsZero() {
		m.audit.finished.Set(float64(a.Began.Unix()) + a.Seconds)
	}
}
