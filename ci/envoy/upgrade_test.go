package envoy

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// socket opens a WebSocket at a door. An error tells the status of a refusal.
func socket(ctx context.Context, t *testing.T, addr, host, path string, headers ...compiler.Header) (*websocket.Conn, error) {
	t.Helper()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	if err := raw.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	config, err := websocket.NewConfig("ws://"+host+path, "http://"+host)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		config.Header.Add(h.Name, h.Value)
	}
	ws, err := websocket.NewClient(config, raw)
	if err != nil {
		return nil, fmt.Errorf("opening a WebSocket: %w", err)
	}
	return ws, nil
}

// echoed sends a message and demands it back.
func echoed(t *testing.T, ws *websocket.Conn, text string) {
	t.Helper()
	var got string
	err := websocket.Message.Send(ws, text)
	if err == nil {
		err = websocket.Message.Receive(ws, &got)
	}
	if err != nil || got != text {
		t.Errorf("sent %q, got %q: %v", text, got, err)
	}
}

// open starts a mesh and returns the addresses of doors.
func open(t *testing.T, p *compiler.Program, rs ...compiler.Request) []string {
	t.Helper()
	reh, stage := stageOf(t.Context(), t, p, rs)
	out := make([]string, len(rs))
	for i, d := range reh.Doors {
		var ok bool
		if out[i], ok = stage.Address(d); !ok {
			t.Fatalf("no address for %+v", rs[i])
		}
	}
	return out
}

// What changes its protocol passes two sidecars, which speak HTTP/2 with each other, or a
// gateway and a sidecar, where all of them are told so, and nowhere else.
func TestWebSocketsPassWhereAllLetThem(t *testing.T) {
	p := shop(t, `
mesh: service: app: {port: http: number: 80, grant: all: mesh: true, route: {
	live: {match: path: prefix: "/live", to: default: 100, upgrade: ["websocket"]}
	default: to: default: 100
}}
mesh: service: plain: {port: http: number: 80, grant: all: mesh: true}
mesh: service: open: {port: http: number: 80, upgrade: ["websocket"], grant: all: {mesh: true, paths: ["/in", "/in/*"]}}
mesh: gateway: edge: {port: http: number: 80, host: "*": route: {
	live: {match: path: prefix: "/live", to: app: 100, upgrade: ["websocket"]}
	wide: {match: path: prefix: "/wide", to: app: 100, upgrade: ["websocket"]}
	plain: {match: path: prefix: "/plain", to: plain: 100, upgrade: ["websocket"]}
	in: {match: path: prefix: "/in", to: open: 100, upgrade: ["websocket"]}
	out: {match: path: prefix: "/out", to: open: 100, upgrade: ["websocket"]}
	silent: {match: path: prefix: "/silent", to: open: 100}
	elsewhere: {match: path: prefix: "/elsewhere", redirect: path: "/"}
}}`)
	doors := []compiler.Request{{From: "shop/app", To: "shop/app"}, {From: "shop/app", To: "shop/open"}, {From: "shop/app", To: "shop/plain"}, {To: "gateway/shop/edge"}}
	at := open(t, p, doors...)
	wish := []compiler.Header{{Name: "connection", Value: "Upgrade"}, {Name: "upgrade", Value: "websocket"}}
	for _, c := range []struct {
		door   int
		path   string
		status int // 0: it passes
	}{
		{0, "/live/a", 0}, {0, "/else", 403}, {1, "/in", 0}, {1, "/out", 403}, {2, "/", 403},
		{3, "/live/a", 0}, {3, "/wide", 403}, {3, "/plain", 403}, {3, "/in", 0}, {3, "/out", 403}, {3, "/silent", 403}, {3, "/elsewhere", 403}, {3, "/nowhere", 404},
	} {
		r := doors[c.door]
		r.Path, r.Headers, r.Host = c.path, wish, "a.test"
		if name, ok := strings.CutPrefix(r.To, "shop/"); ok {
			r.Host = name
		}
		want, err := p.Decide(r)
		if err != nil {
			t.Fatal(err)
		}
		if want.Status != c.status {
			t.Errorf("%s %s: the evaluator says %d (%s), want %d", r.To, c.path, want.Status, want.Words(), c.status)
		}
		ws, err := socket(t.Context(), t, at[c.door], r.Host, c.path)
		switch {
		case c.status != 0:
			if got, _ := say(t.Context(), at[c.door], "GET "+c.path+" HTTP/1.1\r\nhost: "+r.Host+"\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"); got != c.status || err == nil {
				t.Errorf("%s %s: %d, want %d", r.To, c.path, got, c.status)
			}
		case err != nil:
			t.Errorf("%s %s: %v", r.To, c.path, err)
		default:
			echoed(t, ws, "one")
			echoed(t, ws, "two")
		}
	}
}

// over reads until the other side ends the stream, and reports how long that took.
func over(ws *websocket.Conn, begun time.Time) time.Duration {
	_, _ = io.Copy(io.Discard, ws)
	return time.Since(begun)
}

// What has changed its protocol lasts: no timeout ends it, but silence does, and the end of
// the time that it may last, whatever moves.
func TestStreamsEndWhenTheyShould(t *testing.T) {
	p := shop(t, `
mesh: service: app: {
	port: {http: {number: 80, main: true, timeout: "1s"}, rpc: {number: 90, protocol: "grpc"}}
	grant: all: {mesh: true, ports: ["http", "rpc"]}
	upgrade: ["websocket"]
	route: {
		quiet: {match: path: prefix: "/quiet", to: default: 100, idle: "1s"}
		brief: {match: path: prefix: "/brief", to: default: 100, maxDuration: "2s"}
		default: to: default: 100
	}
}`)
	at := open(t, p, compiler.Request{From: "shop/app", To: "shop/app", Port: "http"}, compiler.Request{From: "shop/app", To: "shop/app", Port: "rpc"})
	streams := map[string]*websocket.Conn{}
	begun := time.Now()
	for _, path := range []string{"/quiet", "/brief", "/lasting"} {
		ws, err := socket(t.Context(), t, at[0], "app.shop", path)
		if err != nil {
			t.Fatal(err)
		}
		streams[path] = ws
	}
	go func() { // moves until it is over
		for websocket.Message.Send(streams["/brief"], "still here") == nil {
			time.Sleep(50 * time.Millisecond)
		}
	}()
	// Longer than they may take is slow; shorter is wrong.
	if took := over(streams["/quiet"], begun); took < time.Second {
		t.Errorf("a silent stream ended after %v", took)
	}
	if took := over(streams["/brief"], begun); took < 2*time.Second {
		t.Errorf("a stream that may last 2s ended after %v", took)
	}
	echoed(t, streams["/lasting"], "longer than the timeout of its port")
	for i, want := range []int{504, 200} { // nothing bounds an answer of gRPC
		if got, _ := say(t.Context(), at[i], "GET / HTTP/1.1\r\nhost: app.shop\r\n"+rehearsal.WaitHeader+": 1500ms\r\n\r\n"); got != want {
			t.Errorf("an answer after 1.5s on port %d: %d, want %d", i, got, want)
		}
	}
}
