package envoy

import (
	"strings"
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

// What a script answers by itself is told as its answer; what it does not answer is held against the evaluator as ever.
func TestTestsTellWhatScriptsAnswer(t *testing.T) {
	bin := realEnvoy(t)
	p := shop(t, `mesh: service: {
	web: {port: http: number: 80, calls: {tea: {}, plain: {}}}
	tea: {port: http: number: 80, grant: web: from: ["web"], lua: pot: {owner: "shop", code: "function envoy_on_request(h) if h:headers():get(':path') == '/tea' then h:respond({[':status'] = '418'}, 'short') end end"}}
	plain: {port: http: number: 80, grant: web: from: ["web"], lua: quiet: {owner: "shop", code: "function envoy_on_request(h) h:headers():get('x-a') end"}}
}
mesh: gateway: edge: {port: http: number: 80, host: "shop.example": route: old: {match: methods: ["GET"], redirect: host: "new.example"
	lua: pot: {owner: "shop", code: "function envoy_on_request(h) if h:headers():get(':path') == '/tea' then h:respond({[':status'] = '418'}, 'short') end end"}}}
mesh: test: {
	tea: {request: {from: "web", to: "tea", path: "/tea"}, expect: allowed: true}
	coffee: {request: {from: "web", to: "tea", path: "/coffee"}, expect: allowed: true}
	plain: {request: {from: "web", to: "plain", path: "/tea"}, expect: allowed: true}
	"tea at the edge": {request: {to: "gateway/edge", host: "shop.example", path: "/tea"}, expect: status: 302}
	"coffee at the edge": {request: {to: "gateway/edge", host: "shop.example", path: "/coffee"}, expect: status: 302}
}`)
	trials, err := rehearsal.Tests(t.Context(), bin, p, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range trials {
		said := ""
		if strings.HasPrefix(x.Name, "tea") {
			said = `lua "pot" may answer by itself, and there was an answer of a proxy's: 418 (short)`
		}
		if x.Reply == nil || x.Differs != "" || x.Untried != "" || x.Said != said {
			t.Errorf("%+v", x)
		}
	}
}

// What others see of a request is as tests expect it: headers at the application and at the caller, of the host, the
// route and what is behind it, and copies where they are let in and nowhere else.
func TestTestsSeeHeadersAndCopies(t *testing.T) {
	bin := realEnvoy(t)
	p := shop(t, `mesh: service: {
	web: {
		port: http: number: 80, version: {v1: {}, v2: {}}
		grant: edge: mesh: true
		route: {
			split: {match: path: prefix: "/split", to: {a: 50, b: 50}, responseHeaders: remove: ["x-app"]
				destination: {a: {version: "v1", requestHeaders: set: "x-of": "a"}, b: {version: "v2", requestHeaders: set: "x-of": "ab"}}}
			default: {to: v1: 100, mirror: {audit: {}, closed: {}, shadow: {}}, destination: shadow: version: "v2"
				requestHeaders: {set: "x-step": "web", remove: ["x-debug"]}, responseHeaders: {remove: ["x-app"], add: "x-app-two": "third"}}
		}
	}
	audit: {port: http: number: 80, grant: all: {mesh: true, methods: ["GET"]}}
	closed: {port: http: number: 80, grant: door: from: ["audit"]}
}
mesh: gateway: edge: {port: http: number: 80, host: "shop.example": route: {
	maintained: {match: path: exact: "/away", respond: {status: 503, body: "later"}, responseHeaders: set: "retry-after": "60"}
	all: {to: web: 100, requestHeaders: add: "x-step": "edge"}
}}
mesh: test: {
	headers: {
		request: {to: "gateway/edge", host: "shop.example", headers: "x-debug": "1"}
		expect: {requestHeaders: {"x-step": exact: "web"}, responseHeaders: "x-app-two": {exact: "THIRD", ignoreCase: true}
			not: {requestHeaders: {"x-debug": present: true, "x-step": exact: "edge"}, responseHeaders: "x-app": present: true}}
	}
	parts: {request: {to: "gateway/edge", host: "shop.example", path: "/split"}, expect: requestHeaders: {"x-of": prefix: "a", "x-step": exact: "edge"}}
	answered: {request: {to: "gateway/edge", host: "shop.example", path: "/away"}, expect: {responseHeaders: "retry-after": exact: "60", not: mirror: audit: {}}}
	copies: {request: {to: "gateway/edge", host: "shop.example"}
		expect: {mirror: {audit: {port: "http", version: "default"}, shadow: {service: "web", version: "v2"}}, not: mirror: {closed: {}, first: {service: "web", version: "v1"}}}}
	written: {request: {to: "gateway/edge", host: "shop.example", method: "POST"}, expect: {mirror: shadow: service: "web", not: mirror: audit: {}}}
}`)
	for _, r := range p.Test() {
		if r.Failure != "" {
			t.Errorf("%s: %s", r.Name, r.Failure)
		}
	}
	trials, err := rehearsal.Tests(t.Context(), bin, p, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if len(trials) != 5 {
		t.Fatalf("%d trials", len(trials))
	}
	for _, x := range trials {
		if x.Reply == nil || x.Differs != "" {
			t.Errorf("%+v", x)
		}
	}
}
