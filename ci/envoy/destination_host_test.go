package envoy

import (
	"slices"
	"testing"

	"meshc.dev/meshc/compiler"
)

// A destination is asked by its own host: shares of one route by different ones, grants see that host, and what is
// written last on the way holds.
func TestDestinationsAreAskedByTheirHosts(t *testing.T) {
	p := shop(t, `
mesh: service: web: {port: http: number: 80, calls: cart: {}}
mesh: service: cart: {
	port: http: number: 80
	version: {v1: {}, v2: {}}
	grant: named: {from: ["web", "gateway/edge"], hosts: ["cart.shop", "cart.example", "next.example", "old.example"]}
	route: {
		halves: {match: path: prefix: "/halves", to: {old: 50, new: 50}, rewrite: path: "/both", destination: {old: version: "v1", new: {version: "v2", host: "next.example"}}}
		moved: {match: path: prefix: "/moved", rewrite: host: "old.example", to: v1: 100}
		default: to: v1: 100
	}
}
mesh: gateway: edge: {port: http: number: 80, host: "x.example": route: {
	moved: {match: path: prefix: "/cart", to: one: 100, destination: one: {service: "cart", host: "cart.example"}, rewrite: prefix: "/moved"}
	named: {match: path: prefix: "/named", to: one: 100, destination: one: {service: "cart", host: "cart.example"}}
	all: to: cart: 100
}}
`)
	for name, c := range map[string]struct {
		ask   compiler.Request
		hosts map[string]string // by target; none is a refusal
	}{
		"shares":      {compiler.Request{From: "shop/web", To: "shop/cart", Path: "/halves", Host: "cart.shop"}, map[string]string{"shop/cart/http/v1": "cart.shop", "shop/cart/http/v2": "next.example"}},
		"a gateway's": {compiler.Request{To: "gateway/shop/edge", Path: "/named", Host: "x.example"}, map[string]string{"shop/cart/http/v1": "cart.example"}},
		"the last":    {compiler.Request{To: "gateway/shop/edge", Path: "/cart", Host: "x.example"}, map[string]string{"shop/cart/http/v1": "old.example"}},
		"none":        {compiler.Request{To: "gateway/shop/edge", Path: "/", Host: "x.example"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			met := map[string]bool{}
			for _, x := range try(t, realEnvoy(t), p, slices.Repeat([]compiler.Request{c.ask}, 20)) {
				switch {
				case x.differs != "":
					t.Fatalf("%+v: %s", x.got, x.differs)
				case c.hosts == nil && x.got.Status != 403:
					t.Errorf("%+v", x.got)
				case c.hosts != nil && (x.got.Seen == nil || x.got.Seen.Host != c.hosts[x.got.Seen.Target]):
					t.Errorf("%+v", x.got)
				case c.hosts != nil:
					met[x.got.Seen.Target] = true
				}
			}
			if len(met) != len(c.hosts) {
				t.Errorf("%v were reached", met)
			}
		})
	}
}
