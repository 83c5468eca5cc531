package compiler_test

import (
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
)

// At a gateway a question is asked at a port: only its hosts count, and what the port answers
// by itself is the answer for everybody.
func TestCanIAtPortsOfGateways(t *testing.T) {
	p, ds := compiler.Load(fstest.MapFS{"mesh.cue": {Data: []byte(plainRoot)}, "shop/shop.cue": {Data: []byte(`package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "shop"
mesh: certificate: {a: file: "a", b: file: "b"}
mesh: service: app: {port: http: number: 80, grant: edge: {from: ["gateway/edge"], methods: ["GET"]}}
mesh: gateway: edge: {port: {http: number: 80, https: {number: 443, protocol: "https"}}, host: {
	"a.test": {tls: certificates: ["a"], route: all: to: app: 100}
	"b.test": {tls: {certificates: ["b"], http: "refuse"}, route: all: to: app: 100}
	"c.test": route: all: to: app: 100
}}
`)}}, compiler.Options{At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)})
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	for _, c := range []struct {
		port, host, sni, method, can, words string
	}{
		{"", "a.test", "", "GET", "yes", ""},
		{"https", "a.test", "", "", "partly", ""},
		{"https", "a.test", "", "PUT", "no", ""},
		{"http", "a.test", "", "GET", "no", "answered by the gateway's proxy: 308, to HTTPS"},
		{"http", "b.test", "", "GET", "no", "answered by the gateway's proxy: 403, the host refuses plain HTTP"},
		{"http", "c.test", "", "GET", "yes", ""},
		{"https", "c.test", "", "GET", "no", "ended by the gateway's proxy without an answer: no host at port https has the name that the connection asks for (SNI)"},
		{"https", "a.test", "b.test", "GET", "no", "answered by the gateway's proxy: 421, this connection to port https is not for this host"},
	} {
		got, err := p.CanI(compiler.Request{From: "*", To: "gateway/edge", Port: c.port, Host: c.host, ServerName: c.sni, Method: c.method}, compiler.Limits{})
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if string(got.Can) != c.can || compiler.WordsAtDoor(got) != c.words {
			t.Errorf("%+v: %s, %q", c, got.Can, compiler.WordsAtDoor(got))
		}
	}
	for _, r := range []compiler.Request{{Port: "other", Host: "a.test"}, {Port: "http", Host: "d.test"}} {
		r.From, r.To = "*", "gateway/edge"
		if _, err := p.CanI(r, compiler.Limits{}); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}

// A share that its destination refuses does not get through, and nothing does where a fault answers all.
func TestCanIOfSharesAndFaults(t *testing.T) {
	p, ds := compiler.Load(fstest.MapFS{"mesh.cue": {Data: []byte(plainRoot)}, "shop/shop.cue": {Data: []byte(`package shop

import "meshc.dev/intent"

mesh: intent.#Mesh
mesh: namespace: "shop"
mesh: service: {
	plain: {port: http: number: 83, grant: edge: from: ["gateway/edge"]}
	open: {port: http: number: 80, grant: web: from: ["web"], route: {
		drill: {match: path: prefix: "/drill", to: default: 100, fault: {abort: {status: 503, percent: 100}, owner: "shop", reason: "game day", until: "2026-07-01T00:00:00Z"}}
		rest: to: default: 100
		half: {match: path: prefix: "/half", to: default: 100, fault: {abort: {status: 503, percent: 50}, owner: "shop", reason: "game day", until: "2026-07-01T00:00:00Z"}}
	}}
	shut: port: http: number: 81
	web: {port: http: number: 82, calls: open: {}}
}
mesh: gateway: edge: {port: http: number: 80, host: {
	"both.test": route: all: to: {plain: 33.33, shut: 66.67}
	"open.test": route: all: to: {plain: 100, shut: 0}
	"shut.test": route: all: to: shut: 100
}}
`)}}, compiler.Options{At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)})
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	for _, c := range []struct {
		from, to, host, path, can, refused string
	}{
		{"*", "gateway/edge", "both.test", "/", "partly", "[{shop/shut/http/default 66.67 403}]"},
		{"*", "gateway/edge", "open.test", "/", "yes", "[]"},
		{"*", "gateway/edge", "shut.test", "/", "no", "[]"},
		{"web", "open", "", "/", "yes", "[]"},
		{"web", "open", "", "/drill", "no", "[]"},
		{"web", "open", "", "/half", "yes", "[]"},
		{"web", "open", "", "", "partly", "[]"},
	} {
		got, err := p.CanI(compiler.Request{From: c.from, To: c.to, Host: c.host, Path: c.path}, compiler.Limits{})
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		refused := "[]"
		for _, e := range got.Set {
			if len(e.Refused) > 0 {
				refused = fmt.Sprint(e.Refused)
			}
		}
		if string(got.Can) != c.can || refused != c.refused {
			t.Errorf("%+v: %s, %s", c, got.Can, refused)
		}
	}
}
