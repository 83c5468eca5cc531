package rehearsal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
)

// Whatever a test asks, a disagreement is told of the mesh alone: what one host cannot show, and
// what the applications there cannot, is no mistake of the compiler.
func TestLimitsOfARehearsalAreNoDisagreement(t *testing.T) {
	type wish struct {
		request string // from and to stand before
		untried string // in the reason, "" if Envoys are asked
	}
	const own, door = `from: "app", to: "app"`, `to: "gateway/edge", host: "a.test"`
	wishes := map[string]wish{
		"a body in chunks":          {own + `, method: "POST", headers: "transfer-encoding": "chunked"`, ""},
		"a body of some bytes":      {own + `, method: "POST", headers: "content-length": "70000"`, ""},
		"a body that never ends":    {own + `, method: "PUT", headers: "content-length": "900000000000"`, ""},
		"a body with GET":           {own + `, headers: "content-length": "3"`, ""},
		"two lengths":               {own + `, method: "POST", headers: {"content-length": "3", "transfer-encoding": "chunked"}`, ""},
		"an unknown coding":         {own + `, method: "POST", headers: "transfer-encoding": "gzip, chunked"`, ""},
		"a coding for CONNECT":      {own + `, method: "CONNECT", headers: {"transfer-encoding": "chunked", "content-length": "0"}`, ""},
		"waiting to go on":          {own + `, method: "POST", headers: {expect: "100-continue", "content-length": "3"}`, ""},
		"waiting in other letters":  {own + `, method: "POST", headers: {expect: "100-Continue", "transfer-encoding": "chunked"}`, ""},
		"another expectation":       {own + `, headers: expect: "more"`, "no expectation"},
		"one that nobody gets":      {`to: "app", headers: expect: "more"`, ""},
		"headers of a connection":   {own + `, headers: {connection: "close, x-a", "x-a": "1", te: "trailers", "keep-alive": "1", "proxy-connection": "x"}`, ""},
		"another protocol":          {own + `, headers: {connection: "upgrade", upgrade: "websocket"}`, ""},
		"a fragment in a referer":   {own + `, headers: referer: "https://a.test/#there"`, ""},
		"a host among headers":      {own + `, headers: host: "a.test"`, ""},
		"an empty host":             {own + `, headers: host: ""`, ""},
		"an escape that is none":    {own + `, path: "/t/a%"`, "path"},
		"one in the query":          {own + `, path: "/t/a?b%"`, ""},
		"one that nobody gets, too": {`to: "app", path: "/t/a%"`, ""},
		"a refused path":            {own + `, path: "/t/%2f%"`, ""},
		"an order":                  {own + `, headers: "X-Rehearsal-Fail": "1"`, "order"},
		"HTTPS without a host":      {door + `, port: "https"`, "nothing listens"},
		"plain beside it":           {door + `, port: "http"`, ""},
		"another name of it":        {`from: "app", to: "bank", host: "two.test"`, "first name"},
		"its first name":            {`from: "app", to: "bank", host: "one.test"`, ""},
		"HTTP/2":                    {own + `, http: "2", method: "POST", headers: "content-length": "70000"`, ""},
		"HTTP/1.0":                  {own + `, http: "1.0"`, ""},
		"HTTPS":                     {`to: "gateway/front", host: "one.test", sni: "one.test", http: "2"`, ""},
		"another name by HTTPS":     {`to: "gateway/front", host: "one.test", sni: "two.test"`, ""},
		"no name that it knows":     {`to: "gateway/front", host: "one.test", sni: "three.test"`, ""},
		"who does not call it":      {`from: "other", to: "bank", host: "one.test"`, "not called"},
	}
	var tests strings.Builder
	for _, name := range slices.Sorted(maps.Keys(wishes)) {
		fmt.Fprintf(&tests, "mesh: test: %q: {request: {%s}, expect: allowed: true}\n", name, wishes[name].request)
	}
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	p, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `
mesh: namespace: "shop"
mesh: service: app: {port: http: number: 80, grant: all: from: ["app", "gateway/edge"], calls: bank: {}}
mesh: service: other: port: http: number: 80
mesh: gateway: edge: {port: {http: number: 8080, https: {number: 8443, protocol: "https"}}, host: "a.test": {ports: ["http"], route: all: to: "shop/app": 100}}
mesh: certificate: {one: file: "one", two: file: "two"}
mesh: gateway: front: {
	port: {http: number: 8081, https: {number: 8444, protocol: "https"}}
	host: {"one.test": {tls: certificates: ["one"], route: all: to: app: 100}, "two.test": {tls: certificates: ["two"], route: all: to: app: 100}}
}
mesh: external: bank: {port: http: number: 80, hosts: ["one.test", "two.test"], endpoints: static: ["192.0.2.1:80"]}
` + tests.String())},
	}, compiler.Options{At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	trials, err := Tests(t.Context(), realEnvoy(t), p, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if len(trials) != len(wishes) {
		t.Fatalf("%d trials of %d tests", len(trials), len(wishes))
	}
	for _, got := range trials {
		want := wishes[got.Name].untried
		if got.Differs != "" || (want == "") != (got.Untried == "") || !strings.Contains(got.Untried, want) || (got.Reply == nil) != (want != "") {
			t.Errorf("%s: %q, untried: %q", got.Name, got.Differs, got.Untried)
		}
	}
}
