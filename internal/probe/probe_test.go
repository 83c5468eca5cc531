package probe

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func listen(t *testing.T) (net.Listener, uint16) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, netip.MustParseAddrPort(l.Addr().String()).Port()
}

func TestAsk(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "probed" || r.Header.Get("X-Probe") != "yes" || r.URL.RawQuery != "deep=1" || !strings.HasPrefix(r.RemoteAddr, "127.0.0.6:") {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/bad", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	hang := make(chan struct{})
	mux.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { <-hang })
	plain, tls := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	t.Cleanup(func() { close(hang); plain.Close(); tls.Close() })
	port := func(s *httptest.Server) uint16 {
		return netip.MustParseAddrPort(s.Listener.Addr().String()).Port()
	}
	dead, deadPort := listen(t)
	_ = dead.Close()
	l, healthPort := listen(t)
	g, h := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(g, h)
	h.SetServingStatus("sick", healthpb.HealthCheckResponse_NOT_SERVING)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)

	raw := fmt.Sprintf(`{
		"ok/readiness": {"httpGet": {"path": "/ok?deep=1", "port": %[1]d, "httpHeaders": [{"name": "host", "value": "probed"}, {"name": "x-probe", "value": "yes"}]}, "timeoutSeconds": 60},
		"bad/readiness": {"httpGet": {"path": "bad", "port": %[1]d, "scheme": "HTTP"}, "timeoutSeconds": 60},
		"moved/readiness": {"httpGet": {"path": "/moved", "port": %[1]d}, "timeoutSeconds": 60},
		"away/readiness": {"httpGet": {"path": "/away", "port": %[1]d}, "timeoutSeconds": 60},
		"round/readiness": {"httpGet": {"path": "/round", "port": %[1]d}, "timeoutSeconds": 60},
		"slow/readiness": {"httpGet": {"path": "/slow", "port": %[1]d}},
		"tls/readiness": {"httpGet": {"path": "/away", "port": %[2]d, "scheme": "HTTPS"}, "timeoutSeconds": 60},
		"tcp/liveness": {"tcpSocket": {"port": %[1]d}, "timeoutSeconds": 60},
		"dead/liveness": {"tcpSocket": {"port": %[3]d}, "timeoutSeconds": 60},
		"grpc/startup": {"grpc": {"port": %[4]d}, "timeoutSeconds": 60},
		"sick/startup": {"grpc": {"port": %[4]d, "service": "sick"}, "timeoutSeconds": 60},
		"unknown/startup": {"grpc": {"port": %[4]d, "service": "unknown"}, "timeoutSeconds": 60}
	}`, port(plain), port(tls), deadPort, healthPort)
	s, err := Parse([]byte(raw), netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	for name, passes := range map[string]bool{
		"ok/readiness": true, "bad/readiness": false, "moved/readiness": false, "away/readiness": true, "round/readiness": false, "slow/readiness": false, "tls/readiness": true,
		"tcp/liveness": true, "dead/liveness": false, "grpc/startup": true, "sick/startup": false, "unknown/startup": false,
	} {
		container, kind, _ := strings.Cut(name, "/")
		if err := s.Ask(t.Context(), container, kind); (err == nil) != passes || errors.Is(err, ErrUndeclared) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Ask(t.Context(), "ok", "liveness"); !errors.Is(err, ErrUndeclared) {
		t.Error(err)
	}
}

func TestOneQuestionAtATime(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	release := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		asked++
		mu.Unlock()
		<-release
	}))
	defer app.Close()
	s, err := Parse(fmt.Appendf(nil, `{"a/readiness": {"httpGet": {"port": %d}, "timeoutSeconds": 60}}`, netip.MustParseAddrPort(app.Listener.Addr().String()).Port()), netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan error)
	for range 100 {
		go func() { answers <- s.Ask(t.Context(), "a", "readiness") }()
	}
	for begun := false; !begun; time.Sleep(time.Millisecond) {
		mu.Lock()
		begun = asked > 0
		mu.Unlock()
	}
	time.AfterFunc(100*time.Millisecond, func() { close(release) })
	for range 100 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if asked > 50 { // those who came late ask again, together
		t.Errorf("asked %d times", asked)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, raw := range []string{
		``, `[]`, `{} {}`, `{"a/readiness": {}}`, `{"a/readiness": {"exec": {"command": ["x"]}}}`, `{"a/readiness": {"tcpSocket": {"port": 0}}}`,
		`{"a/readiness": {"tcpSocket": {"port": "http"}}}`, `{"a/readiness": {"tcpSocket": {"port": 70000}}}`, `{"a/postStart": {"tcpSocket": {"port": 1}}}`,
		`{"readiness": {"tcpSocket": {"port": 1}}}`, `{"a/readiness": {"tcpSocket": {"port": 1, "host": "192.0.2.1"}}}`, `{"a/readiness": {"tcpSocket": {"port": 1}, "grpc": {"port": 1}}}`,
		`{"a/readiness": {"httpGet": {"port": 1, "scheme": "FTP"}}}`, `{"a/readiness": {"httpGet": {"port": 1, "path": "%zz"}}}`, `{"a/readiness": {"httpGet": {"port": 1, "host": "192.0.2.1"}}}`,
		`{"a/readiness": {"tcpSocket": {"port": 1}, "timeoutSeconds": 301}}`, `{"a/readiness": {"tcpSocket": {"port": 1}, "timeoutSeconds": -1}}`,
	} {
		if _, err := Parse([]byte(raw), netip.IPv6Loopback()); err == nil {
			t.Errorf("%s: taken", raw)
		}
	}
}
