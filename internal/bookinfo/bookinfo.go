// Package bookinfo is a small shop of services to watch a mesh with: a page about
// a book, put together from details and reviews, with stars from ratings, and a
// report that nobody has granted anything.
//
// In: for each application its version, where it listens and the local ports of
// its own proxy for what it calls. Out: HTTP servers in this process. An
// application knows no other's address and no TLS: that is the proxies' part. It
// passes on end-user and the tracing headers, and says in every answer who it is
// and who called, as its proxy has proved it.
package bookinfo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// App is one application to run.
type App struct {
	Name    string            // "productpage", "details", "reviews", "ratings" or "report"
	Version string            // "v1"; reviews also know "v2" and "v3"
	Listen  string            // "127.0.0.1:9080"; port 0 takes a free one
	Calls   map[string]string // service → "127.0.0.1:port" of the own proxy
}

// Handler is the application's HTTP interface. It fails for a name or version
// that there is not.
func (a App) Handler() (http.Handler, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	c := caller{app: a, client: &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	switch {
	case a.Name == "productpage" && a.Version == "v1":
		mux.HandleFunc("GET /productpage", c.page)
		mux.HandleFunc("GET /api/v1/products/{id}", c.product)
	case a.Name == "details" && a.Version == "v1":
		mux.HandleFunc("GET /details/{id}", c.details)
	case a.Name == "reviews" && (a.Version == "v1" || a.Version == "v2" || a.Version == "v3"):
		mux.HandleFunc("GET /reviews/{id}", c.reviews)
	case a.Name == "ratings" && a.Version == "v1":
		mux.HandleFunc("GET /ratings/{id}", c.ratings)
	case a.Name == "report" && a.Version == "v1":
		mux.HandleFunc("GET /report", c.report)
	default:
		return nil, fmt.Errorf("there is no application %q in version %q", a.Name, a.Version)
	}
	return identified(a, mux), nil
}

// identified names the application in every answer.
func identified(a App, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-App", a.Name+"-"+a.Version)
		next.ServeHTTP(w, r)
	})
}

// Servers are running applications.
type Servers struct {
	servers []*http.Server
	addrs   []string
}

// Start runs the applications until Stop. If one cannot listen, none runs.
func Start(apps []App, log *slog.Logger) (*Servers, error) {
	s := &Servers{}
	for _, a := range apps {
		if err := s.start(a, log); err != nil {
			s.Stop()
			return nil, fmt.Errorf("starting application %s-%s: %w", a.Name, a.Version, err)
		}
	}
	return s, nil
}

func (s *Servers) start(a App, log *slog.Logger) error {
	h, err := a.Handler()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", a.Listen)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	s.servers, s.addrs = append(s.servers, srv), append(s.addrs, l.Addr().String())
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("application ended", "app", a.Name, "version", a.Version, "error", err)
		}
	}()
	return nil
}

// Addrs are the addresses that the applications listen on, in the order of Start.
func (s *Servers) Addrs() []string { return s.addrs }

// Stop ends all applications and their connections.
func (s *Servers) Stop() {
	for _, srv := range s.servers {
		_ = srv.Close()
	}
}

// caller is an application with its way to others.
type caller struct {
	app    App
	client *http.Client
}

// passedOn are the headers that an application copies from the request that it
// answers to those that it makes: without them routes by user end at the first
// service, and traces fall apart.
func passedOn() []string {
	return []string{"End-User", "X-Request-Id", "Traceparent", "Tracestate", "Baggage", "B3", "X-B3-Traceid", "X-B3-Spanid",
		"X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Flags", "X-Ot-Span-Context"}
}

// get asks another service through the own proxy and decodes its JSON into v. The
// status is 0 if there was no answer.
func (c caller) get(ctx context.Context, in http.Header, service, path string, v any) (status int, err error) {
	addr, ok := c.app.Calls[service]
	if !ok {
		return 0, fmt.Errorf("%s does not know where to call %s", c.app.Name, service)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return 0, err
	}
	for _, name := range passedOn() {
		for _, value := range in.Values(name) {
			req.Header.Add(name, value)
		}
	}
	res, err := c.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("calling %s: %w", service, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return res.StatusCode, fmt.Errorf("calling %s: %w", service, err)
	}
	if res.StatusCode != http.StatusOK {
		return res.StatusCode, fmt.Errorf("%s answered %d: %s", service, res.StatusCode, strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, v); err != nil {
		return res.StatusCode, fmt.Errorf("reading the answer of %s: %w", service, err)
	}
	return res.StatusCode, nil
}

// callerID is the SPIFFE ID that the proxy took from the caller's certificate.
func callerID(r *http.Request) string {
	lines := r.Header.Values("X-Forwarded-Client-Cert")
	if len(lines) == 0 {
		return ""
	}
	last := lines[len(lines)-1]
	for _, field := range strings.FieldsFunc(last, func(c rune) bool { return c == ';' || c == ',' }) {
		if uri, ok := strings.CutPrefix(field, "URI="); ok {
			return strings.Trim(uri, `"`)
		}
	}
	return ""
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client may have gone
}
