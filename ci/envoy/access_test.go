package envoy

import (
	"context"
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
mesh: service: web: {port: http: number: 80, calls: app: port: "http"}
mesh: service: old: {port: http: number: 80, calls: app: port: "http"}
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
mesh: service: web: {port: http: number: 80, calls: app: port: "http"}
mesh: service: worker: {port: http: number: 80, serviceAccount: "web-worker", calls: app: port: "http"}
mesh: service: job: {port: http: number: 80, calls: app: port: "raw"}
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
