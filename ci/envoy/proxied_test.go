package envoy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
)

// corporate is an HTTP proxy that knows the world outside by its names and lets CONNECT alone pass.
type corporate struct {
	addr  string
	knows map[string]string // addresses by "host:port"

	mu      sync.Mutex
	asked   []string // what CONNECT asked for, or "METHOD target" of others
	headers []http.Header
	refuses int // the status with which it refuses all, 0 if it does not
}

func serveCorporate(t *testing.T, knows map[string]string) *corporate {
	t.Helper()
	c := &corporate{knows: knows}
	s := httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(s.Close)
	c.addr = s.Listener.Addr().String()
	return c
}

func (c *corporate) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	refuses := c.refuses
	if r.Method == http.MethodConnect {
		c.asked = append(c.asked, r.Host)
	} else {
		c.asked, refuses = append(c.asked, r.Method+" "+r.RequestURI), http.StatusMethodNotAllowed
	}
	c.headers = append(c.headers, r.Header)
	c.mu.Unlock()
	addr, known := c.knows[r.Host]
	if !known || refuses != 0 {
		w.Header().Set("X-Proxy", "refused")
		w.WriteHeader(max(refuses, http.StatusForbidden))
		_, _ = io.WriteString(w, "<h1>not from here</h1>")
		return
	}
	there, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, said, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	_, _ = io.WriteString(here, "HTTP/1.1 200 Connection established\r\nProxy-Agent: corp\r\n\r\n")
	go func() {
		_, _ = io.Copy(there, said)
		_ = there.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(here, there)
}

func (c *corporate) refuse(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuses = status
}

func (c *corporate) heard() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.Clone(c.asked)
	slices.Sort(out)
	return slices.Compact(out)
}

// bytesOf serves a line to whoever connects.
func bytesOf(t *testing.T, line string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, line)

			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// Externals behind an HTTP proxy are asked for by CONNECT and by their names, which that proxy alone looks up. TLS goes
// through from end to end: a proxy that leads somewhere else is found out.
func TestExternalsAreReachedThroughAProxyOfOthers(t *testing.T) {
	ours := newIssuer(t, "ours")
	api := newAPI(t, &tls.Config{Certificates: []tls.Certificate{ours.server(t, false, "api.test")}})
	own := newAPI(t, &tls.Config{Certificates: []tls.Certificate{ours.server(t, false, "own.test")}})
	impostor := newAPI(t, &tls.Config{Certificates: []tls.Certificate{ours.server(t, false, "impostor.test")}})
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Asked", r.Host+r.RequestURI) }))
	t.Cleanup(plain.Close)
	corp := serveCorporate(t, map[string]string{
		"api.test:443": api.addr, "two.test:443": api.addr, "own.test:8443": own.addr, "plain.test:80": plain.Listener.Addr().String(),
		"stolen.test:443": impostor.addr, "away.test:443": "127.0.0.1:1", "192.0.2.7:5432": bytesOf(t, "select\n"),
	})
	via := `, via: proxy: "` + corp.addr + `"`
	o := callOutside(t, map[string]string{
		"api":     `hosts: ["api.test"], port: api: number: 443, tls: roots: "corp"` + via,
		"two":     `hosts: ["two.test"], port: api: {number: 443, protocol: "https2"}, tls: {roots: "corp", sni: "api.test"}` + via,
		"own":     `hosts: ["own.test"], port: own: {number: 8443, protocol: "tls"}` + via,
		"plain":   `hosts: ["plain.test"], port: http: number: 80, connection: tcpKeepAlive: time: "30s"` + via,
		"stolen":  `hosts: ["stolen.test"], port: api: number: 443, tls: roots: "corp"` + via,
		"away":    `hosts: ["away.test"], port: api: number: 443, tls: roots: "corp"` + via,
		"other":   `hosts: ["other.test"], port: api: number: 443, tls: roots: "corp"` + via,
		"refused": `hosts: ["refused.test"], port: http: number: 80` + via,
		"gone":    `hosts: ["gone.test"], port: http: number: 80, via: proxy: "127.0.0.1:1"`,
		"sql":     `endpoints: static: ["192.0.2.7:5432"], port: sql: {number: 5432, protocol: "tcp"}` + via,
	}, map[string]string{"roots/corp": ours.pem()})
	for name, want := range map[string]int{"api": 200, "two": 200, "plain": 200, "stolen": 503, "away": 503, "other": 503, "refused": 503, "gone": 503} {
		if got := o.get(name, "/"); got != want {
			t.Errorf("%s: answered %d, want %d", name, got, want)
		}
	}
	if got := o.line(t, "sql"); got != "select\n" {
		t.Errorf("bytes: %q", got)
	}
	own.asks(t, o, ours)
	if got := impostor.requests(); got > 0 {
		t.Errorf("%d requests arrived at somebody else", got)
	}
	want := []string{"192.0.2.7:5432", "api.test:443", "away.test:443", "other.test:443", "own.test:8443", "plain.test:80", "refused.test:80", "stolen.test:443", "two.test:443"}
	if got := corp.heard(); !slices.Equal(got, want) {
		t.Errorf("the proxy was asked for %q, want %q", got, want)
	}
	corp.mu.Lock()
	for _, h := range corp.headers {
		if len(h) > 0 {
			t.Errorf("the proxy is told more than where to go: %q", h)
		}
	}
	corp.mu.Unlock()
	// What is open goes on, what is new is refused.
	corp.refuse(http.StatusProxyAuthRequired)
	if got := o.get("api", "/"); got != http.StatusOK {
		t.Errorf("over a connection that is there: %d", got)
	}
	if got := o.get("stolen", "/"); got != http.StatusServiceUnavailable {
		t.Errorf("refused: %d", got)
	}
	if got := o.line(t, "sql"); got != "" {
		t.Errorf("bytes that were refused: %q", got)
	}
}

// asks has the caller begin TLS with what stands behind the external "own".
func (a *api) asks(t *testing.T, o *outside, of issuer) {
	t.Helper()
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: of.Pool, ServerName: "own.test"},
	}}
	res, err := c.Get(fmt.Sprintf("https://127.0.0.1:%d/", o.local["own"]))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if a.requests() != 1 {
		t.Errorf("%d requests by the caller's own TLS, want 1", a.requests())
	}
}

// line is what an external of bytes says first, "" if it says nothing.
func (o *outside) line(t *testing.T, external string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", o.local[external]), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(c)
	return string(b)
}

// A rehearsal has an HTTP proxy that stands for all, so that what routes and TLS say of an external holds there, too.
func TestRehearsalGoesThroughAProxy(t *testing.T) {
	p := shop(t, `mesh: service: pay: {port: http: number: 80, calls: {bank: {}, ledger: {}}}
mesh: external: bank: {
	hosts: ["bank.test"], port: api: number: 443, via: proxy: "proxy.test:3128"
	route: {gone: {match: path: prefix: "/gone", respond: status: 410}, rest: retry: {attempts: 2, on: ["gateway-error"], idempotent: true}}
}
mesh: external: ledger: {port: sql: {number: 5432, protocol: "tcp"}, endpoints: static: ["192.0.2.7:5432"], via: proxy: "192.0.2.9:3128"}
`)
	asked := []compiler.Request{{From: "shop/pay", To: "shop/bank"}, {From: "shop/pay", To: "shop/ledger"}}
	ctx := t.Context()
	reh, stage := stageOf(ctx, t, p, asked)
	pay := &play{t, ctx, stage, reh.Doors[0], ""}
	if got := pay.ask("/a", 0, 0); got.Status != http.StatusOK || got.Seen == nil || got.Seen.Target != "external/shop/bank/api" || got.Seen.Host != "bank.test" {
		t.Errorf("%+v", got)
	}
	if got, n := pay.ask("/broken", 9, 0), pay.tries("/broken"); got.Status != http.StatusServiceUnavailable || n != 3 {
		t.Errorf("%d after %d tries", got.Status, n)
	}
	if got := pay.ask("/gone", 0, 0); got.Status != http.StatusGone {
		t.Errorf("%d", got.Status)
	}
	if got, err := stage.Ask(ctx, reh.Doors[1], asked[1]); err != nil || got.Seen == nil || got.Seen.Target != "external/shop/ledger/sql" {
		t.Errorf("bytes: %+v, %v", got, err)
	}
	if err := stage.Rename(ctx, "external/shop/bank/api", "other.test"); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil && pay.ask("/renamed", 0, 0).Status != http.StatusServiceUnavailable {
	}
	if n := pay.tries("/renamed/impostor"); pay.ask("/renamed/impostor", 0, 0).Status != http.StatusServiceUnavailable || n != 0 {
		t.Error("an impostor is believed")
	}
}
