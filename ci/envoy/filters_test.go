package envoy

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// TestAnswersArePackedForWhoCanUnpackThem: by the service's own proxy and by a gateway, if type and length are worth it, and
// nothing is packed twice, in part, or on a connection that has changed its protocol.
func TestAnswersArePackedForWhoCanUnpackThem(t *testing.T) {
	const mesh = `
mesh: service: app: {port: http: number: 80, grant: all: mesh: true, upgrade: ["websocket"], compress: {types: ["text/*", "application/json"], min: "2KiB"}}
mesh: service: plain: {port: http: number: 80, grant: all: mesh: true}
mesh: gateway: edge: {port: http: number: 80, host: "*": {compress: types: ["text/html"], route: all: to: plain: 100}}`
	text := strings.Repeat("so it goes. ", 1000)
	doors := []compiler.Request{{From: "shop/app", To: "shop/app"}, {To: "gateway/shop/edge"}}
	reh, stage := stageOf(t.Context(), t, shop(t, mesh), doors)
	ask := func(door int, accepts, answer string) rehearsal.Reply {
		t.Helper()
		r := compiler.Request{Path: "/", Headers: []compiler.Header{{Name: rehearsal.AnswerHeader, Value: rehearsal.Raw(answer)}}}
		if accepts != "" {
			r.Headers = append(r.Headers, compiler.Header{Name: "accept-encoding", Value: accepts})
		}
		got, err := stage.Ask(t.Context(), reh.Doors[door], r)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, c := range []struct {
		door          int
		accepts, head string
		body          string
		packed        bool
	}{
		{0, "gzip", "200 OK\r\ncontent-type: text/html; charset=utf-8\r\netag: \"one\"", text, true},
		{0, "br, gzip;q=0.5", "200 OK\r\ncontent-type: application/json", text, true},
		{0, "gzip", "404 Not Found\r\ncontent-type: text/plain", text, true},
		{0, "", "200 OK\r\ncontent-type: text/html", text, false},
		{0, "br", "200 OK\r\ncontent-type: text/html", text, false},
		{0, "gzip", "200 OK\r\ncontent-type: image/png", text, false},
		{0, "gzip", "200 OK\r\ncontent-type: text/html", text[:2047], false},
		{0, "gzip", "206 Partial Content\r\ncontent-type: text/html\r\ncontent-range: bytes 0-11999/24000", text, false},
		{1, "gzip", "200 OK\r\ncontent-type: text/html", text, true},
		{1, "gzip", "200 OK\r\ncontent-type: text/plain", text, false},
		{1, "gzip", "200 OK\r\ncontent-type: text/html", text[:1023], false},
	} {
		got := ask(c.door, c.accepts, fmt.Sprintf("HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s", c.head, len(c.body), c.body))
		said := strings.Join(got.Headers["content-encoding"], "|")
		if (said == "gzip") != c.packed || !c.packed && said != "" {
			t.Errorf("door %d, accept-encoding %q, %q: %d with content-encoding %q, want packed %t", c.door, c.accepts, c.head, got.Status, said, c.packed)
			continue
		}
		if !c.packed {
			continue
		}
		if vary := strings.ToLower(strings.Join(got.Headers["vary"], "|")); !strings.Contains(vary, "accept-encoding") {
			t.Errorf("%q: vary %q", c.head, vary)
		}
		if strings.Contains(c.head, "etag") && got.Headers["etag"][0] != `W/"one"` {
			t.Errorf("%q: etag %q", c.head, got.Headers["etag"])
		}
		unpack, err := gzip.NewReader(strings.NewReader(got.Text))
		if err != nil {
			t.Fatal(err)
		}
		if whole, err := io.ReadAll(unpack); err != nil || string(whole) != c.body {
			t.Errorf("%q: %d bytes arrive, %v", c.head, len(whole), err)
		}
	}
	if got := ask(0, "gzip", fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-encoding: br\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s", len(text), text)); strings.Join(got.Headers["content-encoding"], "|") != "br" {
		t.Errorf("what is packed is packed again: %q", got.Headers["content-encoding"])
	}
	socket, err := stage.Ask(t.Context(), reh.Doors[0], compiler.Request{Path: "/", Headers: []compiler.Header{
		{Name: "connection", Value: "upgrade"}, {Name: "upgrade", Value: "websocket"}, {Name: "sec-websocket-key", Value: "dGhlIHNhbXBsZSBub25jZQ=="},
		{Name: "sec-websocket-version", Value: "13"}, {Name: "accept-encoding", Value: "gzip, deflate, br"},
	}})
	if err != nil || socket.Echo == "" {
		t.Errorf("a WebSocket of a browser: %+v, %v", socket, err)
	}
}

// TestBodiesPassAtTheirRate: both ways have rates of their own, at the service's own proxy and at a gateway. What may pass at once is one
// second's, so that a transfer of several seconds takes at least the others; a slow machine makes it longer.
func TestBodiesPassAtTheirRate(t *testing.T) {
	const kib = 1 << 10
	at := open(t, shop(t, `
mesh: service: app: {port: http: number: 80, grant: all: mesh: true, bandwidth: {request: "64KiB", response: "128KiB"}}
mesh: service: plain: {port: http: number: 80, grant: all: mesh: true}
mesh: gateway: edge: {port: http: number: 80, host: "*": {bandwidth: response: "128KiB", route: all: to: plain: 100}}`),
		compiler.Request{From: "shop/app", To: "shop/app"}, compiler.Request{To: "gateway/shop/edge"})
	for _, c := range []struct {
		what, addr, method string
		sent, answered     int
		least              time.Duration // less than the rate says: buckets are filled in steps
	}{
		{"the service's answers", at[0], "GET", 0, 640 * kib, 3 * time.Second},
		{"the service's requests", at[0], "POST", 256 * kib, 0, 2 * time.Second},
		{"the gateway's answers", at[1], "GET", 0, 640 * kib, 3 * time.Second},
	} {
		q, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+c.addr+"/", io.LimitReader(zeros{}, int64(c.sent)))
		if err != nil {
			t.Fatal(err)
		}
		q.Host, q.ContentLength = compiler.RehearsedHost, int64(c.sent)
		q.Header.Set(rehearsal.SizeHeader, fmt.Sprint(c.answered))
		began := time.Now()
		res, err := http.DefaultTransport.RoundTrip(q)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, res.Body)
		took := time.Since(began)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", c.what, res.StatusCode, err)
		}
		t.Logf("%s: %.0f KiB a second", c.what, float64(c.sent+c.answered)/kib/took.Seconds())
		if want := int64(c.sent + c.answered); n != want || took < c.least || took > 10*c.least {
			t.Errorf("%s: of %d bytes %d came back in %v, want them in %v or a little more", c.what, want, n, took, c.least)
		}
	}
}

// zeros are endless.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestWhatFailsIsAskedLess: where all requests fail, most are refused before they get to the application, by the callee's own proxy or by
// the gateway, and some get there: by chance, which leaves out either of both less than once in a hundred thousand million runs.
// Nothing is refused while all is well.
func TestWhatFailsIsAskedLess(t *testing.T) {
	const n = 120
	p := shop(t, `
mesh: service: app: {port: http: number: 80, grant: all: mesh: true, admission: {successRate: 90, window: "1m"}}
mesh: service: plain: {port: http: number: 80, grant: all: mesh: true}
mesh: gateway: edge: {port: http: number: 80, host: "*": {admission: {}, route: all: to: plain: 100}}`)
	reh, stage := stageOf(t.Context(), t, p, []compiler.Request{{From: "shop/app", To: "shop/app"}, {To: "gateway/shop/edge"}})
	for i, what := range []string{"service", "gateway"} {
		door := &play{t: t, ctx: t.Context(), stage: stage, door: reh.Doors[i]}
		for i := range n {
			if got := door.ask(fmt.Sprintf("/%s/good/%d", what, i), 0, 0); got.Status != http.StatusOK {
				t.Fatalf("%s: while all is well, request %d is answered %d", what, i, got.Status)
			}
		}
		refused, arrived := 0, 0
		for i := range 3 * n {
			switch got := door.ask(fmt.Sprintf("/%s/bad/%d", what, i), 1, 0); {
			case got.Status != http.StatusServiceUnavailable:
				t.Fatalf("%s: a failing request is answered %d", what, got.Status)
			case i < 2*n: // until those that succeeded are few
			case got.Seen == nil:
				refused++
			default:
				arrived++
			}
		}
		t.Logf("%s: of %d requests to what fails %d arrived and %d were refused", what, n, arrived, refused)
		if refused == 0 || arrived == 0 {
			t.Errorf("%s: of %d requests to what fails %d arrived and %d were refused", what, n, arrived, refused)
		}
	}
}
