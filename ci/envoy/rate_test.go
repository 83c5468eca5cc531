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
	a: {port: http: number: 8080, calls: {each: {}, tenant: {}, ways: {}, paths: {}, seen: {}}}
	b: {port: http: number: 8080, calls: {each: {}, tenant: {}, ways: {}, paths: {}, seen: {}}}
	each: {port: http: number: 80, grant: all: mesh: true, rateLimit: each: `+limit(`identity: true`)+`}
	tenant: {port: http: number: 80, grant: all: mesh: true, rateLimit: {each: `+limit(`headers: ["X-Tenant"]`)+`, all: {requests: 5, per: "1h", status: 503}}}
	ways: {port: http: number: 80, grant: all: mesh: true, rateLimit: each: `+limit(`{identity: true, method: true}`)+`}
	paths: {port: http: number: 80, grant: all: mesh: true, rateLimit: each: `+limit(`{path: true, headers: ["x-tenant", "x-app"]}`)+`}
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
		for _, to := range []string{"shop/each", "shop/tenant", "shop/ways", "shop/paths", "shop/seen"} {
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

		// A path is as it is normalised, whatever it asks for; what is without a header is without it whatever the other says.
		{from: "shop/a", to: "shop/paths", path: "/x?q=1", want: 200}, {from: "shop/b", to: "shop/paths", path: "/y/../x", want: 200}, {from: "shop/b", to: "shop/paths", path: "//x", want: 429},
		{from: "shop/b", to: "shop/paths", path: "/x?q=2", want: 429}, {from: "shop/b", to: "shop/paths", path: "/y", want: 200}, {from: "shop/b", to: "shop/paths", path: "/x", headers: tenant("one"), want: 200},
		{from: "shop/b", to: "shop/paths", path: "/x", headers: []compiler.Header{{Name: "x-app", Value: "one"}}, want: 200},
		{from: "shop/b", to: "shop/paths", path: "/x", headers: append(tenant("one"), compiler.Header{Name: "x-app", Value: "one"}), want: 200},
		{from: "shop/b", to: "shop/paths", path: "/x", headers: tenant("one"), want: 200}, {from: "shop/b", to: "shop/paths", path: "/x", headers: tenant("one"), want: 429},

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

// A limit for some requests counts them in every spelling that an application may take for them, and counts nothing else;
// what it leaves out it leaves out as it is written.
func TestRateIsLimitedOfSomeRequests(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	p := shop(t, `
mesh: service: {
	a: {port: http: number: 8080, calls: {app: {}, each: {}}}
	b: {port: http: number: 8080, calls: {app: {}, each: {}}}
	app: {port: http: number: 80, grant: all: mesh: true, rateLimit: {
		login: {requests: 2, per: "1h", paths: ["/login", "/login/*"], methods: ["GET", "POST"], not: paths: ["/login/style"]}
		all: {requests: 15, per: "1h", status: 503}
	}}
	each: {port: http: number: 80, grant: all: mesh: true, rateLimit: one: {requests: 1, per: "1h", paths: ["/dear"], by: identity: true}}
	web: {port: http: number: 80, grant: all: mesh: true}
}
mesh: gateway: edge: {port: http: number: 80, host: "shop.test": {
	rateLimit: writes: {requests: 1, per: "1h", methods: ["POST"], not: paths: ["/hooks/*"]}
	route: {
		moved: {match: path: prefix: "/moved", to: web: 100, rewrite: prefix: "/hooks"}
		all: to: web: 100
	}
}}
`)
	doors := []compiler.Request{{From: "shop/a", To: "shop/app"}, {From: "shop/a", To: "shop/each"}, {From: "shop/b", To: "shop/each"}, {To: "gateway/shop/edge", Host: "shop.test"}}
	reh, stage := stageOf(ctx, t, p, doors)
	const app, each, other, edge = 0, 1, 2, 3
	for i, c := range []struct {
		door         int
		method, path string
		want         int
	}{
		{app, "", "/", 200}, {app, "", "/", 200}, {app, "", "/", 200}, // of which the limit says nothing
		{app, "PUT", "/login", 200}, {app, "", "/login/style", 200}, {app, "", "/loginpage", 200},
		{app, "", "/login", 200}, {app, "POST", "/login/now?then=1", 200}, {app, "", "/login", 429},
		// No spelling is a way around, nor is the method that asks for the same without its body.
		{app, "", "/%6cogin", 429}, {app, "", "/LOGIN", 429}, {app, "HEAD", "/login", 429}, {app, "", "//login", 429}, {app, "", "/login/", 429}, {app, "", "/login?x=/login/style", 429}, {app, "", "/login/STYLE", 429},
		{app, "", "/login/style", 200}, {app, "", "/", 200},
		// What one limit refused took nothing of the other, which ten have passed.
		{app, "", "/", 200}, {app, "", "/", 200}, {app, "", "/", 200}, {app, "", "/", 200}, {app, "", "/", 200}, {app, "", "/", 503}, {app, "OPTIONS", "/", 503},

		{each, "", "/dear", 200}, {each, "", "/dear", 429}, {each, "", "/cheap", 200}, {other, "", "/dear", 200}, {other, "", "/dear", 429},

		{edge, "", "/", 200}, {edge, "POST", "/hooks/one", 200}, {edge, "POST", "/hooks/two", 200},
		{edge, "POST", "/", 200}, {edge, "POST", "/", 429}, {edge, "", "/", 200}, {edge, "POST", "/hooks/three", 200},
		// A gateway counts requests as they come, whatever its route makes of them, and each route by itself.
		{edge, "POST", "/moved", 200}, {edge, "POST", "/moved", 429},
	} {
		r := compiler.Request{Method: c.method, Path: c.path}
		if c.door == edge {
			r.Host = "shop.test"
		}
		got, err := stage.Ask(ctx, reh.Doors[c.door], r)
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

// Who has shown a token is counted by what it says, at a gateway and at a service; who has shown none, or one that says no
// text there, counts with all of those.
func TestRateIsLimitedByWhatTokensSay(t *testing.T) {
	id := newSigner(t)
	limit := func(claims string) string {
		return `rateLimit: each: {requests: 2, per: "1h", by: claims: corp: ` + claims + `}`
	}
	p := shop(t, `
mesh: jwt: corp: {issuer: "https://id.example", audiences: ["shop"], keys: inline: `+id.keys()+`}
mesh: service: app: {port: http: number: 80, grant: all: mesh: true, users: corp: {}, `+limit(`["sub", "groups.main"]`)+`}
mesh: service: free: {port: http: number: 80, grant: all: mesh: true}
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: gateway: edge: {port: http: number: 80, host: "a.test": {users: corp: {}, `+limit(`["sub"]`)+`, route: all: to: free: 100}}
`)
	reh, stage := stageOf(t.Context(), t, p, []compiler.Request{{From: "shop/web", To: "shop/app"}, {To: "gateway/shop/edge", Host: "a.test"}})
	jason, mary := id.token(nil), id.token(map[string]any{"sub": "mary"})
	other, list, none := id.token(map[string]any{"groups": map[string]any{"main": "guests"}}), id.token(map[string]any{"groups": map[string]any{"main": []string{"staff"}}}), id.token(map[string]any{"groups": nil})
	for i, c := range []struct {
		door  int
		token string
		want  int
	}{
		{0, jason, 200}, {0, jason, 200}, {0, jason, 429}, {0, mary, 200}, {0, other, 200}, {0, list, 200}, {0, none, 200}, {0, list, 429}, {0, none, 429},
		{0, "", 200}, {0, "", 200}, {0, "", 429}, {0, other, 200}, {0, other, 429},
		{1, jason, 200}, {1, other, 200}, {1, jason, 429}, {1, mary, 200}, {1, "", 200}, {1, "", 200}, {1, "", 429},
	} {
		r := compiler.Request{Host: map[int]string{1: "a.test"}[c.door]}
		if c.token != "" {
			r.Headers = []compiler.Header{{Name: "authorization", Value: "Bearer " + c.token}}
		}
		got, err := stage.Ask(t.Context(), reh.Doors[c.door], r)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != c.want {
			t.Errorf("request %d, %+v: %d %s, want %d", i, c, got.Status, got.Text, c.want)
		}
	}
}
