package envoy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/freeport"
)

// startOutside is a rehearsal of a service that calls an external by TLS.
func startOutside(t *testing.T, external string) *play {
	t.Helper()
	p := shop(t, "mesh: service: app: {port: http: number: 80, calls: bank: {}}\n"+`mesh: external: bank: {port: api: number: 443, hosts: ["bank.test"], `+external+"}")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	reh, stage := stageOf(ctx, t, p, []compiler.Request{{From: "shop/app", To: "shop/bank"}})
	return &play{t, ctx, stage, reh.Doors[0], ""}
}

// What a route says of retries and timeouts holds at the caller's proxy for what is outside, too,
// and so does what an external says of all its routes.
func TestExternalsAreAskedAgainAndGivenUp(t *testing.T) {
	p := startOutside(t, `timeout: "3s", retry: {attempts: 1, on: ["gateway-error"], idempotent: true}, route: {
		twice: {match: path: prefix: "/twice", timeout: "1m", retry: {attempts: 2, on: ["gateway-error"], idempotent: true}}
		never: {match: path: prefix: "/never", retry: attempts: 0}
		each: {match: path: prefix: "/each", timeout: "1m", retry: {attempts: 1, perTry: "2s", on: ["gateway-error"], idempotent: true}}
		long: {match: path: prefix: "/long", timeout: "none"}
		rest: {}
	}`)
	const slow = 50 * time.Second
	for _, c := range []struct {
		path          string
		fail          int
		wait          time.Duration
		status, tries int
	}{
		{"/twice/good", 0, 0, 200, 1},
		{"/twice/mended", 2, 0, 200, 3},
		{"/twice/broken", 9, 0, 503, 3},
		{"/never/broken", 1, 0, 503, 1},
		{"/rest/mended", 1, 0, 200, 2},
		{"/rest/broken", 9, 0, 503, 2},
		{"/rest/slow", 0, slow, 504, 1},
		{"/each/slow", 0, slow, 504, 2},
		{"/long/while", 0, 5 * time.Second, 200, 1},
	} {
		began := time.Now()
		got := p.ask(c.path, c.fail, c.wait)
		if n := p.tries(c.path); got.Status != c.status || n != c.tries || time.Since(began) > slow-5*time.Second {
			t.Errorf("%s: %d after %v and %d tries, want %d after %d", c.path, got.Status, time.Since(began), n, c.status, c.tries)
		}
	}
}

// An external that fails again and again is left alone for a while.
func TestFailingExternalIsEjected(t *testing.T) {
	p := startOutside(t, `retry: attempts: 0, outlier: {consecutive5xx: 3, interval: "1h", baseEjection: "1h", maxEjectionPercent: 100}`)
	ejected := func() bool {
		page, err := p.stage.Admin(p.ctx, p.door.Class, "/clusters")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(page)) {
			if strings.HasPrefix(line, "external/shop/bank/api::") && strings.Contains(line, "health_flags::/failed_outlier_check") {
				return true
			}
		}
		return false
	}
	for i := range 3 {
		if ejected() {
			t.Fatalf("ejected after %d errors", i)
		}
		p.ask("/", 9, 0)
	}
	for !ejected() {
		if p.ctx.Err() != nil {
			t.Fatal("not ejected after 3 errors in a row")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Of an external with several places one may refuse connections: what cannot have begun there is
// asked of another, without a word of the intent; and is not where the intent says so.
func TestExternalThatRefusesIsAskedElsewhere(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "outside") }))
	t.Cleanup(s.Close)
	gone, err := freeport.Next() // nobody listens there
	if err != nil {
		t.Fatal(err)
	}
	places := fmt.Sprintf(`endpoints: static: [%q, "127.0.0.1:%d"]`, s.Listener.Addr(), gone)
	o := callOutside(t, map[string]string{
		"default": `port: http: number: 80, ` + places,
		"never":   `port: http: number: 81, retry: attempts: 0, ` + places,
	}, nil)
	for external, count := range map[string]string{"default": "upstream_rq_retry_success", "never": "upstream_cx_connect_fail"} {
		for tries := 0; o.counter(external, count) == 0; tries++ {
			if tries == 200 {
				t.Fatalf("%s: %s counts nothing after %d requests", external, count, tries)
			}
			if got := o.get(external, "/"); got != http.StatusOK && got != http.StatusServiceUnavailable {
				t.Fatalf("%s: answered %d", external, got)
			}
		}
	}
	if n := o.counter("never", "upstream_rq_retry"); n != 0 {
		t.Errorf("%d requests were sent again although the intent says never", n)
	}
}
