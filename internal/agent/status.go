package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"meshc.dev/meshc/internal/certstore"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/probe"
	"meshc.dev/meshc/internal/redirect"
)

// page serves /ready and /metrics.
type page struct {
	hold     *holder
	certs    *certstore.Store
	admin    *admin
	clock    func() time.Time
	stats    *stats
	stopping atomic.Bool
	// redirected says that connections have to reach Envoy whatever they dial.
	redirected bool
	// proxyless says that there is no Envoy, and written that a program may start.
	proxyless bool
	written   atomic.Bool
	// probes asks the application; nil where none are declared.
	probes *probe.Set
}

// notReady gives every reason why traffic should not come here; none means
// ready. Envoy's own /ready is no help: it says LIVE with a refused listener.
func (p *page) notReady(ctx context.Context) []string {
	out := []string{}
	if p.stopping.Load() {
		out = append(out, "stopping")
	}
	switch s, _ := p.hold.get(); {
	case s == nil:
		return append(out, "no identity yet")
	case s.ended(p.clock()):
		out = append(out, "the certificate has ended")
	}
	if p.proxyless { // whether the program is ready, it says itself
		if !p.written.Load() {
			out = append(out, "no bootstrap yet")
		}
		return out
	}
	listeners, err := p.admin.listeners(ctx)
	if err != nil {
		return append(out, "Envoy does not answer: "+err.Error())
	}
	if len(listeners) == 0 {
		out = append(out, "Envoy has no listener")
	}
	if p.redirected && len(listeners) > 0 {
		if err := redirect.Goes(ctx); err != nil {
			out = append(out, err.Error())
		}
	}
	const warming = "listener_manager.total_listeners_warming"
	stats, err := p.admin.stats(ctx, warming)
	if err != nil {
		return append(out, "Envoy does not answer: "+err.Error())
	}
	if w := stats[warming]; w > 0 {
		out = append(out, fmt.Sprintf("%d listeners are warming", w))
	}
	return out
}

func (p *page) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		reasons := p.notReady(r.Context())
		w.Header().Set("Content-Type", "application/json")
		if len(reasons) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"ready": len(reasons) == 0, "reasons": reasons})
	})
	mux.HandleFunc("GET /probe/{container}/{kind}", p.ask)
	mux.HandleFunc("GET /certificates", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"certificates": p.certs.Status()})
	})
	mux.HandleFunc("GET /metrics", p.scraped)
	return mux
}

// scraped writes the agent's metrics and Envoy's behind them: a proxy is one place to scrape. Of an
// Envoy that does not answer there are none, which meshc_agent_envoy_metrics says; of one that stops in
// between the answer breaks off, for half of them would look like all.
func (p *page) scraped(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	envoy, err := p.admin.open(r.Context(), http.MethodGet, "/stats/prometheus")
	if err != nil {
		_, _ = fmt.Fprint(w, p.metrics(false))
		return
	}
	defer envoy.Close()
	_, _ = fmt.Fprint(w, p.metrics(true))
	if _, err := io.Copy(w, envoy); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// ask answers for the application: 200 if it passes, 503 if not, 404 for what is not declared.
func (p *page) ask(w http.ResponseWriter, r *http.Request) {
	err := probe.ErrUndeclared
	if p.probes != nil {
		err = p.probes.Ask(r.Context(), r.PathValue("container"), r.PathValue("kind"))
	}
	switch {
	case errors.Is(err, probe.ErrUndeclared):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// metrics is the text form of Prometheus, written by hand: the client library
// would cost a tenth of the agent's memory for a dozen numbers.
func (p *page) metrics(envoy bool) string {
	var b strings.Builder
	put := func(name, kind, help string, v int64) {
		fmt.Fprintf(&b, "# HELP meshc_agent_%[1]s %[3]s\n# TYPE meshc_agent_%[1]s %[2]s\nmeshc_agent_%[1]s %[4]d\n", name, kind, help, v)
	}
	if s, _ := p.hold.get(); s != nil {
		put("certificate_not_after_seconds", "gauge", "End of the certificate, Unix time.", s.notAfter().Unix())
		put("roots", "gauge", "Roots in the bundle.", int64(len(s.bundle)))
	}
	t := p.stats
	put("certificate_renewals_total", "counter", "Certificates renewed.", t.renewals.Load())
	put("certificate_renewal_failures_total", "counter", "Failed renewals.", t.renewFailures.Load())
	put("ads_streams_total", "counter", "ADS streams begun by Envoy.", t.adsStreams.Load())
	put("ads_streams_failed_total", "counter", "ADS streams ended by an error.", t.adsFailed.Load())
	put("ads_streams_active", "gauge", "ADS streams open.", t.adsActive.Load())
	put("ads_received_messages_total", "counter", "Messages from the server.", t.adsDownFrames.Load())
	put("ads_received_bytes_total", "counter", "Bytes from the server.", t.adsDownBytes.Load())
	put("ads_sent_messages_total", "counter", "Messages to the server.", t.adsUpFrames.Load())
	put("ads_sent_bytes_total", "counter", "Bytes to the server.", t.adsUpBytes.Load())
	put("sds_streams_active", "gauge", "SDS streams open.", t.sdsActive.Load())
	put("sds_pushes_total", "counter", "SDS responses sent.", t.sdsPushes.Load())
	put("sds_refused_total", "counter", "SDS responses that Envoy refused.", t.sdsNacks.Load())
	put("envoy_metrics", "gauge", "1 if Envoy's metrics follow.", one(envoy))
	p.visitors(&b)
	return b.String()
}

// visitors tells of the certificates for visitors. Their names are those of files and
// Secrets, which have neither quotes nor backslashes.
func (p *page) visitors(b *strings.Builder) {
	all := p.certs.Status()
	if len(all) == 0 {
		return
	}
	put := func(name, help string, of func(certstore.Status) (v int64, ok bool)) {
		fmt.Fprintf(b, "# HELP meshc_agent_%[1]s %[2]s\n# TYPE meshc_agent_%[1]s gauge\n", name, help)
		for _, s := range all {
			if v, ok := of(s); ok {
				fmt.Fprintf(b, "meshc_agent_%s{name=%q} %d\n", name, s.Name, v)
			}
		}
	}
	put("visitor_certificate_served", "1 if Envoy is given a certificate of that name.", func(s certstore.Status) (int64, bool) { return one(s.Served), true })
	put("visitor_certificate_problem", "1 if something is wrong with it; /certificates says what.", func(s certstore.Status) (int64, bool) { return one(s.Problem != ""), true })
	put("visitor_certificate_not_after_seconds", "End of the certificate that is served, Unix time.", func(s certstore.Status) (int64, bool) { return s.NotAfter.Unix(), !s.NotAfter.IsZero() })
}

func one(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// listenStatus opens "unix:path" or "host:port".
func listenStatus(addr string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return listenUnix(path)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, problem(diag.New(diag.CodeAgentFlag, diag.Pos{}, "--status-addr %q cannot be used: %v", addr, err).
			WithFix("choose a free port, or leave it out for a socket in the state folder"))
	}
	return l, nil
}
