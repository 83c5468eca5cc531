package envoy

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/hop"
	"meshc.dev/meshc/internal/rehearsal"
)

// doors is a mesh with a service "app" behind a gateway for "app.shop", and the
// addresses of its first proxies: the gateway and a sidecar's own outbound port.
type doors struct {
	stage            *rehearsal.Stage
	gateway, sidecar compiler.Door
	addresses        map[string]string
}

func openDoors(t *testing.T, more string) doors {
	t.Helper()
	p := shop(t, `
mesh: service: app: {port: http: number: 80, grant: all: mesh: true, `+more+`}
mesh: gateway: edge: {port: http: number: 80, host: "app.shop": route: all: to: app: 100}`)
	reh, stage := stageOf(t.Context(), t, p, []compiler.Request{{To: "gateway/shop/edge"}, {From: "shop/app", To: "shop/app"}})
	d := doors{stage, reh.Doors[0], reh.Doors[1], map[string]string{}}
	for name, door := range map[string]compiler.Door{"gateway": d.gateway, "sidecar": d.sidecar} {
		addr, ok := stage.Address(door)
		if !ok {
			t.Fatalf("no address for the %s", name)
		}
		d.addresses[name] = addr
	}
	return d
}

// say sends bytes and returns the status of the answer, 0 without one, and its header.
func say(ctx context.Context, addr, text string) (int, http.Header) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c, err := sendText(ctx, addr, text)
	if err != nil {
		return 0, nil
	}
	defer c.Close()
	method, _, _ := strings.Cut(text, " ")
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	return res.StatusCode, res.Header
}

// What one client sends is answered by the first proxy, and a neighbour whose
// request is under way on the same connections gets its answer.
func TestOneRequestLeavesOthersAlone(t *testing.T) {
	d := openDoors(t, "")
	for name, c := range map[string]struct {
		text   string
		status int
	}{
		"empty TE":                   {"GET / HTTP/1.1\r\nhost: app.shop\r\nte:\r\n\r\n", 200},
		"TE of blanks":               {"GET / HTTP/1.1\r\nhost: app.shop\r\nte: \t \r\n\r\n", 200},
		"two TE, one empty":          {"GET / HTTP/1.1\r\nhost: app.shop\r\nte:\r\nte: gzip\r\n\r\n", 200},
		"another TE":                 {"GET / HTTP/1.1\r\nhost: app.shop\r\nte: gzip;q=0.5, trailers\r\n\r\n", 200},
		"userinfo":                   {"GET / HTTP/1.1\r\nhost: me@app.shop\r\n\r\n", 400},
		"userinfo behind the port":   {"GET / HTTP/1.1\r\nhost: app.shop:a@b\r\n\r\n", 400},
		"of an unknown host":         {"GET / HTTP/1.1\r\nhost: b.test:a@b\r\n\r\n", 400},
		"port that is no number":     {"GET / HTTP/1.1\r\nhost: app.shop:x\r\n\r\n", 400},
		"port that is no port":       {"GET / HTTP/1.1\r\nhost: app.shop:65536\r\n\r\n", 400},
		"comma":                      {"GET / HTTP/1.1\r\nhost: app.shop,b.test\r\n\r\n", 400},
		"two Host lines":             {"GET / HTTP/1.1\r\nhost: app.shop\r\nhost: app.shop\r\n\r\n", 400},
		"empty Host":                 {"GET / HTTP/1.1\r\nhost:\r\n\r\n", 400},
		"no Host":                    {"GET / HTTP/1.1\r\n\r\n", 400},
		"open bracket":               {"GET / HTTP/1.1\r\nhost: [::1\r\n\r\n", 400},
		"absolute, port no number":   {"GET http://app.shop:x/ HTTP/1.1\r\nhost: app.shop\r\n\r\n", 400},
		"absolute, comma":            {"GET http://app.shop,b.test/ HTTP/1.1\r\nhost: app.shop\r\n\r\n", 400},
		"absolute, no host":          {"GET http:///x HTTP/1.1\r\nhost: app.shop\r\n\r\n", 400},
		"absolute counts, not Host":  {"GET http://app.shop/ HTTP/1.1\r\nhost: me@b.test\r\n\r\n", 200},
		"method that nobody knows":   {"FOO / HTTP/1.1\r\nhost: app.shop\r\n\r\n", 400},
		"method in small letters":    {"get / HTTP/1.1\r\nhost: app.shop\r\n\r\n", 400},
		"Upgrade without Connection": {"GET / HTTP/1.1\r\nhost: app.shop\r\nupgrade: x\r\n\r\n", 200},
		"Upgrade to HTTP/2":          {"GET / HTTP/1.1\r\nhost: app.shop\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n", 200},
		"headers of one connection":  {"GET / HTTP/1.1\r\nhost: app.shop\r\nkeep-alive: x\r\nproxy-connection: x\r\ntrailer: x\r\n\r\n", 200},
		"every character of a token": {"GET / HTTP/1.1\r\nhost: app.shop\r\nx!#$%&'*+.^`|~a: b\r\n\r\n", 200},
		"bytes beyond ASCII":         {"GET / HTTP/1.1\r\nhost: app.shop\r\nx-a: \x80\xff\r\n\r\n", 200},
		"control character":          {"GET / HTTP/1.1\r\nhost: app.shop\r\nx-a: a\x01b\r\n\r\n", 400},
		"length of zeros and digits": {"POST / HTTP/1.1\r\nhost: app.shop\r\ncontent-length: 00000000000000000001\r\n\r\na", 200},
		"length of 19 digits":        {"POST / HTTP/1.1\r\nhost: app.shop\r\ncontent-length: 1000000000000000000\r\n\r\na", 400},
		"length beyond 63 bits":      {"POST / HTTP/1.1\r\nhost: app.shop\r\ncontent-length: 9223372036854775808\r\n\r\na", 400},
		"length of 64 bits":          {"POST / HTTP/1.1\r\nhost: app.shop\r\ncontent-length: 18446744073709551615\r\n\r\na", 400},
		"length beyond 64 bits":      {"POST / HTTP/1.1\r\nhost: app.shop\r\ncontent-length: 18446744073709551616\r\n\r\na", 400},
		"two lengths":                {"POST / HTTP/1.1\r\nhost: app.shop\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na", 400},
	} {
		for door, addr := range d.addresses {
			neighbour := make(chan int)
			path := "/" + strings.ReplaceAll(door+"/"+name, " ", "-")
			go func() {
				status, _ := say(t.Context(), addr, "GET "+path+" HTTP/1.1\r\nhost: app.shop\r\n"+rehearsal.WaitHeader+": 100ms\r\n\r\n")
				neighbour <- status
			}()
			for !arrived(d.stage, path) && t.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
			status, _ := say(t.Context(), addr, c.text)
			if status != c.status {
				t.Errorf("%s, %s: %d, want %d", door, name, status, c.status)
			}
			if got := <-neighbour; got != http.StatusOK {
				t.Errorf("%s, %s: the neighbour got %d", door, name, got)
			}
		}
	}
}

// Every known method gets through, and no other.
func TestMethodsAreThoseThatEnvoyKnows(t *testing.T) {
	d := openDoors(t, "")
	for door, addr := range d.addresses {
		for _, m := range append(hop.Methods(), "M-SEARCH", "QUERY", "UPDATE", "PRI", "BASELINE-CONTROL", "GETS", "CONNECT") {
			want := http.StatusBadRequest
			if hop.GoodMethod(m) {
				want = http.StatusOK
			}
			if got, _ := say(t.Context(), addr, m+" / HTTP/1.1\r\nhost: app.shop\r\ncontent-length: 0\r\n\r\n"); got != want {
				t.Errorf("%s, %s: %d, want %d", door, m, got, want)
			}
		}
	}
}

func arrived(s *rehearsal.Stage, path string) bool {
	for _, x := range s.Seen() {
		if x.Path == path {
			return true
		}
	}
	return false
}
