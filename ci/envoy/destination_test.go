package envoy

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"meshc.dev/meshc/compiler"
)

// What a destination says of headers holds for what goes there alone: behind what the route says, before
// grants are asked, and on the way back in reverse. What arrived and what came back is compared with the
// evaluator; here shares and grants are.
func TestDestinationsEditHeadersOfTheirOwn(t *testing.T) {
	const n = 200
	p := shop(t, `
mesh: service: web: {port: http: number: 80, calls: {app: {}, asks: {}}}
mesh: service: app: {
	port: http: number: 80
	grant: all: mesh: true
	version: {v1: {}, v2: {}}
	route: default: {
		to: {v1: 50, next: 50}
		requestHeaders: {set: {"x-team": "app", "x-try": "route"}, add: "x-line": "route"}
		responseHeaders: {set: "x-from": "route", add: "x-back": "route"}
		destination: {
			v1: requestHeaders: remove: ["x-debug"]
			next: {version: "v2", requestHeaders: {set: "x-try": "next", add: "x-line": "next"}, responseHeaders: {set: "x-from": "next", add: "x-back": "next"}}
		}
	}
}
mesh: service: asks: {
	port: http: number: 80
	grant: new: {mesh: true, headers: "x-try": exact: "new"}
	route: default: {to: {a: 30, b: 70}, destination: {
		a: {version: "default", requestHeaders: set: "x-try": "new"}
		b: {version: "default", requestHeaders: set: "x-try": "old"}
	}}
}
mesh: gateway: edge: {port: http: number: 80, host: "*": route: {
	split: {to: {one: 25, two: 75}, requestHeaders: set: "x-side": "none", destination: {
		one: {service: "app", version: "v1", requestHeaders: set: {"x-side": "one", "x-forwarded-for": "192.0.2.7"}}
		two: {service: "app", version: "v1", requestHeaders: add: "x-two": "2", responseHeaders: set: "x-two": "2"}
	}}
	lone: {match: path: prefix: "/lone", to: one: 100, destination: one: {service: "app", requestHeaders: {set: "x-try": "gateway", add: "x-line": "gateway"}}}
	ask: {match: path: prefix: "/ask", to: "asks": 100}
	asks: {match: path: prefix: "/let", to: {yes: 40, no: 60}, destination: {
		yes: {service: "plain", requestHeaders: set: "x-try": "new"}
		no: {service: "plain", requestHeaders: remove: ["x-try"]}
	}}
}}
mesh: service: plain: {port: http: number: 80, grant: new: {mesh: true, headers: "x-try": exact: "new"}}
`)
	debug := []compiler.Header{{Name: "x-debug", Value: "1"}, {Name: "x-try", Value: "own"}, {Name: "x-line", Value: "own"}}
	for name, c := range map[string]struct {
		ask   compiler.Request
		share float64 // of answers in which what is a share is so
		is    func(trial) bool
	}{
		"versions":                {compiler.Request{From: "shop/web", To: "shop/app", Headers: debug}, 0.5, reached("shop/app/http/v2")},
		"one version twice":       {compiler.Request{To: "gateway/shop/edge"}, 0.25, saw("x-side", "one")},
		"through a gateway":       {compiler.Request{To: "gateway/shop/edge", Path: "/lone", Headers: debug}, 0.5, saw("x-try", "next")},
		"a grant's header":        {compiler.Request{From: "shop/web", To: "shop/asks"}, 0.3, reached("shop/asks/http/default")},
		"the same from a gateway": {compiler.Request{To: "gateway/shop/edge", Path: "/ask"}, 0.3, reached("shop/asks/http/default")},
		"a gateway's own":         {compiler.Request{To: "gateway/shop/edge", Path: "/let"}, 0.4, reached("shop/plain/http/default")},
	} {
		t.Run(name, func(t *testing.T) {
			got := 0
			for _, x := range try(t, realEnvoy(t), p, slices.Repeat([]compiler.Request{c.ask}, n)) {
				if x.differs != "" {
					t.Fatalf("%+v: %s", x.got, x.differs)
				}
				if c.is(x) {
					got++
				}
			}
			if want := c.share * n; math.Abs(float64(got)-want) > 5*math.Sqrt(want*(1-c.share)) {
				t.Errorf("%d of %d, want a share of %.2f", got, n, c.share)
			}
			t.Logf("%s: %d of %d", name, got, n)
		})
	}
}

func reached(target string) func(trial) bool {
	return func(x trial) bool { return x.got.Seen != nil && x.got.Seen.Target == target }
}

func saw(header, value string) func(trial) bool {
	return func(x trial) bool {
		return x.got.Seen != nil && fmt.Sprint(x.got.Seen.Headers[header]) == fmt.Sprint([]string{value})
	}
}
