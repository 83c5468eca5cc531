package envoy

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
)

// Each of those by whom a limit counts has a bucket of its own, those without what it counts by
// have one together, and a limit that is only counted refuses nobody.
func TestRateIsLimitedByWhoAsks(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	limit := func(by string) string { return fmt.Sprintf(`{requests: 2, per: "1h", by: %s}`, by) }
	p := shop(t, `
mesh: service: {
	a: {port: http: number: 8080, calls: {each: {}, tenant: {}, ways: {}, seen: {}}}
	b: {port: http: number: 8080, calls: {each: {}, tenant: {}, ways: {}, seen: {}}}
	each: {port: http: number: 80, grant: all: mesh: true, rateLimit: each: `+limit(`identity: true`)+`}
	tenant: {port: http: number: 80, grant: all: mesh: true, rateLimit: {each: `+limit(`header: "X-Tenant"`)+`, all: {requests: 5, per: "1h", status: 503}}}
	ways: {port: http: number: 80, grant: all: mesh: true, rateLimit: each: `+limit(`{identity: true, method: true}`)+`}
	seen: {port: http: number: 80, grant: all: mesh: true, rateLimit: soon: {requests: 1, per: "1h", shadow: true}}
}
mesh: gateway: edge: {
	port: http: number: 80
	trustedHops: 1
	host: "shop.test": {
		rateLimit: each: `+limit(`client: true`)+`
		route: {
			free: {match: path: exact: "/free", to: seen: 100, rateLimit: other: {requests: 100, per: "1h"}}
			all: to: seen: 100
		}
	}
}
`)
	const edge = "gateway/shop/edge"
	var doors []compiler.Request
	at := map[[2]string]int{}
	for _, from := range []string{"shop/a", "shop/b"} {
		for _, to := range []string{"shop/each", "shop/tenant", "shop/ways", "shop/seen"} {
			at[[2]string{from, to}] = len(doors)
			doors = append(doors, compiler.Request{From: from, To: to})
		}
	}
	at[[2]string{"", edge}] = len(doors)
	doors = append(doors, compiler.Request{To: edge, Host: "shop.test"})
	reh, stage := stageOf(ctx, t, p, doors)
	for i, c := range []struct {
		from, to, method, path string
		headers                []compiler.Header
		want                   int
	}{
		{from: "shop/a", to: "shop/each", want: 200}, {from: "shop/a", to: "shop/each", want: 200}, {from: "shop/a", to: "shop/each", want: 429},
		{from: "shop/b", to: "shop/each", want: 200}, {from: "shop/b", to: "shop/each", want: 200}, {from: "shop/b", to: "shop/each", want: 429},
		{from: "shop/a", to: "shop/each", want: 429},

		{from: "shop/a", to: "shop/ways", want: 200}, {from: "shop/a", to: "shop/ways", want: 200}, {from: "shop/a", to: "shop/ways", want: 429},
		{from: "shop/a", to: "shop/ways", method: http.MethodPost, want: 200}, {from: "shop/b", to: "shop/ways", want: 200},

		{from: "shop/a", to: "shop/tenant", headers: tenant("one"), want: 200}, {from: "shop/a", to: "shop/tenant", headers: tenant("one"), want: 200},
		{from: "shop/b", to: "shop/tenant", headers: tenant("one"), want: 429}, {from: "shop/b", to: "shop/tenant", headers: tenant(""), want: 200},
		{from: "shop/b", to: "shop/tenant", want: 200}, {from: "shop/b", to: "shop/tenant", want: 200}, {from: "shop/b", to: "shop/tenant", want: 429},
		// All together are six by now, and five are let through whoever asks; what one limit refused took nothing of the other.
		{from: "shop/b", to: "shop/tenant", headers: tenant("two"), want: 503},

		{from: "shop/a", to: "shop/seen", want: 200}, {from: "shop/a", to: "shop/seen", want: 200}, {from: "shop/a", to: "shop/seen", want: 200},

		{to: edge, path: "/", headers: visitor("192.0.2.1"), want: 200}, {to: edge, path: "/", headers: visitor("192.0.2.1"), want: 200},
		{to: edge, path: "/", headers: visitor("192.0.2.1"), want: 429}, {to: edge, path: "/", headers: visitor("192.0.2.2"), want: 200},
		// Who writes somebody else's address before his own is still counted as what the balancer saw.
		{to: edge, path: "/", headers: visitor("192.0.2.9, 192.0.2.1"), want: 429},
		// A route's own takes the place of the host's.
		{to: edge, path: "/free", headers: visitor("192.0.2.1"), want: 200},
	} {
		r := compiler.Request{Method: c.method, Path: c.path, Headers: c.headers}
		if r.Path == "" {
			r.Path = "/"
		}
		if c.to == edge {
			r.Host = "shop.test"
		}
		got, err := stage.Ask(ctx, reh.Doors[at[[2]string{c.from, c.to}]], r)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != c.want {
			t.Errorf("request %d, %+v: %d, want %d", i, c, got.Status, c.want)
		}
	}
}

func tenant(name string) []compiler.Header { return []compiler.Header{{Name: "x-tenant", Value: name}} }

func visitor(addresses string) []compiler.Header {
	return []compiler.Header{{Name: "x-forwarded-for", Value: addresses}}
}
