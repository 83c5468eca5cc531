package envoy

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

const untilLater = `owner: "x", reason: "y", until: "2026-12-31T00:00:00Z"}`

func abort(status, percent int) string {
	return fmt.Sprintf(`fault: {abort: {status: %d, percent: %d}, %s`, status, percent, untilLater)
}

func delay(duration string) string {
	return fmt.Sprintf(`fault: {delay: {duration: %q, percent: 100}, %s`, duration, untilLater)
}

// A gateway's route and a call say faults beside those of the service: a request meets both, the
// nearer first, and what a caller says meets its own requests alone.
func TestFaultsOfBothSidesAreMet(t *testing.T) {
	p := shop(t, `
mesh: service: app: {
	port: http: number: 80
	route: {
		half: {match: path: prefix: "/half", to: default: 100, `+abort(503, 50)+`}
		never: {match: path: prefix: "/never", to: default: 100, `+abort(503, 100)+`}
		late: {match: path: prefix: "/late", to: default: 100, `+delay("300ms")+`}
		moved: {match: path: prefix: "/moved", redirect: path: "/", `+abort(503, 100)+`}
		rest: to: default: 100
	}
	grant: all: {mesh: true, paths: ["/*"]}
}
mesh: service: web: {port: http: number: 80, calls: app: `+abort(418, 50)+`}
mesh: service: batch: {port: http: number: 80, calls: app: `+delay("200ms")+`}
mesh: service: plain: {port: http: number: 80, calls: app: {}}
mesh: gateway: edge: {port: http: number: 80, host: "a.test": route: {
	all: {match: path: prefix: "/half", to: app: 100, `+abort(418, 50)+`}
	first: {match: path: prefix: "/never/418", to: app: 100, `+abort(418, 100)+`}
	late: {match: path: prefix: "/late", to: app: 100, `+delay("200ms")+`}
	rest: to: app: 100
}}
`)
	sidecar := func(from, path string) compiler.Request {
		return compiler.Request{From: "shop/" + from, To: "shop/app", Path: path}
	}
	gateway := func(path string) compiler.Request {
		return compiler.Request{To: "gateway/shop/edge", Host: "a.test", Path: path}
	}
	cases := []struct {
		r      compiler.Request
		status map[int][2]int // of 200 requests, at least and at most
		least  time.Duration
	}{
		{gateway("/half"), map[int][2]int{418: {60, 140}, 503: {20, 80}, 200: {20, 80}}, 0},
		{sidecar("web", "/half"), map[int][2]int{418: {60, 140}, 503: {20, 80}, 200: {20, 80}}, 0},
		{sidecar("web", "/"), map[int][2]int{418: {60, 140}, 200: {60, 140}}, 0},
		{sidecar("web", "/moved"), map[int][2]int{503: {200, 200}}, 0}, // which leads nowhere else
		{sidecar("plain", "/half"), map[int][2]int{503: {60, 140}, 200: {60, 140}}, 0},
		{sidecar("plain", "/"), map[int][2]int{200: {200, 200}}, 0},
		{gateway("/never"), map[int][2]int{503: {200, 200}}, 0},
		{gateway("/never/418"), map[int][2]int{418: {200, 200}}, 0},
		{gateway("/late"), map[int][2]int{200: {200, 200}}, 490 * time.Millisecond},
		{sidecar("batch", "/never"), map[int][2]int{503: {200, 200}}, 190 * time.Millisecond},
		{sidecar("batch", "/late"), map[int][2]int{200: {200, 200}}, 490 * time.Millisecond},
	}
	var rs []compiler.Request
	for _, c := range cases {
		rs = append(rs, c.r)
	}
	reh, stage := stageOf(t.Context(), t, p, rs)
	for i, c := range cases {
		says, err := p.Decide(c.r)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		got, least := map[int]int{}, time.Hour
		g, ctx := errgroup.WithContext(context.WithoutCancel(t.Context()))
		g.SetLimit(20)
		for range 200 {
			g.Go(func() error {
				begin := time.Now()
				reply, err := stage.Ask(ctx, reh.Doors[i], c.r)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				if why := rehearsal.Differs(says, c.r, reply); why != "" {
					t.Errorf("%+v: %s", c.r, why)
				}
				got[reply.Status]++
				least = min(least, time.Since(begin))
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		for status, n := range got {
			if want := c.status[status]; n < want[0] || n > want[1] {
				t.Errorf("%+v: %d times %d, want %v (%v)", c.r, n, status, want, got)
			}
		}
		if len(got) != len(c.status) || least < c.least {
			t.Errorf("%+v: %v, the fastest after %v, want %v and %v", c.r, got, least, c.status, c.least)
		}
	}
}

// What is kept longer than its bounds allow is answered meanwhile, whatever would have become of
// it; the bound of an answer counts behind. The evaluator says when.
func TestWhatIsKeptTooLongIsAnswered(t *testing.T) {
	p := shop(t, `
mesh: service: app: {
	port: http: number: 80
	upgrade: ["websocket"]
	grant: all: {mesh: true, paths: ["/*"]}
	deny: one: {mesh: true, paths: ["/idle/denied", "/short/denied"]}
	route: {
		idle: {match: path: prefix: "/idle", to: default: 100, timeout: "none", idle: "2s", upgrade: ["websocket"], `+delay("3s")+`}
		aborted: {match: path: prefix: "/aborted", to: default: 100, timeout: "none", idle: "2s", fault: {abort: {status: 418, percent: 100}, delay: {duration: "3s", percent: 100}, `+untilLater+`}
		short: {match: path: prefix: "/short", to: default: 100, timeout: "none", idle: "2s", `+delay("1500ms")+`}
		moved: {match: path: prefix: "/moved", redirect: path: "/", `+delay("1s")+`}
		answer: {match: path: prefix: "/answer", to: default: 100, timeout: "1s", `+delay("1500ms")+`}
		max: {match: path: prefix: "/max", to: default: 100, timeout: "none", maxDuration: "2s", `+delay("3s")+`}
		some: {match: path: prefix: "/some", to: default: 100, timeout: "none", idle: "1s", fault: {delay: {duration: "2s", percent: 50}, `+untilLater+`}
		less: {match: path: prefix: "/less", to: default: 100, timeout: "none", maxDuration: "2s", `+delay("1500ms")+`}
	}
}
mesh: service: web: {port: http: number: 80, calls: app: `+delay("1s")+`}
mesh: gateway: edge: {port: http: number: 80, host: "a.test": route: all: {to: app: 100, upgrade: ["websocket"]}}
`)
	const s = time.Second
	socket := []compiler.Header{{Name: "connection", Value: "upgrade"}, {Name: "upgrade", Value: "websocket"}, {Name: "sec-websocket-key", Value: "dGhlIHNhbXBsZSBub25jZQ=="}, {Name: "sec-websocket-version", Value: "13"}}
	body := []compiler.Header{{Name: "content-length", Value: "3"}}
	chunks := []compiler.Header{{Name: "transfer-encoding", Value: "chunked"}}
	var rs []compiler.Request
	var want []int
	for _, c := range []struct {
		from, path   string
		pause, after time.Duration
		headers      []compiler.Header
		status       int
	}{
		{"app", "/idle", 0, 0, nil, 504},
		{"app", "/idle", 0, 0, body, 504},
		{"app", "/idle", 0, 0, socket, 408},
		{"app", "/idle/denied", 0, 0, nil, 504},
		{"app", "/idle", s * 3 / 2, 0, nil, 0}, // the end of its body moves
		{"app", "/idle", s / 2, 0, nil, 504},
		{"app", "/idle", s * 5 / 2, 0, nil, 408},
		{"app", "/aborted", 0, 0, nil, 504},
		{"app", "/short", 0, 0, nil, 0},
		{"app", "/short/denied", 0, 0, nil, 403},
		{"app", "/short", 0, s, nil, 504},
		{"app", "/short", 0, s, body, 0}, // a body that has come goes on, and moves
		{"app", "/short", 0, s, chunks, 0},
		{"app", "/short", s, s * 3 / 2, nil, 0},
		{"app", "/short", s, s * 5 / 2, nil, 504},
		{"app", "/short", s * 9 / 5, s * 3 / 2, nil, 0},
		{"app", "/short", 3 * s, 0, nil, 408},
		{"app", "/answer", 0, 0, nil, 0},
		{"app", "/answer", 0, s / 2, nil, 0},
		{"app", "/answer", 0, s * 3 / 2, nil, 504},
		{"app", "/answer", 2 * s, s / 2, nil, 0},
		{"app", "/max", 0, 0, nil, 504},
		{"app", "/max", s, 0, nil, 504},
		{"app", "/max", s * 5 / 2, 0, nil, 408},
		{"app", "/less", 0, 0, nil, 0},
		{"app", "/less", 0, s, body, 504},
		{"app", "/less", s, s / 4, nil, 0},
		{"app", "/moved", 0, 0, nil, 301},
		{"app", "/some", 0, 0, nil, 0},
		{"web", "/short", 0, 0, nil, 504}, // 1 s and then 1.5 s
		{"web", "/short", 0, 0, body, 0},
		{"web", "/less", 0, 0, nil, 504},
		{"web", "/answer", 0, s / 2, nil, 0},
		{"", "/idle", 0, 0, nil, 504},
		{"", "/short", 0, s, nil, 504},
		{"", "/short", 0, s, body, 0},
	} {
		r := compiler.Request{To: "shop/app", Path: c.path, Pause: c.pause, AnswerAfter: c.after, Headers: c.headers}
		if c.from == "" {
			r.To, r.Host = "gateway/shop/edge", "a.test"
		} else {
			r.From = "shop/" + c.from
		}
		rs, want = append(rs, r), append(want, c.status)
	}
	agreeOn(t, p, rs, want)
}

// A client of gRPC is told the status that a fault names, by HTTP's 200, and at ports that speak no gRPC nobody is.
func TestFaultsEndCalls(t *testing.T) {
	const ended = `fault: {abort: {grpc: %q, percent: 100}, ` + untilLater
	p := shop(t, `
mesh: service: app: {
	port: {rpc: {number: 80, protocol: "grpc", main: true}, http: number: 81}
	route: {
		down: {match: path: prefix: "/shop.Down", to: default: 100, `+fmt.Sprintf(ended, "unavailable")+`}
		gone: {match: path: prefix: "/shop.Gone", to: default: 100, `+fmt.Sprintf(ended, "unimplemented")+`}
		rest: to: default: 100
	}
	grant: all: {mesh: true, ports: ["rpc", "http"]}
}
mesh: service: web: {port: http: number: 80, calls: app: {port: rpc: {}, `+fmt.Sprintf(ended, "resource-exhausted")+`}}
mesh: service: plain: {port: http: number: 80, calls: app: port: rpc: {}}
mesh: service: old: {port: http: number: 80, calls: app: port: http: {}}
mesh: gateway: edge: {port: http: number: 80, host: "a.test": route: all: {to: app: 100, `+fmt.Sprintf(ended, "data-loss")+`}}
`)
	calls := []compiler.Header{{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"}}
	request := func(from, port, path string) compiler.Request {
		return compiler.Request{From: "shop/" + from, To: "shop/app", Port: port, Method: "POST", Path: path, HTTP: compiler.HTTP2, Headers: calls}
	}
	cases := []struct {
		r    compiler.Request
		code codes.Code // OK for what reaches the application
	}{
		{request("plain", "rpc", "/shop.Down/Get"), codes.Unavailable},
		{request("plain", "rpc", "/shop.Gone/Get"), codes.Unimplemented},
		{request("plain", "rpc", "/shop.Cart/Get"), codes.OK},
		{request("web", "rpc", "/shop.Cart/Get"), codes.ResourceExhausted},
		{request("web", "rpc", "/shop.Down/Get"), codes.ResourceExhausted},
		{request("old", "http", "/shop.Down/Get"), codes.OK},
		{compiler.Request{To: "gateway/shop/edge", Host: "a.test", Method: "POST", Path: "/shop.Cart/Get", HTTP: compiler.HTTP2, Headers: calls}, codes.DataLoss},
	}
	var rs []compiler.Request
	for _, c := range cases {
		rs = append(rs, c.r)
	}
	reh, stage := stageOf(t.Context(), t, p, rs)
	for i, c := range cases {
		says, err := p.Decide(c.r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := stage.Ask(t.Context(), reh.Doors[i], c.r)
		if err != nil {
			t.Fatal(err)
		}
		if why := rehearsal.Differs(says, c.r, got); why != "" || (got.Seen != nil) != (c.code == codes.OK) {
			t.Errorf("%+v: %s %+v", c.r, why, got)
		}
		if c.code == codes.OK {
			continue
		}
		addr, _ := stage.Address(reh.Doors[i])
		conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(cmp.Or(c.r.Host, "app.shop")))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Invoke(t.Context(), c.r.Path, &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) != c.code {
			t.Errorf("%+v: a client of gRPC is told %v, want %v", c.r, err, c.code)
		}
		_ = conn.Close()
	}
	noCall := cases[0].r
	noCall.Headers = nil
	if got, err := stage.Ask(t.Context(), reh.Doors[0], noCall); err != nil || got.Status != 200 || got.Seen != nil || got.Text != "fault filter abort" {
		t.Errorf("what is no call: %+v, %v", got, err)
	}
}
