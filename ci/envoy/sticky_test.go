package envoy

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"meshc.dev/meshc/compiler"
)

// Whoever is known again comes to the destination that he had, through each proxy, and of many each
// destination has its share, give or take what chance allows, as in TestSharesAreKept. A share that grows
// keeps whom it had.
func TestCallersComeBackToTheirDestination(t *testing.T) {
	const callers, often = 200, 3
	mesh := func(at int) *compiler.Program {
		return shop(t, fmt.Sprintf(`
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: service: app: {
	port: http: number: 80
	grant: all: mesh: true
	version: {v1: {}, v2: {}}
	route: {
		by: {match: path: prefix: "/by", canary: {stable: "v1", candidate: "v2", steps: [10, 30], at: %d}, sticky: header: "X-User"}
		kept: {match: path: prefix: "/kept", to: {v1: 50, v2: 50}, sticky: cookie: {name: "side", ttl: "60s"}}
		rest: {priority: -1, to: {v1: 50, v2: 50}}
	}
}
mesh: service: other: {port: http: number: 80, grant: all: mesh: true}
mesh: gateway: edge: {port: http: number: 80, host: "*": route: {
	two: {match: path: prefix: "/two", to: {"plain": 60, "other": 40}, sticky: cookie: name: "which"}
	rest: {priority: -1, to: app: 100}
}}
mesh: service: plain: {port: http: number: 80, grant: all: mesh: true}
`, at))
	}
	user := func(i int) compiler.Header { return compiler.Header{Name: "x-user", Value: fmt.Sprint("user-", i)} }
	var asks []compiler.Request
	for i := range callers {
		for range often {
			asks = append(asks, compiler.Request{From: "shop/web", To: "shop/app", Path: "/by/a", Headers: []compiler.Header{user(i)}})
		}
		asks = append(asks, compiler.Request{To: "gateway/shop/edge", Path: "/by/a", Headers: []compiler.Header{user(i)}})
	}
	had := map[string]bool{} // who came to the candidate
	for _, at := range []int{10, 30} {
		now, where := map[string]bool{}, map[string]string{}
		for _, x := range try(t, realEnvoy(t), mesh(at), asks) {
			if x.differs != "" || x.got.Seen == nil {
				t.Fatalf("%+v: %s", x.got, x.differs)
			}
			who := x.request.Headers[0].Value
			if before, ok := where[who]; ok && before != x.got.Seen.Target {
				t.Fatalf("%s came to %s and then to %s", who, before, x.got.Seen.Target)
			}
			if where[who] = x.got.Seen.Target; x.got.Seen.Target == "shop/app/http/v2" {
				now[who] = true
			}
		}
		want := float64(at) / 100 * callers
		if math.Abs(float64(len(now))-want) > 5*math.Sqrt(want) {
			t.Errorf("at %d, %d of %d come to the candidate", at, len(now), callers)
		}
		for who := range had {
			if !now[who] {
				t.Errorf("%s had the candidate at 10 and has it at 30 no more", who)
			}
		}
		t.Logf("at %d: %d of %d", at, len(now), callers)
		had = now
	}
}

// A proxy that knows nobody sets the cookie, and whoever brings it back comes to the destination that he had.
func TestCookieLeadsBack(t *testing.T) {
	p := shop(t, `
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: service: app: {
	port: http: number: 80
	grant: all: mesh: true
	version: {v1: {}, v2: {}, v3: {}}
	route: kept: {to: {v1: 40, v2: 40, v3: 20}, sticky: cookie: {name: "side", ttl: "60s"}}
}
mesh: gateway: edge: {port: http: number: 80, host: "*": route: {
	two: {match: path: prefix: "/two", to: {plain: 60, other: 40}, sticky: cookie: name: "which"}
	rest: {priority: -1, to: app: 100}
}}
mesh: service: plain: {port: http: number: 80, grant: all: mesh: true}
mesh: service: other: {port: http: number: 80, grant: all: mesh: true}
`)
	for name, c := range map[string]struct {
		ask    compiler.Request
		cookie string
		life   string
	}{
		"a caller":                {compiler.Request{From: "shop/web", To: "shop/app"}, "side", "Max-Age=60"},
		"a visitor":               {compiler.Request{To: "gateway/shop/edge"}, "side", "Max-Age=60"},
		"at a gateway of its own": {compiler.Request{To: "gateway/shop/edge", Path: "/two"}, "which", ""},
	} {
		t.Run(name, func(t *testing.T) {
			first := try(t, realEnvoy(t), p, slices.Repeat([]compiler.Request{c.ask}, 12))
			var again []compiler.Request
			var want []string
			for _, x := range first {
				lines := x.got.Headers["set-cookie"]
				if x.differs != "" || x.got.Seen == nil || len(lines) != 1 {
					t.Fatalf("%+v: %s", x.got, x.differs)
				}
				pair, attributes, _ := strings.Cut(lines[0], ";")
				if !strings.HasPrefix(pair, c.cookie+"=") || !strings.Contains(attributes, "Path=/") || !strings.Contains(attributes, "HttpOnly") || !strings.Contains(attributes, c.life) || c.life == "" && strings.Contains(attributes, "Max-Age") {
					t.Fatalf("set-cookie: %q", lines)
				}
				r := c.ask
				r.Headers = []compiler.Header{{Name: "cookie", Value: "a=b; " + pair}}
				for range 4 {
					again, want = append(again, r), append(want, x.got.Seen.Target)
				}
			}
			for i, x := range try(t, realEnvoy(t), p, again) {
				if x.got.Seen == nil || x.got.Seen.Target != want[i] || len(x.got.Headers["set-cookie"]) > 0 {
					t.Errorf("who had %s: %+v", want[i], x.got)
				}
			}
			slices.Sort(want)
			t.Log(slices.Compact(want))
		})
	}
}
