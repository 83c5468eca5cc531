package envoy

import (
	"slices"
	"testing"
	"testing/fstest"

	"meshc.dev/meshc/compiler"
)

// What a gateway's host edits is done before its routes on the way there and behind them on the way back, for routes that
// another package attaches as well, which cannot take it back.
func TestHostsEditHeaders(t *testing.T) {
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	p, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head)},
		"edge/edge.cue": {Data: []byte("package edge\n" + head + `mesh: namespace: "edge"
mesh: delegate: shop: hosts: "x.example": paths: ["/shop/*"]
mesh: service: web: {port: http: number: 80, grant: edge: from: ["gateway/edge"], route: default: {to: default: 100, requestHeaders: add: "x-step": "web", responseHeaders: set: "x-by": "web"}}
mesh: gateway: edge: {port: http: number: 80, host: "x.example": {
	requestHeaders: {set: "x-step": "host", remove: ["x-debug"]}
	responseHeaders: {set: {"x-safe": "yes", location: "/elsewhere"}, remove: ["x-by", "x-app"]}
	route: {
		edited: {match: path: prefix: "/edited", to: web: 100, requestHeaders: add: {"x-step": "route", "x-debug": "route"}, responseHeaders: set: "x-by": "route"}
		shares: {match: path: prefix: "/shares", to: {a: 50, b: 50}, destination: {a: {service: "web", requestHeaders: set: "x-of": "a"}, b: {service: "web", responseHeaders: set: "x-safe": "no"}}}
		gone: {match: path: prefix: "/gone", redirect: host: "y.example"}
		away: {match: path: prefix: "/away", respond: status: 503, responseHeaders: set: "x-safe": "no"}
		all: {match: path: exact: "/", to: web: 100}
	}
}}
`)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"
mesh: service: cart: {port: http: number: 80, grant: edge: from: ["gateway/edge/edge"]}
mesh: attach: "edge/edge": host: "x.example": route: cart: {match: path: prefix: "/shop/cart", to: cart: 100, requestHeaders: add: "x-step": "cart", responseHeaders: set: "x-safe": "no"}
`)},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	for path, c := range map[string]struct {
		steps []string // x-step as it arrives, nil if nothing does
		debug []string
	}{
		"/edited":    {[]string{"host", "route", "web"}, []string{"route"}},
		"/shares":    {[]string{"host", "web"}, nil},
		"/":          {[]string{"host", "web"}, nil},
		"/shop/cart": {[]string{"host", "cart"}, nil},
		"/gone":      {},
		"/away":      {},
	} {
		t.Run(path, func(t *testing.T) {
			ask := compiler.Request{To: "gateway/edge/edge", Host: "x.example", Path: path, Headers: []compiler.Header{{Name: "x-step", Value: "forged"}, {Name: "x-debug", Value: "1"}}}
			for _, x := range try(t, realEnvoy(t), p, slices.Repeat([]compiler.Request{ask}, 8)) {
				if x.differs != "" {
					t.Fatalf("%+v: %s", x.got, x.differs)
				}
				if !slices.Equal(x.got.Headers["x-safe"], []string{"yes"}) || x.got.Headers["x-by"] != nil {
					t.Errorf("the answer has %v", x.got.Headers)
				}
				if (x.got.Seen != nil) != (c.steps != nil) {
					t.Fatalf("%+v", x.got)
				}
				if x.got.Seen != nil && (!slices.Equal(x.got.Seen.Headers["x-step"], c.steps) || !slices.Equal(x.got.Seen.Headers["x-debug"], c.debug)) {
					t.Errorf("%v arrived", x.got.Seen.Headers)
				}
				if path == "/gone" && !slices.Equal(x.got.Headers["location"], []string{"http://y.example/gone"}) {
					t.Errorf("led to %v", x.got.Headers["location"])
				}
			}
		})
	}
}
