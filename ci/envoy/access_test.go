package envoy

import (
	"context"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// asks is one caller's request, and what it is answered.
type asks struct {
	from, port string
	request    compiler.Request
	status     int // 0: the connection is closed
}

// admitting sends requests of several callers to the service app of a mesh and compares what comes back
// with what is expected, and with what the evaluator says.
func admitting(t *testing.T, mesh string, all []asks) {
	t.Helper()
	program := shop(t, mesh)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	var requests []compiler.Request
	for _, a := range all {
		r := a.request
		r.From, r.To, r.Port = a.from, "shop/app", a.port
		if strings.HasPrefix(a.from, "gateway/") { // by visitors, whose requests it sends there
			r.From, r.To = "", a.from
		}
		requests = append(requests, r)
	}
	reh, stage := stageOf(ctx, t, program, requests)
	for i, r := range requests {
		got, err := stage.Ask(ctx, reh.Doors[i], r)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != all[i].status {
			t.Errorf("%s %s of %q from %q, headers %v: %d, want %d", r.Method, r.Path, r.Host, r.From, r.Headers, got.Status, all[i].status)
		}
		want, err := program.Decide(r)
		if err != nil {
			t.Fatal(err)
		}
		if why := rehearsal.Differs(want, r, got); why != "" {
			t.Errorf("%s %s of %q from %q, headers %v: %s", r.Method, r.Path, r.Host, r.From, r.Headers, why)
		}
	}
}

// A grant does not hold where its not does: callers by name, methods with HEAD, and paths in every
// spelling that an application takes for them.
func TestGrantsLeaveOutWhatTheyExcept(t *testing.T) {
	admitting(t, `
mesh: service: web: {port: http: number: 80, calls: app: port: http: {}}
mesh: service: old: {port: http: number: 80, calls: app: port: http: {}}
mesh: service: app: {
	port: {http: {number: 80, main: true}, raw: {number: 90, protocol: "tcp"}}
	grant: {
		space: {namespaces: ["shop"], not: {from: ["old"], methods: ["GET", "DELETE"], paths: ["/cart/{id}/card", "/admin/*"]}}
		reads: {from: ["web", "old"], methods: ["GET", "HEAD"], paths: ["/read/*"]}
	}
}`, []asks{
		{"shop/web", "", compiler.Request{Method: "POST", Path: "/cart/7"}, 200},
		{"shop/old", "", compiler.Request{Method: "POST", Path: "/cart/7"}, 403},
		{"shop/web", "", compiler.Request{Method: "GET", Path: "/cart/7"}, 403},
		{"shop/web", "", compiler.Request{Method: "HEAD", Path: "/cart/7"}, 403},
		{"shop/web", "", compiler.Request{Method: "DELETE", Path: "/cart/7"}, 403},
		{"shop/old", "", compiler.Request{Method: "GET", Path: "/read/7"}, 200},
		{"shop/web", "", compiler.Request{Method: "POST", Path: "/cart/7/card"}, 403},
		{"shop/web", "", compiler.Request{Method: "POST", Path: "/Cart/7;a/card/"}, 403},
		{"shop/web", "", compiler.Request{Method: "POST", Path: "/cart/7/cards"}, 200},
		{"shop/web", "", compiler.Request{Method: "POST", Path: "/admin"}, 403},
		{"shop/web", "", compiler.Request{Method: "POST", Path: "/%2561dmin/x"}, 403},
		{"shop/web", "", compiler.Request{Method: "POST", Path: "/administer"}, 200},
	})
}

// Callers are told apart by patterns of their accounts, at HTTP, at bytes, and as what is taken out.
func TestGrantsAndDeniesNameAccountsByPatterns(t *testing.T) {
	admitting(t, `
mesh: service: web: {port: http: number: 80, calls: app: port: http: {}}
mesh: service: worker: {port: http: number: 80, serviceAccount: "web-worker", calls: app: port: http: {}}
mesh: service: job: {port: http: number: 80, calls: app: port: raw: {}}
mesh: service: app: {
	port: {http: {number: 80, main: true}, raw: {number: 90, protocol: "tcp"}}
	grant: {
		webs: {accounts: ["*/web*"], not: accounts: ["sh*/*-worker"]}
		workers: {accounts: ["shop/*-worker"], paths: ["/jobs/*"]}
		bytes: {accounts: ["s*p/*b"], ports: ["raw"]}
	}
	deny: late: {accounts: ["s*/w*"], paths: ["/late"], ports: ["http"]}
}`, []asks{
		{"shop/web", "http", compiler.Request{Method: "GET", Path: "/a"}, 200},
		{"shop/worker", "http", compiler.Request{Method: "GET", Path: "/a"}, 403},
		{"shop/worker", "http", compiler.Request{Method: "GET", Path: "/jobs/a"}, 200},
		{"shop/web", "http", compiler.Request{Method: "GET", Path: "/Late"}, 403},
		{"shop/job", "raw", compiler.Request{}, 0},
	})
}

// What admits is strict, what refuses is broad: a grant's header is there once and has one value, a deny's
// is refused in any line, among others, in any bytes; so each in the other's not.
func TestHeadersAdmitOnceAndRefuseInAnyForm(t *testing.T) {
	get := func(path string, headers ...string) compiler.Request {
		r := compiler.Request{Method: "GET", Path: path}
		for i := 0; i < len(headers); i += 2 {
			r.Headers = append(r.Headers, compiler.Header{Name: headers[i], Value: headers[i+1]})
		}
		return r
	}
	var all []asks
	ask := func(status int, r compiler.Request) { all = append(all, asks{"shop/web", "", r, status}) }
	ask(200, get("/a", "x-plan", "gold"))
	ask(403, get("/a"))
	ask(403, get("/a", "x-plan", "Gold"))
	ask(403, get("/a", "x-plan", "gold", "x-plan", "gold"))
	ask(403, get("/a", "x-plan", "free", "x-plan", "gold"))
	ask(403, get("/a", "x-plan", "gold", "x-plan", "free"))
	ask(403, get("/a", "x-plan", "gold,free"))
	ask(403, get("/a", "x-plan", "gold", "x-plan", ""))
	ask(200, get("/a", "X-Plan", "  gold\t"))
	ask(200, get("/a", "accept", "text/one"))
	ask(403, get("/a", "accept", "text/one", "accept", "text/one"))
	ask(200, get("/p", "x-team", "a-b"))
	ask(200, get("/p", "x-team", "a-"))
	ask(200, get("/p", "x-team", "a-é"))
	ask(403, get("/p", "x-team", "b", "x-team", "a-b"))
	ask(403, get("/p", "x-team", "a-b,a-c"))
	ask(200, get("/t", "x-ticket", ""))
	ask(200, get("/t", "x-ticket", "7"))
	ask(403, get("/t", "x-ticket", "7", "x-ticket", "8"))
	ask(403, get("/t", "x-ticket", "7,8"))
	ask(200, get("/open/a", "x-role", "user"))
	for _, role := range []string{"root", "user,root", "root,user", "user, root ,x", "\xff,root", "root,\xfe\xff", " root", "root\t"} {
		ask(403, get("/open/a", "x-role", role))
		ask(403, get("/open/a", "x-role", "user", "x-role", role))
		ask(403, get("/but/a", "x-role", role))
	}
	ask(200, get("/open/a", "x-role", "rooted", "x-role", "a root"))
	ask(200, get("/but/a", "x-role", "rooted"))
	ask(200, get("/but/a"))
	ask(403, get("/open/a", "x-zone", "eu-1"))
	ask(403, get("/open/a", "x-zone", "us,\xffeu-1", "x-zone", "us , eu-2\xff"))
	ask(200, get("/open/a", "x-zone", "us-eu-1"))
	ask(403, get("/open/a", "x-debug", "on"))
	ask(200, get("/open/a", "x-debug", "off"))
	ask(403, get("/open/a", "x-debug", "off", "x-debug", "off"))
	ask(403, get("/open/a", "x-debug", "off,on"))
	admitting(t, `
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: service: app: {
	port: http: number: 80
	grant: {
		plan: {from: ["web"], paths: ["/a"], headers: "X-Plan": exact: "gold"}
		kind: {from: ["web"], paths: ["/a"], headers: accept: exact: "text/one"}
		team: {from: ["web"], paths: ["/p"], headers: "x-team": prefix: "a-"}
		ticket: {from: ["web"], paths: ["/t"], headers: "x-ticket": present: true}
		open: {from: ["web"], paths: ["/open/*"]}
		but: {from: ["web"], paths: ["/but/*"], not: headers: "x-role": exact: "root"}
	}
	deny: {
		role: {from: ["web"], paths: ["/open/*"], headers: "x-role": exact: "root"}
		zone: {from: ["web"], headers: "x-zone": prefix: "eu-"}
		debug: {from: ["web"], headers: "x-debug": present: true, not: headers: "x-debug": exact: "off"}
	}
}`, all)
}

// A grant's parameter is there once and spelt as it is written; a deny's counts in any spelling, anywhere.
func TestParametersAdmitOnceAndRefuseInAnySpelling(t *testing.T) {
	var all []asks
	ask := func(status int, targets ...string) {
		for _, target := range targets {
			all = append(all, asks{"shop/web", "", compiler.Request{Method: "GET", Path: target}, status})
		}
	}
	ask(200, "/a?plan=gold", "/a?x=1&plan=gold&y=2", "/a?&&plan=gold&", "/a?plans=1&plan=gold", "/a?x=?&plan=gold")
	ask(403, "/a", "/a?", "/a?plan", "/a?plan=", "/a?plan=golden", "/a?plan=Gold", "/a?plan=g%6fld", "/a?pl%61n=gold", "/a?x=plan=gold", "/a?x/plan=gold")
	ask(403, "/a?plan=gold&plan=gold", "/a?plan=free&plan=gold", "/a?plan=gold&plan", "/a?plan=gold&pl%61n=free", "/a?%70lan=free&plan=gold", "/a?plan=gold&%2570lan", "/a?plan=gold;plan=free", "/a?x;plan=1&plan=gold")
	ask(200, "/p?team=a-", "/p?team=a-b", "/p?team=a-b=c")
	ask(403, "/p?team=b", "/p?team=a-b&team=a-c", "/p?team=a-b;team=b")
	ask(200, "/t?ticket", "/t?ticket=", "/t?ticket=7&x")
	ask(403, "/t", "/t?tickets", "/t?ticket&ticket", "/t?x;ticket")
	ask(200, "/open/a", "/open/a?role=user", "/open/a?role=rooted", "/open/a?x=role=root", "/open/a?roles=root")
	ask(403, "/open/a?role=root", "/open/a?role=user&role=root", "/open/a?role=root&role=user", "/open/a?r%6Fle=r%6fot&x", "/open/a?role=%2572oot", "/open/a?x&%72ole=root", "/open/a?x;role=root", "/open/a?role=root;x")
	ask(403, "/open/a?word=two+words", "/open/a?word=two%20words", "/open/a?word=two%2Bwords")
	ask(200, "/but/a", "/but/a?role=rooted")
	ask(200, "/draft/a?key=k", "/draft/a?x&key=k", "/draft/a?by", "/draft/a?by=&key=z", "/draft/a?key=k&by&by")
	ask(403, "/draft/a", "/draft/a?key=z", "/draft/a?key=k&key=k", "/draft/a?key=k&k%65y=k", "/draft/a?k%65y=k", "/draft/a?key=k;key=z", "/draft/a?by&b%79", "/draft/a?bye")
	ask(403, "/but/a?role=root", "/but/a?role=user&%72ole=root")
	admitting(t, `
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: service: app: {
	port: http: number: 80
	grant: {
		plan: {from: ["web"], paths: ["/a"], query: plan: exact: "gold"}
		team: {from: ["web"], paths: ["/p"], query: team: prefix: "a-"}
		ticket: {from: ["web"], paths: ["/t"], query: ticket: present: true}
		open: {from: ["web"], paths: ["/open/*"]}
		but: {from: ["web"], paths: ["/but/*"], not: query: role: exact: "root"}
		draft: {from: ["web"], paths: ["/draft/*"]}
	}
	deny: {
		role: {from: ["web"], paths: ["/open/*"], query: role: exact: "root"}
		draft: {from: ["web"], paths: ["/draft/*"], not: query: {key: exact: "k", by: present: true}}
		word: {from: ["web"], query: word: exact: "two+words"}
	}
}`, all)
}

// What is counted alone lets nobody through and refuses nobody, and the callee's proxy has the numbers, each by its name.
func TestShadowedGrantsAndDeniesAreCounted(t *testing.T) {
	p := startAt(t, `
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: service: app: {
	port: http: number: 80
	grant: {
		reads: {from: ["web"], methods: ["GET"]}
		writes: {from: ["web"], methods: ["POST"], shadow: true}
	}
	deny: old: {mesh: true, paths: ["/old/*"], shadow: true}
}`, compiler.Request{From: "shop/web", To: "shop/app"})
	for _, c := range []struct {
		method, path string
		status       int
	}{{"GET", "/a", 200}, {"GET", "/old/a", 200}, {"GET", "/Old", 200}, {"POST", "/a", 403}, {"POST", "/b", 403}, {"POST", "/old/b", 403}, {"PUT", "/a", 403}} {
		got, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Method: c.method, Path: c.path})
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, got.Status, c.status)
		}
	}
	page := p.admin("/stats?filter=rbac")
	for name, want := range map[string]int{"policy.writes.shadow_allowed": 3, "policy.old.shadow_denied": 3} {
		if got := p.number(page, "http.inbound/shop/app/http/default.rbac."+name); got != want {
			t.Errorf("%s is %d, want %d:\n%s", name, got, want, page)
		}
	}
}

// Where access is open, what no grant allows gets through, and is counted; denies hold, and a port that enforces does.
func TestOpenAccessLetsThroughAndCounts(t *testing.T) {
	const mesh = `
mesh: service: web: {port: http: number: 80, calls: app: port: http: {}}
mesh: service: job: {port: http: number: 80, calls: app: port: raw: {}}
mesh: service: app: {
	access: {mode: "shadow", owner: "shop", reason: "moves", until: "2027-03-01T00:00:00Z"}
	port: {http: {number: 80, main: true}, raw: {number: 90, protocol: "tcp"}}
	grant: reads: {from: ["web"], methods: ["GET"]}
	deny: old: {mesh: true, paths: ["/old/*"], ports: ["http"]}
}`
	admitting(t, mesh, []asks{
		{"shop/web", "http", compiler.Request{Method: "GET", Path: "/a"}, 200},
		{"shop/web", "http", compiler.Request{Method: "POST", Path: "/a"}, 200},
		{"shop/web", "http", compiler.Request{Method: "POST", Path: "/old"}, 403},
		{"shop/job", "raw", compiler.Request{}, 0},
	})
	p := startAt(t, mesh, compiler.Request{From: "shop/web", To: "shop/app", Port: "http"})
	for _, method := range []string{"GET", "POST", "PUT"} {
		got, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Method: method, Path: "/a"})
		if err != nil || got.Status != 200 {
			t.Fatalf("%s: %d, %v", method, got.Status, err)
		}
	}
	page := p.admin("/stats?filter=rbac")
	for name, want := range map[string]int{"shadow_denied": 2, "shadow_allowed": 1} {
		if got := p.number(page, "http.inbound/shop/app/http/default.rbac."+name); got != want {
			t.Errorf("%s is %d, want %d:\n%s", name, got, want, page)
		}
	}
}

// A grant's host is the one that is written, at any port and in letters of either case; a deny's is whatever an
// application may read as it. So with methods of gRPC, which are paths.
func TestHostsAndMethodsOfGRPCAdmitAndRefuse(t *testing.T) {
	var all []asks
	ask := func(status int, path string, hosts ...string) {
		for _, host := range hosts {
			all = append(all, asks{"gateway/shop/edge", "", compiler.Request{Method: "POST", Path: path, Host: host}, status})
		}
	}
	ask(200, "/a", "app.example", "APP.example", "app.example:80", "app.example.", "app.example.:8080", "app.example:", "a.apps.example", "a.b.apps.example:1")
	ask(403, "/a", "", "other.example", "xapp.example", "app.example.x", "app", "%61pp.example", "app.example%2e", "apps.example", ".apps.example", "app.example%3a80", "x%40app.example")
	ask(403, "/a", "old.apps.example", "OLD.apps.example.", "o%6Cd.apps.example", "old.apps.example%2E", "a%40old.apps.example", "old.apps.example%3A80")
	ask(200, "/open/a", "x", "app.example", "inner.example", "xinner.exampl")
	ask(403, "/open/a", "a.inner.example", "A.Inner.Example:80", "a.inner.example..", "a%2einner.example", "a.inne%2572.example", "a.b.inner.example%2e", ".inner.example")
	ask(200, "/open/a", "free.inner.example", "FREE.inner.example:9")
	ask(403, "/open/a", "fr%65e.inner.example")
	ask(200, "/shop.Reviews/Watch", "x")
	ask(403, "/shop.Reviews/watch", "x")
	ask(403, "/shop.Reviews/Watch/", "x")
	ask(403, "/shop.Reviews/Write", "x")
	ask(403, "/shop.reviews/Watch", "x")
	ask(200, "/shop.Carts/Add", "x")
	ask(403, "/shop.Carts/Drop", "x")
	ask(403, "/shop.Carts/drop", "x")
	ask(403, "/shop.Carts/Dro%2570", "x")
	ask(403, "/shop.Carts/Drop/", "x")
	ask(403, "/open/Purge", "x", "app.example")
	ask(403, "/open/purge;x", "x")
	admitting(t, `
mesh: gateway: edge: {port: http: number: 80, host: "*": route: all: to: app: 100}
mesh: service: app: {
	port: http: number: 80
	grant: {
		named: {from: ["gateway/edge"], paths: ["/a"], hosts: ["app.example", "*.apps.example"], not: hosts: ["old.apps.example"]}
		open: {from: ["gateway/edge"], paths: ["/open/*"]}
		watch: {from: ["gateway/edge"], grpc: {service: "shop.Reviews", method: "Watch"}}
		carts: {from: ["gateway/edge"], paths: ["/shop.Carts/*"], grpc: service: "shop.Carts", not: grpc: method: "Drop"}
	}
	deny: {
		inner: {mesh: true, hosts: ["*.inner.example"], not: hosts: ["free.inner.example"]}
		purge: {mesh: true, grpc: {service: "open", method: "Purge"}}
	}
}`, all)
}

// A visitor's address is what the gateway sees, or believes of the proxies in front of it, and nobody else's word; a
// connection's is that of whoever is connected. Between the proxies of a rehearsal there is no address.
func TestAddressesOfVisitorsAdmitAndRefuse(t *testing.T) {
	var all []asks
	ask := func(from, path, told string, status int) {
		r := compiler.Request{Method: "GET", Path: path, Host: "app.shop"}
		if strings.HasPrefix(from, "gateway/") {
			r.Source = compiler.RehearsedAddress
		}
		if told != "" {
			r.Headers = []compiler.Header{{Name: "x-forwarded-for", Value: told}}
		}
		all = append(all, asks{from, "", r, status})
	}
	for _, told := range []string{"", "10.2.0.7", "198.51.100.9", "127.0.0.1, 10.2.0.7"} { // which is the caller's word
		ask("shop/web", "/far", told, 403)
		ask("shop/web", "/but", told, 200)
		ask("shop/web", "/staff", told, 403)
	}
	for told, status := range map[string]int{
		"198.51.100.9": 200, "203.0.113.1, 198.51.100.9": 200, " 198.51.100.255 ": 200, "198.51.101.1": 403, "198.51.100.9, 203.0.113.1": 403, "198.51.100.66": 403,
		"::ffff:198.51.100.9": 200, "::ffff:198.51.100.66": 403, "::FFFF:c633:6442": 403, "": 403, "198.51.100.9,": 403, "198.51.100": 403, "x": 403, "2001:db8::9": 200, "2001:db9::9": 403,
	} {
		ask("gateway/shop/edge", "/staff", told, status)
	}
	ask("gateway/shop/edge", "/visited", "203.0.113.1", 200)
	ask("gateway/shop/edge", "/visited", "203.0.113.66", 403)
	ask("gateway/shop/edge", "/visited", "::ffff:203.0.113.66", 403)
	ask("gateway/shop/edge", "/near", "203.0.113.1", 200)
	ask("gateway/shop/edge", "/past", "203.0.113.1", 403)
	admitting(t, `
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: gateway: edge: {
	trustedHops: 1
	port: http: number: 80
	deny: {
		bot: clients: ["203.0.113.66"]
		near: {paths: ["/near"], not: sources: ["127.0.0.1"]}
		past: {paths: ["/past"], not: sources: ["10.0.0.0/8"]}
	}
	host: "*": route: all: to: app: 100
}
mesh: service: app: {
	port: http: number: 80
	grant: {
		far: {from: ["web"], paths: ["/far"], sources: ["127.0.0.0/8", "10.2.0.0/16"]}
		but: {from: ["web"], paths: ["/but"], not: sources: ["127.0.0.1", "10.2.0.0/16"]}
		staff: {from: ["gateway/edge"], paths: ["/staff"], clients: ["198.51.100.0/24", "2001:db8::/32"], not: clients: ["198.51.100.66"]}
		visited: {from: ["gateway/edge"], paths: ["/visited", "/near", "/past"]}
	}
}`, all)
}

// Without proxies in front a visitor's address is his connection's, the gateway's own host included, and nothing that
// he says.
func TestAddressesOfVisitorsAreTheirConnections(t *testing.T) {
	var all []asks
	for _, told := range []string{"", "10.2.0.7", "198.51.100.9"} {
		for path, status := range map[string]int{"/local": 200, "/far": 403, "/but": 403} {
			r := compiler.Request{Method: "GET", Path: path, Host: "app.shop", Source: compiler.RehearsedAddress}
			if told != "" {
				r.Headers = []compiler.Header{{Name: "x-forwarded-for", Value: told}}
			}
			all = append(all, asks{"gateway/shop/edge", "", r, status})
		}
	}
	admitting(t, `
mesh: gateway: edge: {port: http: number: 80, host: "*": route: all: to: app: 100}
mesh: service: app: {
	port: http: number: 80
	grant: {
		local: {from: ["gateway/edge"], paths: ["/local"], clients: ["127.0.0.1"]}
		far: {from: ["gateway/edge"], paths: ["/far"], clients: ["198.51.100.0/24", "10.0.0.0/8"]}
		but: {from: ["gateway/edge"], paths: ["/but"], not: clients: ["127.0.0.0/8"]}
	}
}`, all)
}

// A path's end admits as it is written, and refuses in every spelling.
func TestEndsOfPathsAdmitAndRefuse(t *testing.T) {
	var all []asks
	ask := func(status int, paths ...string) {
		for _, path := range paths {
			all = append(all, asks{"shop/web", "", compiler.Request{Method: "GET", Path: path}, status})
		}
	}
	ask(200, "/sum", "/a/sum", "/a/b/sum", "//sum", "/a/./sum", "/a/s%75m", "/a/sum?x=/")
	ask(403, "/a/sum/", "/asum", "/a/sum/b", "/a/SUM", "/a/sum;x", "/a/s%2575m", "/a?b=/sum", "/")
	ask(200, "/cart/7", "/cart/cards", "/cart/card/7", "/cart/open/card", "/cart/mycard")
	ask(403, "/cart/card", "/cart/7/card", "/cart/7/CARD", "/cart/7/card/", "/cart/7/card;v=1", "/cart/7;a/c%2561rd", "/cart/x%252fcard", "/cart/open/card/", "/cart/open/Card")
	admitting(t, `
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: service: app: {
	port: http: number: 80
	grant: all: {from: ["web"], paths: ["*/sum", "/cart/*"]}
	deny: cards: {mesh: true, paths: ["*/card"], not: paths: ["*/open/card"]}
}`, all)
}
