package envoy

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// What a proxy answers by itself is replaced, with what CORS says of it, and nothing else is: neither what an application, a route or
// a drill answers, nor what gRPC is told, nor what callers' proxies go by.
func TestAnswersOfProxiesAreReplaced(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	p := shop(t, `
mesh: service: {
	a: {port: http: number: 8080, calls: app: {}}
	app: {
		port: http: number: 80
		grant: all: mesh: true
		rateLimit: few: {requests: 1, per: "1h", paths: ["/few"]}
		answers: busy: {statuses: [429, 502, 503], status: 529, body: "busy, 100% \"so\"\n"}
	}
	web: {port: http: number: 80, grant: all: mesh: true}
}
mesh: gateway: edge: {port: http: number: 80, host: {
	"shop.test": {
		cors: origins: ["https://app.test"]
		answers: late: {statuses: [504], status: 503, body: "We are sorry."}
		route: {
			own: {match: path: prefix: "/own", to: web: 100, timeout: "300ms", answers: {busy: {statuses: [429], status: 503}, gone: {statuses: [504], body: "gone"}}}
			free: {match: path: prefix: "/free", to: web: 100, timeout: "300ms", answers: {}}
			freer: {match: path: exact: "/freer", to: web: 100, timeout: "300ms"}
			drill: {match: path: exact: "/drill", to: web: 100, fault: {abort: {status: 504, percent: 100}, owner: "shop", reason: "game day", until: "2100-01-01T00:00:00Z"}}
			said: {match: path: exact: "/said", respond: {status: 504, body: "mine"}}
			all: {to: web: 100, timeout: "300ms"}
		}
	}
	"other.test": route: all: {to: web: 100, timeout: "300ms"}
}}
`)
	const app, edge, other = 0, 1, 2
	reh, stage := stageOf(ctx, t, p, []compiler.Request{{From: "shop/a", To: "shop/app"}, {To: "gateway/shop/edge", Host: "shop.test"}, {To: "gateway/shop/edge", Host: "other.test"}})
	header := func(name, value string) compiler.Header { return compiler.Header{Name: name, Value: value} }
	late := header(rehearsal.WaitHeader, "3s")
	for i, c := range []struct {
		door    int
		path    string
		headers []compiler.Header
		status  int
		body    string // begins so
	}{
		{app, "/few", nil, 200, ""},
		{app, "/few", nil, 529, "busy, 100% \"so\"\n"},
		{app, "/failing", []compiler.Header{header(rehearsal.FailHeader, "5")}, 503, ""},
		{app, "/closed", []compiler.Header{header(rehearsal.AnswerHeader, rehearsal.Raw(""))}, 503, "upstream connect error"},
		{edge, "/", nil, 200, ""},
		{edge, "/", []compiler.Header{late, header("origin", "https://app.test")}, 503, "We are sorry."},
		{edge, "/failing", []compiler.Header{header(rehearsal.FailHeader, "5")}, 503, ""},
		{edge, "/", []compiler.Header{late, header("content-type", "application/grpc")}, 200, ""},
		{edge, "/own", []compiler.Header{late}, 504, "gone"},
		{edge, "/free", []compiler.Header{late}, 504, "upstream request timeout"},
		{edge, "/freer", []compiler.Header{late}, 503, "We are sorry."},
		{edge, "/drill", nil, 504, "fault filter abort"},
		{edge, "/said", nil, 504, "mine"},
		{other, "/", []compiler.Header{late}, 504, "upstream request timeout"},
	} {
		r := compiler.Request{Path: c.path, Headers: c.headers}
		switch c.door {
		case edge:
			r.Host = "shop.test"
		case other:
			r.Host = "other.test"
		}
		got, err := stage.Ask(ctx, reh.Doors[c.door], r)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != c.status || !strings.HasPrefix(got.Text, c.body) {
			t.Errorf("request %d, %+v: %d %q", i, c, got.Status, got.Text)
		}
		if told := got.Headers["access-control-allow-origin"]; got.Text == "We are sorry." && len(c.headers) > 1 && !slices.Equal(told, []string{"https://app.test"}) {
			t.Errorf("request %d, %+v: a browser is told %q", i, c, told)
		}
	}
}
