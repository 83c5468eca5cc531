package envoy

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// What lasts too long the first proxy answers: with 504 if it has the whole request, with 408 if
// it waits for the rest, and not at all where nothing counts. The evaluator says which.
func TestFirstProxyAnswersWhatLastsTooLong(t *testing.T) {
	p := shop(t, `
mesh: service: app: {
	port: http: number: 80
	version: {v1: {}, v2: {}}
	upgrade: ["websocket"]
	grant: {all: {mesh: true, paths: ["/*"]}}
	deny: one: {mesh: true, paths: ["/refused"]}
	route: {
		timeout: {match: path: prefix: "/timeout", to: v1: 100, timeout: "1s", responseHeaders: {set: "x-late": "1", add: "x-added": "a"}}
		idle: {match: path: prefix: "/idle", to: v1: 100, timeout: "none", idle: "1s", upgrade: ["websocket"], responseHeaders: set: "x-late": "1"}
		max: {match: path: prefix: "/max", to: v1: 100, timeout: "none", maxDuration: "2s", responseHeaders: set: "x-late": "1"}
		each: {match: path: prefix: "/try", to: v1: 100, timeout: "9s", retry: {attempts: 1, perTry: "1s", on: ["gateway-error"], idempotent: true}}
		up: {match: path: prefix: "/up", to: v1: 100, timeout: "1s", upgrade: ["websocket"]}
		abort: {match: path: prefix: "/abort", to: v1: 100, idle: "1s", timeout: "1s", fault: {abort: {status: 418, percent: 100}, owner: "x", reason: "y", until: "2026-12-31T00:00:00Z"}}
		moved: {match: path: prefix: "/moved", redirect: path: "/"}
		upeach: {match: path: prefix: "/upeach", to: v1: 100, timeout: "9s", upgrade: ["websocket"], retry: {attempts: 1, perTry: "1s", on: ["gateway-error"], idempotent: true}}
		rest: to: {v1: 50, v2: 50}
	}
}
mesh: gateway: edge: {port: http: number: 80, host: "a.test": route: {
	own: {match: path: prefix: "/timeout/own", to: app: 100, timeout: "2s"}
	all: {to: app: 100, upgrade: ["websocket"]}
}}
`)
	socket := []compiler.Header{{Name: "connection", Value: "upgrade"}, {Name: "upgrade", Value: "websocket"}, {Name: "sec-websocket-key", Value: "dGhlIHNhbXBsZSBub25jZQ=="}, {Name: "sec-websocket-version", Value: "13"}}
	type c struct {
		path         string
		pause, after time.Duration
		headers      []compiler.Header
		http         string
		status       int
	}
	const s = time.Second
	var rs []compiler.Request
	var want []int
	for _, c := range []c{
		{"/timeout", 0, 0, nil, "", 0},
		{"/timeout", 0, 3 * s, nil, "", 504},
		{"/timeout", 0, 3 * s, nil, compiler.HTTP2, 504},
		{"/timeout/own", 0, 3 * s, nil, "", 504},
		{"/timeout", 3 * s, 0, nil, "", 0}, // counts from the request's end
		{"/timeout", 2 * s, 3 * s, nil, "", 504},
		{"/idle", 0, 3 * s, nil, "", 504},
		{"/idle", 3 * s, 0, nil, "", 408},
		{"/idle", s / 2, s / 4, nil, "", 0},
		{"/max", 0, 4 * s, nil, "", 504},
		{"/max", s, 4 * s, nil, "", 504},
		{"/max", 4 * s, 0, nil, "", 408},
		{"/try", 0, 3 * s, nil, "", 504},
		{"/up", 0, 3 * s, socket, "", 504}, // until the answer, which begins another protocol
		{"/upeach", 0, 3 * s, socket, "", 504},
		{"/up", 0, 0, socket, "", 0},
		{"/idle", 0, 3 * s, socket, "", 408},
		{"/abort", 0, 3 * s, nil, "", 418},
		{"/abort", 3 * s, 0, nil, "", 418},
		{"/moved", 3 * s, 3 * s, nil, "", 301},
		{"/refused", 3 * s, 3 * s, nil, "", 403},
		{"/rest", s, s, nil, "", 0},
	} {
		r := compiler.Request{Path: c.path, Pause: c.pause, AnswerAfter: c.after, Headers: c.headers, HTTP: c.http}
		r.From, r.To = "shop/app", "shop/app"
		rs, want = append(rs, r), append(want, c.status)
		r.From, r.To, r.Host = "", "gateway/shop/edge", "a.test"
		rs, want = append(rs, r), append(want, c.status)
	}
	agreeOn(t, p, rs, want)
}

// What a gateway says instead of its answers is what visitors see of what lasts too long, and the evaluator says so; what a service says
// instead of its own is not asked there.
func TestWhatLastsTooLongIsAnsweredOtherwise(t *testing.T) {
	p := shop(t, `
mesh: service: app: {
	port: http: number: 80
	grant: all: mesh: true
	answers: mine: {statuses: [408, 504], status: 599}
	route: all: {to: default: 100, timeout: "1s"}
}
mesh: gateway: edge: {port: http: number: 80, host: "a.test": {
	answers: late: {statuses: [503, 504], status: 502, body: "late"}
	route: {
		own: {match: path: prefix: "/own", to: app: 100, idle: "900ms", answers: {gone: {statuses: [408], status: 418}, late: {statuses: [504], body: "late"}}}
		none: {match: path: prefix: "/none", to: app: 100, answers: {}}
		all: {to: app: 100, idle: "900ms"}
	}
}}
`)
	const s = time.Second
	var rs []compiler.Request
	var want []int
	for _, c := range []struct {
		path         string
		pause, after time.Duration
		status       int
	}{
		{"/", 0, 0, 0},
		{"/", 0, 3 * s, 502},
		{"/", 3 * s, 0, 408},
		{"/own", 0, 3 * s, 504},
		{"/own", 3 * s, 0, 418},
		{"/none", 0, 3 * s, 504},
	} {
		rs, want = append(rs, compiler.Request{To: "gateway/shop/edge", Host: "a.test", Path: c.path, Pause: c.pause, AnswerAfter: c.after}), append(want, c.status)
	}
	rs, want = append(rs, compiler.Request{From: "shop/app", To: "shop/app", AnswerAfter: 3 * s}), append(want, 504)
	agreeOn(t, p, rs, want)
}

// agreeOn asks all requests at once, for some of them last: the evaluator says the status that is
// wanted of each, and a real Envoy does what it says.
func agreeOn(t *testing.T, p *compiler.Program, rs []compiler.Request, want []int) {
	t.Helper()
	reh, stage := stageOf(t.Context(), t, p, rs)
	g, ctx := errgroup.WithContext(context.WithoutCancel(t.Context()))
	for i, r := range rs {
		g.Go(func() error {
			says, err := p.Decide(r)
			if err != nil {
				return err
			}
			if says.Status != want[i] {
				t.Errorf("%+v: the evaluator says %d (%s), want %d", r, says.Status, says.Words(), want[i])
			}
			got, err := stage.Ask(ctx, reh.Doors[i], r)
			if err != nil {
				t.Errorf("%+v: %v", r, err)
			} else if why := rehearsal.Differs(says, r, got); why != "" {
				t.Errorf("%+v: %s", r, why)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}
