package webhook

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meshc.dev/meshc/webhook/internal/review"
)

// metrics have labels from closed sets only: a name in a cluster is anybody's.
type metrics struct {
	reviews  *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	requests *prometheus.CounterVec
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
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meshc_webhook_refused_requests_total", Help: "Requests that were no reviews, by HTTP status.",
		}, []string{"status"}),
	}
	if r != nil {
		r.MustRegister(m.reviews, m.seconds, m.requests)
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
	case len(v.problems) > 0:
		word = "warned"
	}
	webhook := strings.TrimPrefix(path, "/")
	m.reviews.WithLabelValues(webhook, strings.ToLower(string(q.Operation)), word).Inc()
	m.seconds.WithLabelValues(webhook).Observe(took.Seconds())
}

func (m *metrics) refused(status int) { m.requests.WithLabelValues(strconv.Itoa(status)).Inc() }
