package envoy

import (
	"testing"
	"time"

	"meshc.dev/meshc/internal/rehearsal"
)

// A test of a TCP port is asked of real Envoys, too: bytes have no path that an application could not read.
func TestTestsOfBytesAreAsked(t *testing.T) {
	bin := realEnvoy(t)
	p := shop(t, `mesh: service: {
	web: {port: http: number: 80, calls: db: {}}
	other: {port: http: number: 80, calls: db: {}}
	db: {port: raw: {number: 90, protocol: "tcp"}, grant: web: from: ["web"]}
}
mesh: test: {
	opens: {request: {from: "web", to: "db"}, expect: allowed: true}
	stays: {request: {from: "other", to: "db"}, expect: allowed: false}
}`)
	trials, err := rehearsal.Tests(t.Context(), bin, p, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if len(trials) != 2 {
		t.Fatalf("%d trials", len(trials))
	}
	for _, x := range trials {
		if x.Reply == nil || x.Differs != "" {
			t.Errorf("%+v", x)
		}
	}
}

// Where an authorizer is asked that admits nothing while it is away, no Envoy is; where one admits all, Envoys are asked,
// and remove the headers that it alone may set, on routes that do not ask it, too.
func TestTestsAreAskedWithoutAuthorizers(t *testing.T) {
	bin := realEnvoy(t)
	p := shop(t, `mesh: authorizer: {strict: {to: "opa", failOpen: false}, open: {to: "opa", failOpen: true, headers: sets: ["x-role"]}}
mesh: service: {
	opa: {port: grpc: {number: 90, protocol: "grpc"}, grant: asked: from: ["gateway/edge", "cart"]}
	web: {port: http: number: 80, calls: cart: {}, grant: edge: from: ["gateway/edge"]}
	cart: {port: http: number: 80, authorize: strict: {}, grant: web: from: ["web"]}
}
mesh: gateway: edge: {port: http: number: 80, host: "shop.example": route: {
	orders: {match: path: prefix: "/orders", to: web: 100, authorize: open: {}}
	rest: to: web: 100
}}
mesh: test: {
	asked: {request: {from: "web", to: "cart"}, expect: allowed: true}
	open: {request: {to: "gateway/edge", host: "shop.example", path: "/orders", headers: "x-role": "admin"}, expect: allowed: true}
	rest: {request: {to: "gateway/edge", host: "shop.example", path: "/", headers: "x-role": "admin"}, expect: allowed: true}
}`)
	trials, err := rehearsal.Tests(t.Context(), bin, p, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range trials {
		if (x.Untried != "") != (x.Name == "asked") || x.Differs != "" {
			t.Errorf("%+v", x)
		}
	}
}
