package envoy

import (
	"math"
	"slices"
	"testing"

	"meshc.dev/meshc/compiler"
)

// A service's route leads to another service: shares of its requests, all of some, on by that one's own routes, and
// over a second one. Whoever is called in the end asks who has called first, whose own proxy does all of the choosing.
// What arrives is compared with the evaluator; here shares are.
func TestRoutesLeadToOtherServices(t *testing.T) {
	const n = 200
	p := shop(t, `
mesh: service: web: {port: http: number: 80, calls: {app: {}, pages: {}}}
mesh: service: till: {port: http: number: 80, calls: app: {}}
mesh: service: app: {
	port: http: number: 80
	grant: all: mesh: true
	version: {v1: {}, v2: {}}
	route: {
		v2: {match: path: prefix: "/v2", rewrite: prefix: "/", to: next: 100, destination: next: {service: "next", requestHeaders: set: "x-way": "v2"}}
		v3: {match: path: prefix: "/v3", to: next: 100, destination: next: {service: "next", version: "b"}}
		far: {match: path: prefix: "/far", to: far: 100, destination: far: service: "far", requestHeaders: add: "x-by": "app"}
		default: {to: {v1: 90, new: 10}, destination: new: {service: "new", requestHeaders: set: "x-new": "1"}}
	}
}
mesh: service: next: {
	port: {http: {number: 80, protocol: "http2", main: true}, admin: number: 81}
	version: {a: {}, b: {}}
	grant: web: {from: ["web", "gateway/edge"], ports: ["http"], paths: ["/items/*", "/v3/*"]}
	route: {
		items: {match: path: prefix: "/items", to: {a: 75, b: 25}, requestHeaders: add: "x-by": "next", responseHeaders: set: "x-back": "next"}
		v3: {match: path: prefix: "/v3", to: a: 100}
		old: {match: path: exact: "/old", redirect: path: "/items"}
	}
}
mesh: service: new: {port: http: number: 80, grant: web: from: ["web", "gateway/edge"]}
mesh: service: far: {port: http: number: 80, route: default: {to: {default: 50, on: 50}, requestHeaders: add: "x-by": "far", destination: on: service: "new"}, grant: web: from: ["web", "gateway/edge"]}
mesh: service: pages: {port: http: number: 80, grant: all: mesh: true, route: all: {to: app: 100, destination: app: service: "app"}}
mesh: gateway: edge: {port: http: number: 80, host: "*": route: all: to: app: 100}
`)
	for name, c := range map[string]struct {
		ask   compiler.Request
		share float64 // of answers in which what is a share is so
		is    func(trial) bool
	}{
		"a tenth":                     {compiler.Request{From: "shop/web", To: "shop/app"}, 0.1, reached("shop/new/http/default")},
		"a tenth has a header":        {compiler.Request{From: "shop/web", To: "shop/app"}, 0.1, saw("x-new", "1")},
		"a tenth is refused":          {compiler.Request{From: "shop/till", To: "shop/app"}, 0.1, func(x trial) bool { return x.got.Status == 403 }},
		"by its routes":               {compiler.Request{From: "shop/web", To: "shop/app", Path: "/v2/items/1"}, 0.25, reached("shop/next/http/b")},
		"with the edits on the way":   {compiler.Request{From: "shop/web", To: "shop/app", Path: "/v2/items/1"}, 1, saw("x-way", "v2")},
		"refused there":               {compiler.Request{From: "shop/till", To: "shop/app", Path: "/v2/items/1"}, 1, func(x trial) bool { return x.got.Status == 403 }},
		"redirected by its route":     {compiler.Request{From: "shop/till", To: "shop/app", Path: "/v2/old"}, 1, func(x trial) bool { return x.got.Status == 301 }},
		"none of its routes takes it": {compiler.Request{From: "shop/web", To: "shop/app", Path: "/v2/else"}, 1, func(x trial) bool { return x.got.Status == 404 }},
		"to a named version":          {compiler.Request{From: "shop/web", To: "shop/app", Path: "/v3/x"}, 1, reached("shop/next/http/b")},
		"over a second one":           {compiler.Request{From: "shop/web", To: "shop/app", Path: "/far"}, 0.5, reached("shop/new/http/default")},
		"from a third one":            {compiler.Request{From: "shop/web", To: "shop/pages"}, 0.1, reached("shop/new/http/default")},
		"a third one by its routes":   {compiler.Request{From: "shop/web", To: "shop/pages", Path: "/v2/items/1"}, 0.25, reached("shop/next/http/b")},
		"through a gateway":           {compiler.Request{To: "gateway/shop/edge"}, 0.1, reached("shop/new/http/default")},
		"through one by its routes":   {compiler.Request{To: "gateway/shop/edge", Path: "/v2/items/1"}, 0.25, reached("shop/next/http/b")},
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
		})
	}
}
