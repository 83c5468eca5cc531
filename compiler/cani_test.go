package compiler_test

import (
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
