package envoy

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/rehearsal"
)

// outward is a mesh whose externals go out through the gateway edge/egress.
func outward(t *testing.T) *compiler.Program {
	t.Helper()
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	p, ds := compiler.Load(fstest.MapFS{
		"mesh.cue":      {Data: []byte("package mesh\n" + head)},
		"edge/edge.cue": {Data: []byte("package edge\n" + head + `mesh: {namespace: "edge", gateway: egress: port: mesh: {number: 15443, protocol: "mesh"}}` + "\n")},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"
mesh: service: {
	pay: {port: http: number: 80, calls: {bank: {}, ledger: {}, feed: {}}}
	web: {port: http: number: 80, grant: all: mesh: true}
}
mesh: external: bank: {
	hosts: ["bank.test"], port: api: number: 443, via: gateway: "edge/egress"
	grant: desk: {from: ["desk/clerk"]}
	route: {
		twice: {match: path: prefix: "/twice", retry: {attempts: 2, on: ["gateway-error"], idempotent: true}}
		brief: {match: path: prefix: "/brief", timeout: "1s"}
		gone: {match: path: prefix: "/gone", respond: status: 410}
		rest: {}
	}
}
mesh: external: feed: {hosts: ["feed.test"], port: http: number: 80, via: gateway: "edge/egress", route: all: upgrade: ["websocket"]}
mesh: external: ledger: {port: sql: {number: 5432, protocol: "tcp"}, endpoints: static: ["192.0.2.7:5432"], via: gateway: "edge/egress"}
`)},
		"desk/desk.cue": {Data: []byte("package desk\n" + head + `mesh: {namespace: "desk", service: {clerk: {port: http: number: 80, calls: "shop/bank": {}}, guest: port: http: number: 80}}` + "\n")},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	return p
}

func sidecar(namespace, account string) release.Class {
	return release.Class{Role: release.Sidecar, Namespace: namespace, Account: account}
}

// An external with `via` is called by its gateway alone, which knows the caller by its certificate: who may
// call gets through, and nobody else does who comes to the gateway past his own proxy.
func TestExternalsGoOutThroughTheirGateway(t *testing.T) {
	p := outward(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	asked := []compiler.Request{{From: "shop/pay", To: "shop/bank"}, {From: "desk/clerk", To: "shop/bank"}, {From: "shop/pay", To: "shop/ledger"}, {From: "shop/pay", To: "shop/feed"}}
	reh, stage := stageOf(ctx, t, p, asked)
	pay, clerk := &play{t, ctx, stage, reh.Doors[0], ""}, &play{t, ctx, stage, reh.Doors[1], ""}
	for _, caller := range []*play{pay, clerk} {
		got := caller.ask("/a", 0, 0)
		if got.Status != http.StatusOK || got.Seen == nil || got.Seen.Target != "external/shop/bank/api" || got.Seen.Host != "bank.test" {
			t.Fatalf("%s: %+v", caller.door.Class, got)
		}
		for _, name := range []string{"x-forwarded-client-cert", "x-envoy-peer-metadata", "x-meshc-kept"} {
			if lines := got.Seen.Headers[name]; len(lines) > 0 {
				t.Errorf("the external is told who calls: %s: %q", name, lines)
			}
		}
	}
	// What routes say holds once, at the caller's proxy.
	for _, c := range []struct {
		path          string
		fail          int
		wait          time.Duration
		status, tries int
	}{{"/twice/mended", 2, 0, 200, 3}, {"/twice/broken", 9, 0, 503, 3}, {"/brief/late", 0, 30 * time.Second, 504, 1}, {"/gone", 0, 0, 410, 0}, {"/rest/broken", 9, 0, 503, 1}} {
		if got, n := pay.ask(c.path, c.fail, c.wait), pay.tries(c.path); got.Status != c.status || n != c.tries {
			t.Errorf("%s: %d after %d tries, want %d after %d", c.path, got.Status, n, c.status, c.tries)
		}
	}
	if got, err := stage.Ask(ctx, reh.Doors[2], asked[2]); err != nil || got.Seen == nil || got.Seen.Target != "external/shop/ledger/sql" {
		t.Errorf("bytes: %+v, %v", got, err)
	}
	addr, _ := stage.Address(reh.Doors[3])
	ws, err := socket(ctx, t, addr, "feed.test", "/socket")
	if err != nil {
		t.Fatal(err)
	}
	echoed(t, ws, "through the gateway")

	for name, c := range map[string]struct {
		as     release.Class
		asks   string
		path   string
		status int // 0: closed
	}{
		"who calls it":             {sidecar("shop", "pay"), "api.bank.shop.external", "/past", 200},
		"who is granted":           {sidecar("desk", "clerk"), "api.bank.shop.external", "/past", 200},
		"a neighbour that may not": {sidecar("shop", "web"), "api.bank.shop.external", "/stolen", 403},
		"a stranger":               {sidecar("desk", "guest"), "api.bank.shop.external", "/stolen", 403},
		"the gateway itself":       {release.Class{Role: release.Gateway, Namespace: "edge", Account: "egress"}, "api.bank.shop.external", "/stolen", 403},
		"another spelling":         {sidecar("shop", "pay"), "api.bank.shop.external", "/past/%2e%2e%2fstolen", 400},
		"bytes of another's":       {sidecar("desk", "clerk"), "sql.ledger.shop.external", "/stolen", 0},
		"no name":                  {sidecar("shop", "pay"), "", "/stolen", 0},
		"a host for a name":        {sidecar("shop", "pay"), "bank.test", "/stolen", 0},
		"an external that is not":  {sidecar("shop", "pay"), "api.other.shop.external", "/stolen", 0},
	} {
		if got := past(ctx, t, stage, c.as, c.asks, c.path); got != c.status {
			t.Errorf("%s: answered %d past its own proxy, want %d", name, got, c.status)
		}
	}
	for _, s := range stage.Seen() {
		if strings.Contains(s.Path, "stolen") {
			t.Errorf("%s has arrived at %s", s.Path, s.Target)
		}
	}
	if err := stage.Rename(ctx, "external/shop/bank/api", "other.test"); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil { // connections to the former one may last
		if pay.ask("/rest/renamed", 0, 0).Status == http.StatusServiceUnavailable {
			break
		}
	}
	if got, n := pay.ask("/rest/impostor", 0, 0), pay.tries("/rest/impostor"); got.Status != http.StatusServiceUnavailable || n != 0 {
		t.Errorf("an external that proves another name: %d, and %d requests arrived", got.Status, n)
	}
}

// past asks the gateway with the identity of a class and without its proxy, 0 if it is closed.
func past(ctx context.Context, t *testing.T, stage *rehearsal.Stage, as release.Class, name, path string) int {
	t.Helper()
	dial, err := stage.EntranceFor(as, "gateway/edge/egress/mesh", name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c, err := dial(ctx)
	if err != nil {
		return 0
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if _, err := c.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: bank.test\r\nX-Forwarded-Client-Cert: URI=spiffe://mesh.local/ns/shop/sa/pay\r\n\r\n")); err != nil {
		return 0
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}
