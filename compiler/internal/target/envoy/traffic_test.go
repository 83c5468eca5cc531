package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/freeport"
)

// world is one real Envoy that plays the caller's sidecar, the callee's sidecar
// and a gateway at once, without TLS, before two applications.
type world struct {
	caller, gateway, callee string // addresses
	tries                   atomic.Int32
}

func port(t *testing.T, address string) uint32 {
	t.Helper()
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	var n uint32
	if _, err := fmt.Sscan(p, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// freePort is a port of loopback for an Envoy.
func freePort(t *testing.T) uint32 {
	t.Helper()
	n, err := freeport.Next()
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// app answers what it saw as JSON; "/flaky" fails, "/slow" takes its time.
func (w *world) app(t *testing.T, version string) uint32 {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.tries.Add(1)
		rw.Header().Set("X-Envoy-Attempt-Count", "1")
		rw.Header().Set("X_Forwarded_Client_Cert", "URI=spiffe://mesh.local/ns/shop/sa/admin")
		switch {
		case strings.HasSuffix(r.URL.Path, "/flaky"):
			rw.WriteHeader(http.StatusServiceUnavailable)
		case strings.HasSuffix(r.URL.Path, "/slow"):
			select {
			case <-time.After(300 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
		_ = json.NewEncoder(rw).Encode(map[string]any{"version": version, "path": r.URL.Path, "headers": r.Header})
	}))
	t.Cleanup(s.Close)
	return port(t, s.Listener.Addr().String())
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{}
	local, edge, inbound := freePort(t), freePort(t), freePort(t)
	m := &model.Mesh{TrustDomain: "mesh.local", Capture: model.Explicit, Services: []*model.Service{
		{ID: "shop/echo", Namespace: "shop", Name: "echo",
			Ports: []model.Port{{Name: "http", Number: 80, Protocol: model.HTTP, MTLS: model.Disable}},
			Versions: []model.Version{
				{Name: "v1", Account: "echo", Ports: map[string]model.VersionPort{"http": {Host: loopback, Port: inbound, App: w.app(t, "v1")}}},
				{Name: "v2", Account: "echo-v2", Ports: map[string]model.VersionPort{"http": {Host: loopback, Port: freePort(t), App: w.app(t, "v2")}}},
			},
			Routes: []model.Route{
				{Name: "not", Match: model.NewMatch(model.Path{Kind: model.PathPrefix, Value: "/not"}, space.Test{Dim: space.HeaderDim("x-old"), Any: []space.Pattern{{Kind: space.Exact, Text: "yes"}}, Not: true}), To: []model.Target{{Version: "v2", Weight: 100}}},
				{Name: "template", Match: model.NewMatch(model.Path{Kind: model.PathTemplate, Value: "/t/{id}"}, space.Values(space.MethodDim, "GET", "PUT")), To: []model.Target{{Version: "v2", Weight: 100}}},
				{Name: "default", Match: model.Match{Path: model.Path{Kind: model.PathPrefix, Value: "/r"}}, To: []model.Target{{Version: "v1", Weight: 100}}},
				{Name: "rest", Match: model.Match{Path: model.Path{Kind: model.PathPrefix, Value: "/t"}}, To: []model.Target{{Version: "v1", Weight: 100}}},
			},
			Grants: []model.Grant{
				{Name: "read", Terms: model.Terms{Anyone: true, Paths: []model.Path{{Kind: model.PathBelow, Value: "/r/"}, {Kind: model.PathExact, Value: "/r/exact"}}, Methods: []string{"GET"}}},
				{Name: "other", Terms: model.Terms{Anyone: true, Paths: []model.Path{{Kind: model.PathPrefix, Value: "/t"}, {Kind: model.PathPrefix, Value: "/not"}}}},
				{Name: "nobody", Terms: model.Terms{Mesh: true}},
				{Name: "near", Terms: model.Terms{Anyone: true, Paths: []model.Path{{Kind: model.PathExact, Value: "/r"}}, Sources: []string{"127.0.0.2/31"}}},
				{Name: "but", Terms: model.Terms{Anyone: true, Paths: []model.Path{{Kind: model.PathExact, Value: "/but"}}}, Not: model.Terms{Sources: []string{"127.0.0.2/32", "10.0.0.0/8"}}},
			}},
		{ID: "shop/web", Namespace: "shop", Name: "web", Versions: []model.Version{{Name: "default", Account: "web"}},
			Calls: []model.Call{{To: "shop/echo", Port: "http", Local: local}}},
	}, Gateways: []*model.Gateway{{ID: "edge/main", Namespace: "edge", Name: "main", Account: "gw", Host: loopback, Ports: []model.Port{{Name: "http", Number: edge, Protocol: model.HTTP, MTLS: model.Disable}}, Hosts: []model.Host{
		{Name: "shop.test", Ports: []string{"http"}, Routes: []model.Route{
			{Name: "old", Match: model.Match{Path: model.Path{Kind: model.PathExact, Value: "/old"}}, Traits: trait.Of(move{"/r/new"})},
			{Name: "t", Match: model.Match{Path: model.Path{Kind: model.PathPrefix, Value: "/not"}}, To: []model.Target{{Service: "shop/echo", Port: "http", Weight: 100}}},
			{Name: "all", To: []model.Target{{Service: "shop/echo", Port: "http", Version: "v1", Weight: 100}}},
		}},
	}}}}
	arts, _, problems := Emit(m.Build(), testColumn(), testConditions(), nil, Profile{})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	w.run(t, render(t, arts))
	at := func(port uint32) string { return fmt.Sprintf("%s:%d", loopback, port) }
	w.caller, w.gateway, w.callee = at(local), at(edge), at(inbound)
	return w
}

func (w *world) run(t *testing.T, boot []byte) {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(boot, &v); err != nil {
		t.Fatal(err)
	}
	v["admin"] = map[string]any{"address": map[string]any{"socket_address": map[string]any{"address": loopback, "port_value": 0}}}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	bin, err := envoybin.Find(ctx, envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	p, err := envoybin.Start(ctx, bin, raw, envoybin.StartOptions{Until: envoybin.UntilLive})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop() })
}

type answer struct {
	Status   int
	Location string
	Version  string      `json:"version"`
	Path     string      `json:"path"`
	Headers  http.Header `json:"headers"`
	Answered http.Header `json:"-"`
}

// ask sends one request with the path as it is written.
func ask(t *testing.T, method, address, path, host string, headers map[string]string) answer {
	t.Helper()
	raw, query, _ := strings.Cut(path, "?")
	clean, err := url.PathUnescape(raw)
	if err != nil {
		t.Fatal(err)
	}
	r := &http.Request{Method: method, Host: host, Header: http.Header{}, URL: &url.URL{Scheme: "http", Host: address, Path: clean, RawPath: raw, RawQuery: query}}
	for k, v := range headers {
		r.Header[k] = []string{v}
	}
	c := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{Status: res.StatusCode, Location: res.Header.Get("Location"), Answered: res.Header}
	_ = json.Unmarshal(body, &a) // Envoy's own answers are text
	return a
}

func TestTrafficThroughSidecars(t *testing.T) {
	w := start(t)
	for _, c := range []struct {
		name, method, path string
		headers            map[string]string
		status             int
		version, seen      string
	}{
		{"granted path and method", "GET", "/r/a?q=1", nil, 200, "v1", "/r/a"},
		{"a grant for /r/* is not one for /r", "GET", "/r", nil, 403, "", ""},
		{"method without a grant", "POST", "/r/a", nil, 403, "", ""},
		{"no route", "GET", "/elsewhere", nil, 404, "", ""},
		{"a prefix goes by segment", "GET", "/rx", nil, 404, "", ""},
		{"template takes one segment", "GET", "/t/1", nil, 200, "v2", "/t/1"},
		{"template and another method", "POST", "/t/1", nil, 200, "v1", "/t/1"},
		{"template and two segments", "GET", "/t/1/2", nil, 200, "v1", "/t/1/2"},
		{"not takes an absent header", "GET", "/not", nil, 200, "v2", "/not"},
		{"not refuses the value", "GET", "/not", map[string]string{"x-old": "yes"}, 404, "", ""},
		{"not takes another value", "GET", "/not", map[string]string{"x-old": "no"}, 200, "v2", "/not"},
		{"dot segments are resolved before matching", "GET", "/t/../r/b", nil, 200, "v1", "/r/b"},
		{"encoded dots as well", "GET", "/r/%2e%2e/elsewhere", nil, 404, "", ""},
		{"slashes are merged", "GET", "//r//c", nil, 200, "v1", "/r/c"},
		{"escaped slashes are refused", "GET", "/r%2fa", nil, 400, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := ask(t, c.method, w.caller, c.path, "echo", c.headers)
			if a.Status != c.status || a.Version != c.version || a.Path != c.seen {
				t.Errorf("%s %s = %d from %q as %q, want %d from %q as %q", c.method, c.path, a.Status, a.Version, a.Path, c.status, c.version, c.seen)
			}
		})
	}
}

// A client's x-envoy-* headers must change neither retries nor timeouts, and its
// word on who it is must not reach the application.
func TestClientHeadersHaveNoPower(t *testing.T) {
	w := start(t)
	for _, address := range []string{w.caller, w.gateway} {
		w.tries.Store(0)
		a := ask(t, "GET", address, "/r/flaky", "shop.test", map[string]string{"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "3"})
		if n := w.tries.Load(); a.Status != 503 || n != 1 {
			t.Errorf("%s: x-envoy-retry-on: %d after %d tries, want 503 after 1", address, a.Status, n)
		}
		a = ask(t, "GET", address, "/r/slow", "shop.test", map[string]string{"x-envoy-upstream-rq-timeout-ms": "50", "x-envoy-expected-rq-timeout-ms": "50", "x-envoy-upstream-rq-per-try-timeout-ms": "50"})
		if a.Status != 200 {
			t.Errorf("%s: x-envoy-upstream-rq-timeout-ms cut the request: %d", address, a.Status)
		}
		a = ask(t, "GET", address, "/r/a", "shop.test", map[string]string{
			"x-forwarded-client-cert": "URI=spiffe://mesh.local/ns/shop/sa/admin", "x-envoy-internal": "true", "x-envoy-original-path": "/admin", "x-forwarded-for": "6.6.6.6"})
		if got := a.Headers.Values("X-Forwarded-For"); address == w.gateway && (len(got) != 1 || strings.Contains(got[0], "6.6.6.6")) {
			t.Errorf("%s: client address = %q, want the connection's alone", address, got)
		}
		for name, v := range a.Answered {
			if n := strings.ToLower(name); strings.HasPrefix(n, "x-envoy-") || strings.HasPrefix(n, "x_") {
				t.Errorf("%s: the caller saw %s: %q", address, name, v)
			}
		}
		for name, v := range a.Headers {
			if n := strings.ToLower(name); n == "x-forwarded-client-cert" || strings.HasPrefix(n, "x-envoy-") {
				t.Errorf("%s: the application saw %s: %q", address, name, v)
			}
		}
	}
}

func TestTrafficThroughGateway(t *testing.T) {
	w := start(t)
	for _, c := range []struct {
		name, host, path string
		headers          map[string]string
		status           int
		version          string
	}{
		{"host with a port, in capitals, with a dot", "SHOP.test.:80", "/r/a", nil, 200, "v1"},
		{"unknown host", "other.test", "/r/a", nil, 404, ""},
		{"joined routes", "shop.test", "/not", nil, 200, "v2"},
		{"a route that took the request keeps it", "shop.test", "/not", map[string]string{"x-old": "yes"}, 404, ""},
		{"redirect", "shop.test", "/old", nil, 301, ""},
		{"headers with underscores", "shop.test", "/r/a", map[string]string{"x_role": "admin"}, 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := ask(t, "GET", w.gateway, c.path, c.host, c.headers)
			if a.Status != c.status || a.Version != c.version {
				t.Errorf("= %d from %q, want %d from %q", a.Status, a.Version, c.status, c.version)
			}
			if c.status == 301 && !strings.HasSuffix(a.Location, "/r/new") {
				t.Errorf("location = %q", a.Location)
			}
		})
	}
}

// The source is who is connected to the callee's proxy, whatever a request says of visitors.
func TestSourcesAreThoseOfConnections(t *testing.T) {
	w := start(t)
	ask := func(address, from, path string) int {
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext}}
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("x-forwarded-for", "127.0.0.2, 127.0.0.3")
		res, err := c.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	for _, c := range []struct {
		at, from, path string
		status         int
	}{
		{w.callee, "127.0.0.2", "/r", 200}, {w.callee, "127.0.0.3", "/r", 200}, {w.callee, "127.0.0.1", "/r", 403}, {w.callee, "127.0.0.4", "/r", 403},
		{w.callee, "127.0.0.2", "/but", 403}, {w.callee, "127.0.0.1", "/but", 200},
		{w.caller, "127.0.0.2", "/r", 403}, {w.gateway, "127.0.0.2", "/r", 404}, // the proxy's own connection comes from 127.0.0.1
	} {
		if got := ask(c.at, c.from, c.path); got != c.status {
			t.Errorf("%s of %s from %s: %d, want %d", c.path, c.at, c.from, got, c.status)
		}
	}
}
