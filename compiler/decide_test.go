package compiler_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
)

func TestAnswersInWords(t *testing.T) {
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	p, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `
mesh: namespace: "shop"
let F = {owner: "ops", reason: "test", until: "2030-01-01T00:00:00Z"}
mesh: service: app: {
	port: http: number: 80
	grant: all: {mesh: true, methods: ["GET"]}
	route: {
		all: to: default: 100
		some: {match: path: exact: "/some", to: default: 100, fault: {F, abort: {status: 503, percent: 5}}}
		broken: {match: path: exact: "/broken", to: default: 100, fault: {F, abort: {status: 503, percent: 100}}}
		off: {match: path: exact: "/off", to: default: 100, fault: {F, abort: {status: 503, percent: 0}}}
		moved: {match: path: exact: "/moved", redirect: path: "/"}
	}
}
mesh: gateway: edge: {port: http: number: 80, host: "a.test": route: all: to: app: 100}
`)},
	}, compiler.Options{At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	const there = "forwarded to shop/app/http/default 100%"
	for _, c := range []struct {
		r      compiler.Request
		want   string
		status int
	}{
		{compiler.Request{From: "app", To: "app", Path: "/a"}, there, 0},
		{compiler.Request{From: "app", To: "app", Path: "/off"}, there, 0},
		{compiler.Request{From: "app", To: "app", Path: "/some"}, there + "; 5% of such requests are broken off by the fault (503)", 0},
		{compiler.Request{From: "app", To: "app", Path: "/broken"}, "broken off by the fault (503)", 503},
		{compiler.Request{From: "app", To: "app", Path: "/moved"}, "redirected", 301},
		{compiler.Request{From: "app", To: "app", Method: "POST"}, "denied (403)", 403},
		{compiler.Request{From: "app", To: "app", Path: "/a%2fb"}, "answered by the caller's own proxy: 400, the path can be read in two ways, or is none", 400},
		{compiler.Request{From: "app", To: "app", Path: "/a/%2e%2e;/b"}, "answered by the caller's own proxy: 400, the next proxy would read the path in another way", 400},
		{compiler.Request{From: "app", To: "app", Path: "/a", Headers: []compiler.Header{{Name: "Content-Length", Value: "999999999999999999"}}}, there, 0},
		{compiler.Request{From: "app", To: "app", Path: "/a", Headers: []compiler.Header{{Name: "Content-Length", Value: "1000000000000000000"}}}, "answered by the caller's own proxy: 400, the length is none, or too long for HTTP/2", 400},
		{compiler.Request{To: "gateway/edge", Host: "a.test:80"}, there, 0},
		{compiler.Request{To: "gateway/edge", Host: "a.test", Headers: []compiler.Header{{Name: "x_a", Value: "1"}}}, "answered by the gateway's proxy: 400, x_a and its spelling with dashes are one header to many applications", 400},
	} {
		a, err := p.Decide(c.r)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Words(); got != c.want || a.Status != c.status {
			t.Errorf("%+v: %q with status %d, want %q with %d", c.r, got, a.Status, c.want, c.status)
		}
	}
}

// TestTestsLookAtWhatArrives: expectations of a path and a host are about the request as the
// callee gets it, whether its grants let it through or not.
// With transparent capture a caller's proxy tells services apart by the host (ci/pods asks real ones).
func TestServicesAreCalledByTheirNames(t *testing.T) {
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	files := fstest.MapFS{
		"mesh.cue":                           {Data: []byte("package mesh\n" + head + `mesh: environment: {prod: {}, local: capture: "explicit"}` + "\n")},
		"shop/shop.cue":                      {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"` + "\n" + `mesh: service: web: {port: http: number: 80, calls: echo: {}}` + "\n" + `mesh: service: echo: {port: http: number: 80, grant: all: anyone: true}` + "\n")},
		"other/other.cue":                    {Data: []byte("package other\n" + head + `mesh: namespace: "other"` + "\n" + `mesh: service: far: {port: http: number: 80, calls: "shop/echo": {}}` + "\n")},
		"environments/local/shop/local.cue":  {Data: []byte("package shop\n" + head + `mesh: service: web: {version: default: port: http: {address: "127.0.0.1:15001", app: 15011}, calls: echo: local: 15101}` + "\n" + `mesh: service: echo: version: default: {port: http: {address: "127.0.0.1:15002", app: 15003}}` + "\n")},
		"environments/local/other/local.cue": {Data: []byte("package other\n" + head + `mesh: service: far: {version: default: port: http: {address: "127.0.0.1:15004", app: 15014}, calls: "shop/echo": local: 15102}` + "\n")},
	}
	const there, nowhere = "forward", "notFound"
	for _, c := range []struct{ from, host, want, explicit string }{
		{"shop/web", "", there, there}, {"shop/web", "echo", there, there}, {"shop/web", "ECHO:80", there, there}, {"shop/web", "echo.shop.", there, there},
		{"shop/web", "echo.shop.svc", there, there}, {"shop/web", "echo.shop.svc.cluster.local:8080", there, there},
		{"shop/web", "pod-0.echo.shop.svc.cluster.local", there, there}, {"shop/web", "10.0.0.1:80", there, there}, {"shop/web", "[fd00::1]:80", there, there},
		{"shop/web", "other.example", nowhere, there}, {"shop/web", "echo.other", nowhere, there}, {"shop/web", "xecho", nowhere, there}, {"shop/web", "web", nowhere, there},
		{"other/far", "echo.shop", there, there}, {"other/far", "echo", nowhere, there},
		{"", "other.example", "denied", "denied"}, // no proxy of ours, and strict mTLS
	} {
		for env, want := range map[string]string{"prod": c.want, "local": c.explicit} {
			p, ds := compiler.Load(files, compiler.Options{Environment: env, At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)})
			if err := ds.Err(); err != nil {
				t.Fatal(err)
			}
			r := compiler.Request{From: c.from, To: "shop/echo", Host: c.host}
			a, err := p.Decide(r)
			if err != nil || string(a.Outcome.Verdict) != want || want == nowhere && (a.Status != 404 || a.By != compiler.ByCaller) {
				t.Errorf("%s: %s to %q: %s by %q, %v; want %s", env, c.from, c.host, a.Words(), a.By, err, want)
			}
			can, err := p.CanI(r, compiler.Limits{})
			if err != nil || (can.Can == "no") != (want != there) {
				t.Errorf("%s: can %s ask %q: %s, %v", env, c.from, c.host, can.Can, err)
			}
			reh, err := p.Rehearse([]compiler.Request{r})
			_, byAddress := netip.ParseAddrPort(c.host)
			alone := env == "prod" && (byAddress == nil || c.from == "other/far" && c.host == "echo") // what one host does not tell apart
			if err != nil || (reh.Doors[0].Missing != "") != alone {
				t.Errorf("%s: rehearsing %s to %q: %+v, %v", env, c.from, c.host, reh.Doors, err)
			}
		}
	}
}

func TestTestsLookAtWhatArrives(t *testing.T) {
	const shop = `package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "shop"
mesh: service: web: {port: http: number: 8080, calls: cart: {}}
mesh: service: cart: {
	port: http: number: 8080
	route: {
		old: {match: path: prefix: "/old", rewrite: {prefix: "/new", host: "cart.internal"}, to: default: 100}
		gone: {match: path: prefix: "/gone", respond: status: 410}
		default: to: default: 100
	}
	grant: web: {from: ["web"], paths: ["/new/*"]}
}
mesh: test: {
	a: {request: {from: "web", to: "cart", path: "/old/1?q"}, expect: {allowed: true, path: "/new/1", host: "cart.internal"}}
	b: {request: {from: "web", to: "cart", path: "/old"}, expect: {allowed: false, path: "/new"}}
	c: {request: {from: "web", to: "cart", path: "/old/1"}, expect: path: "/old/1"}
	d: {request: {from: "web", to: "cart", path: "/new/1", host: "cart"}, expect: {path: "/new/1", host: "cart.internal"}}
	e: {request: {from: "web", to: "cart", path: "/gone"}, expect: path: "/gone"}
}
`
	p, ds := compiler.Load(fstest.MapFS{"mesh.cue": {Data: []byte(plainRoot)}, "shop/shop.cue": {Data: []byte(shop)}}, compiler.Options{At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	want := map[string]string{
		"a": "", "b": "",
		"c": "expected the path /old/1 to arrive, it is /new/1",
		"d": "expected the host cart.internal to arrive, it is cart",
		"e": "expected the path /gone to arrive, it is none: the request is answered by respond (410)",
	}
	for _, r := range p.Test() {
		if r.Failure != want[r.Name] {
			t.Errorf("%s: %q, want %q", r.Name, r.Failure, want[r.Name])
		}
	}
}

// TestTestsSeeHeadersAndCopies: what arrives, what comes back whatever the application says, and who gets copies and lets
// them in.
func TestTestsSeeHeadersAndCopies(t *testing.T) {
	const shop = `package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "shop"
mesh: service: web: {port: http: number: 8080, calls: {cart: {}, keeps: {}, pages: {}}}
mesh: service: pages: {port: http: number: 8080, cors: origins: ["https://shop.test"], grant: all: mesh: true, route: default: {to: default: 100, responseHeaders: remove: ["access-control-allow-origin", "access-control-expose-headers"]}}
mesh: service: keeps: {port: http: number: 8080, session: cookie: name: "s", grant: all: mesh: true, route: {gone: {match: path: prefix: "/gone", respond: status: 410}, default: {to: default: 100, responseHeaders: remove: ["set-cookie"]}}}
mesh: service: cart: {
	port: http: number: 8080
	version: {v1: {}, v2: {}}
	route: {
		gone: {match: path: prefix: "/gone", respond: status: 410, responseHeaders: set: "x-why": "sold"}
		split: {match: path: prefix: "/split", to: {a: 50, b: 50}, destination: {a: {version: "v1", requestHeaders: set: "x-of": "a"}, b: version: "v2"}}
		again: {match: path: prefix: "/again", to: {v1: 50, v2: 50}, sticky: cookie: name: "side", responseHeaders: {set: "set-cookie": "a=b", remove: ["x-d"]}}
		default: {to: v1: 100, mirror: {audit: percent: 1, closed: {}}, requestHeaders: {set: "x-a": "1", remove: ["x-b"]}, responseHeaders: {add: "x-c": "2", remove: ["x-d"]}}
	}
	grant: web: {from: ["web"], methods: ["GET"]}
}
mesh: service: audit: {port: {http: {number: 8080, main: true}, raw: number: 81}, grant: web: {from: ["web"], paths: ["/a/*"]}}
mesh: service: closed: {port: http: number: 8080, grant: cart: from: ["cart"]}
mesh: test: {
	a: {request: {from: "web", to: "cart", path: "/a/1", headers: "x-b": "1"}, expect: {requestHeaders: "x-a": exact: "1", responseHeaders: "x-c": exact: "2", mirror: audit: {}
		not: {requestHeaders: {"x-b": present: true, "x-a": exact: "2"}, responseHeaders: "x-d": present: true, mirror: {closed: {}, raw: {service: "audit", port: "raw"}}}}}
	b: {request: {from: "web", to: "cart"}, expect: requestHeaders: "x-a": exact: "2"}
	c: {request: {from: "web", to: "cart", headers: "x-e": "1"}, expect: not: requestHeaders: "x-e": present: true}
	d: {request: {from: "web", to: "cart", path: "/split"}, expect: requestHeaders: "x-of": present: true}
	e: {request: {from: "web", to: "cart", method: "POST"}, expect: requestHeaders: "x-a": exact: "1"}
	f: {request: {from: "web", to: "cart"}, expect: responseHeaders: "x-e": present: true}
	g: {request: {from: "web", to: "cart"}, expect: not: responseHeaders: "x-c": exact: "3"}
	h: {request: {from: "web", to: "cart"}, expect: mirror: audit: {}}
	i: {request: {from: "web", to: "cart", path: "/a/1"}, expect: not: mirror: copy: {service: "audit", version: "default"}}
	j: {request: {from: "web", to: "cart", path: "/gone"}, expect: responseHeaders: "x-why": exact: "broken"}
	k: {request: {from: "web", to: "cart", path: "/gone"}, expect: mirror: audit: port: "http"}
	l: {request: {from: "web", to: "cart", method: "POST"}, expect: responseHeaders: "x-c": exact: "2"}
	m: {request: {from: "web", to: "cart", path: "/again"}, expect: responseHeaders: "set-cookie": exact: "a=b"}
	n: {request: {from: "web", to: "cart", path: "/again"}, expect: not: responseHeaders: "x-d": present: true}
	o: {request: {from: "web", to: "keeps"}, expect: not: responseHeaders: "set-cookie": present: true}
	p: {request: {from: "web", to: "keeps", path: "/gone"}, expect: not: responseHeaders: "set-cookie": present: true}
	q: {request: {from: "web", to: "pages"}, expect: not: responseHeaders: "access-control-allow-origin": present: true}
	r: {request: {from: "web", to: "pages"}, expect: not: responseHeaders: "access-control-expose-headers": present: true}
}
`
	p, ds := compiler.Load(fstest.MapFS{"mesh.cue": {Data: []byte(plainRoot)}, "shop/shop.cue": {Data: []byte(shop)}}, compiler.Options{At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	const to = "copies go to shop/audit/http/default"
	const closed = "shop/closed/http/default, which lets none in"
	want := map[string]string{
		"a": "",
		"b": `expected the request to arrive at shop/cart/http/v1 with header x-a "2", it has "1"`,
		"c": `expected the request to arrive at shop/cart/http/v1 without header x-e, it has "1"`,
		"d": `expected the request to arrive at shop/cart/http/v2 with header x-of, it has none`,
		"e": `expected the request to arrive with header x-a "1", it is denied (403)`,
		"f": `expected an answer from shop/cart/http/v1 with header x-e whatever its application says, on the way back it gets none`,
		"g": `expected an answer from shop/cart/http/v1 with header x-c not "3" whatever its application says, on the way back it gets "2"`,
		"h": "expected a copy to arrive at shop/audit, " + to + ", which lets none in; " + closed,
		"i": "expected no copy to arrive at shop/audit version default, " + to + "; " + closed,
		"j": `expected an answer with header x-why "broken", it has "sold"`,
		"k": "expected a copy to arrive at shop/audit port http, there are none",
		"l": `expected an answer with header x-c "2", the request is denied (403), and no test knows the headers of such an answer`,
		"m": "what header \"set-cookie\" says at the caller is decided by a proxy as well (`cors`, `session`, `sticky`), and no test knows it",
		"n": "",
		"q": "what header \"access-control-allow-origin\" says at the caller is decided by a proxy as well (`cors`, `session`, `sticky`), and no test knows it",
		"r": "",
		"o": "what header \"set-cookie\" says at the caller is decided by a proxy as well (`cors`, `session`, `sticky`), and no test knows it",
		"p": "",
	}
	for _, r := range p.Test() {
		if r.Failure != want[r.Name] {
			t.Errorf("%s: %q, want %q", r.Name, r.Failure, want[r.Name])
		}
	}
}

// TestTestsSayWhoAnswers: an application, or one of the proxies before it.
func TestTestsSayWhoAnswers(t *testing.T) {
	const shop = `package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "shop"
mesh: certificate: {one: file: "one", two: file: "two"}
mesh: service: {
	web: {port: http: number: 8080, calls: {cart: {}, bank: {}}}
	cart: {
		port: http: number: 8080
		cors: origins: ["https://page.test"]
		route: {
			gone: {match: path: prefix: "/gone", respond: status: 410}
			broken: {match: path: prefix: "/broken", to: default: 100, fault: {abort: {status: 503, percent: 100}, owner: "ops", reason: "drill", until: "2030-01-01T00:00:00Z"}}
			default: {match: path: prefix: "/a", to: default: 100}
		}
		grant: all: {from: ["web", "gateway/edge"], methods: ["GET"]}
		deny: secret: {mesh: true, paths: ["/a/secret/*"]}
	}
}
mesh: external: bank: {port: http: number: 80, endpoints: dns: "bank.example:80"}
mesh: gateway: edge: {
	port: {http: number: 80, https: {number: 443, protocol: "https"}}
	host: {
		"one.test": {tls: certificates: ["one"], deny: inner: paths: ["/inner/*"], route: all: to: cart: 100}
		"two.test": {tls: certificates: ["two"], route: all: to: cart: 100}
	}
}
`
	tests := map[string]struct{ request, by string }{
		"get":        {`from: "web", to: "cart", path: "/a"`, "application"},
		"no grant":   {`from: "web", to: "cart", path: "/a", method: "POST"`, "callee"},
		"denied":     {`from: "web", to: "cart", path: "/a/secret/x"`, "callee"},
		"nobody":     {`to: "cart", path: "/a"`, "callee"},
		"no route":   {`from: "web", to: "cart", path: "/b"`, "caller"},
		"odd path":   {`from: "web", to: "cart", path: "/a%2fb"`, "caller"},
		"answered":   {`from: "web", to: "cart", path: "/gone"`, "caller"},
		"a fault":    {`from: "web", to: "cart", path: "/broken"`, "caller"},
		"preflight":  {`from: "web", to: "cart", path: "/a", method: "OPTIONS", headers: {origin: "https://page.test", "access-control-request-method": "GET"}`, "callee"},
		"old HTTP":   {`from: "web", to: "cart", path: "/a", http: "1.0"`, "caller"},
		"bank":       {`from: "web", to: "bank"`, "application"},
		"not called": {`from: "cart", to: "bank"`, "caller"},
		"edge":       {`to: "gateway/edge", host: "one.test", path: "/a"`, "application"},
		"at edge":    {`to: "gateway/edge", host: "one.test", path: "/inner/a"`, "gateway"},
		"behind it":  {`to: "gateway/edge", host: "one.test", path: "/a/secret/x", http: "2"`, "callee"},
		"plain":      {`to: "gateway/edge", port: "http", host: "one.test", path: "/a"`, "gateway"},
		"elsewhere":  {`to: "gateway/edge", host: "one.test", sni: "two.test", path: "/a"`, "gateway"},
		"same name":  {`to: "gateway/edge", host: "one.test", sni: "one.test", path: "/a"`, "application"},
		"no name":    {`to: "gateway/edge", host: "one.test", sni: "three.test", path: "/a"`, "gateway"},
	}
	var all strings.Builder
	for name, c := range tests {
		for _, by := range []string{"application", "callee", "caller", "gateway"} {
			fmt.Fprintf(&all, "mesh: test: %q: {request: {%s}, expect: by: %q}\n", name+": "+by, c.request, by)
		}
	}
	for name, status := range map[string]int{"get": 200, "a fault": 503, "answered": 410, "denied": 403, "old HTTP": 426} {
		fmt.Fprintf(&all, "mesh: test: %q: {request: {%s}, expect: {by: %q, status: %d}}\n", name+": "+tests[name].by+" ", tests[name].request, tests[name].by, status)
	}
	p, ds := compiler.Load(fstest.MapFS{"mesh.cue": {Data: []byte(plainRoot)}, "shop/shop.cue": {Data: []byte(shop + all.String())}}, compiler.Options{At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	if got := p.Test(); len(got) != 4*len(tests)+5 {
		t.Fatalf("%d results", len(got))
	}
	for _, r := range p.Test() {
		name, by, _ := strings.Cut(r.Name, ": ")
		if want := tests[name].by == strings.TrimSpace(by); want != (r.Failure == "") {
			t.Errorf("%s by %s: %q", name, by, r.Failure)
		}
	}
}
