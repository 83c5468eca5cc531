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
		got := ask(c.door, c.accepts, fmt.Sprintf("HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s", c.head, len(c.body), c.body))
		said := strings.Join(got.Headers["content-encoding"], "|")
		if (said == "gzip") != c.packed || !c.packed && said != "" {
			t.Errorf("door %d, accept-encoding %q, %q: content-encoding %q, want packed %t", c.door, c.accepts, c.head, said, c.packed)
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
	if got := ask(0, "gzip", fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-encoding: br\r\ncontent-length: %d\r\n\r\n%s", len(text), text)); strings.Join(got.Headers["content-encoding"], "|") != "br" {
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

// TestBodiesPassAtTheirRate: both ways have rates of their own. What may pass at once is one second's, so that a transfer of
// several seconds takes at least the others; a slow machine makes it longer.
func TestBodiesPassAtTheirRate(t *testing.T) {
	const kib = 1 << 10
	p := start(t, `bandwidth: {request: "64KiB", response: "128KiB"}`)
	addr, _ := p.stage.Address(p.door)
	transfer := func(method string, sent, answered int) (time.Duration, int64) {
		t.Helper()
		q, err := http.NewRequestWithContext(p.ctx, method, "http://"+addr+"/", io.LimitReader(zeros{}, int64(sent)))
		if err != nil {
			t.Fatal(err)
		}
		q.Host, q.ContentLength = compiler.RehearsedHost, int64(sent)
		q.Header.Set(rehearsal.SizeHeader, fmt.Sprint(answered))
		began := time.Now()
		res, err := http.DefaultTransport.RoundTrip(q)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		n, err := io.Copy(io.Discard, res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%d, %v", res.StatusCode, err)
		}
		return time.Since(began), n
	}
	for _, c := range []struct {
		method         string
		sent, answered int
		least          time.Duration // less than the rate says: buckets are filled in steps
	}{
		{"GET", 0, 640 * kib, 3 * time.Second},
		{"POST", 256 * kib, 0, 2 * time.Second},
	} {
		took, n := transfer(c.method, c.sent, c.answered)
		t.Logf("%s: %.0f KiB a second", c.method, float64(c.sent+c.answered)/kib/took.Seconds())
		if want := int64(c.sent + c.answered); n != want || took < c.least || took > 10*c.least {
			t.Errorf("%s of %d and %d bytes: %d came back in %v, want %d in %v or a little more", c.method, c.sent, c.answered, n, took, want, c.least)
		}
	}
}

// zeros are endless.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestWhatFailsIsAskedLess: where all requests fail, most are refused by the callee's proxy before they get to the application, and
// some get there: by chance, which leaves out either of both less than once in a hundred thousand million runs. What the application refuses
// for a reason of its own has not failed.
func TestWhatFailsIsAskedLess(t *testing.T) {
	const n = 120
	p := startAt(t, `
mesh: service: app: {port: http: number: 80, grant: all: {mesh: true, methods: ["GET"]}, admission: {successRate: 90, window: "1m"}}`, compiler.Request{From: "shop/app", To: "shop/app"})
	for i := range n {
		if got := p.ask(fmt.Sprintf("/good/%d", i), 0, 0); got.Status != http.StatusOK {
			t.Fatalf("while all is well, request %d is answered %d", i, got.Status)
		}
	}
	refused, arrived := 0, 0
	for i := range 3 * n {
		switch got := p.ask(fmt.Sprintf("/bad/%d", i), 1, 0); {
		case got.Status != http.StatusServiceUnavailable:
			t.Fatalf("a failing request is answered %d", got.Status)
		case i < 2*n: // until those that succeeded are few
		case got.Seen == nil:
			refused++
		default:
			arrived++
		}
	}
	if refused == 0 || arrived == 0 {
		t.Errorf("of %d requests to what fails %d arrived and %d were refused", n, arrived, refused)
	}
}
