package compiler_test

import (
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
		{compiler.Request{From: "app", To: "app", Path: "/some"}, there + "; 5% of such requests are broken off by a fault (503)", 0},
		{compiler.Request{From: "app", To: "app", Path: "/broken"}, "broken off by a fault (503)", 503},
		{compiler.Request{From: "app", To: "app", Path: "/moved"}, "redirected", 301},
		{compiler.Request{From: "app", To: "app", Method: "POST"}, "denied (403)", 403},
		{compiler.Request{From: "app", To: "app", Path: "/a%2fb"}, "refused by the first proxy, whatever the mesh says (400)", 400},
		{compiler.Request{From: "app", To: "app", Path: "/a/%2e%2e;/b"}, "refused by the first proxy, whatever the mesh says (400)", 400},
		{compiler.Request{From: "app", To: "app", Path: "/a", Headers: []compiler.Header{{Name: "Content-Length", Value: "999999999999999999"}}}, there, 0},
		{compiler.Request{From: "app", To: "app", Path: "/a", Headers: []compiler.Header{{Name: "Content-Length", Value: "1000000000000000000"}}}, "refused by the first proxy, whatever the mesh says (400)", 400},
		{compiler.Request{To: "gateway/edge", Host: "a.test:80"}, there, 0},
		{compiler.Request{To: "gateway/edge", Host: "a.test", Headers: []compiler.Header{{Name: "x_a", Value: "1"}}}, "refused by the first proxy, whatever the mesh says (400)", 400},
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
