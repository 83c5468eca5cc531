package proxyless

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meshc.dev/meshc/compiler"
)

// page calls, the callee is called greeter; both are programs without a proxy, and the callee's braces are open.
const (
	page   = `mesh: service: page: {proxyless: true, port: grpc: {number: 9000, protocol: "grpc"}, version: default: port: grpc: address: "127.0.0.1:$page", calls: greeter: {}}` + "\n"
	callee = `mesh: service: greeter: {proxyless: true, port: grpc: {number: 9000, protocol: "grpc"}, `
	one    = `version: default: port: grpc: address: "127.0.0.1:$greeter"` + "\n"
	asPage = "spiffe://mesh.local/ns/shop/sa/page"
)

// A gRPC client finds a gRPC server by its name, both know each other by their certificates, and there is no proxy.
func TestACall(t *testing.T) {
	w := open(t)
	w.publish(page + callee + one + `grant: page: from: ["page"]}`)
	w.serve(w.program("greeter"), "127.0.0.1:"+w.port("greeter"), "greeter")
	boot := w.program("page")
	w.answers(w.client(boot, "greeter.shop"), "Hello", "greeter "+asPage)
	w.answers(w.client(boot, "greeter.shop:9000"), "Hello", "greeter "+asPage)
}

// Who calls what is allowed by grants and refused by denies, for the next call on an open connection.
func TestGrantsAndDenies(t *testing.T) {
	w := open(t)
	others := `mesh: service: other: {proxyless: true, port: grpc: {number: 9000, protocol: "grpc"}, version: default: port: grpc: address: "127.0.0.1:$other", calls: greeter: {}}` + "\n"
	intent := func(rest string) string { return page + others + callee + one + rest + "}" }
	p := w.publish(intent(`
	grant: {
		page: {from: ["page"], paths: ["/shop.Greeter/*"], not: paths: ["/shop.Greeter/Secret"]}
		all: {mesh: true, paths: ["/shop.Greeter/Bye"], methods: ["POST"], sources: ["127.0.0.0/8"], hosts: ["greeter.shop"]}
		read: {mesh: true, methods: ["GET"]}
		elsewhere: {mesh: true, sources: ["10.0.0.0/8"]}
		others: {mesh: true, hosts: ["other.shop"]}
	}
	deny: frozen: {mesh: true, paths: ["/shop.Greeter/Frozen"]}`))
	w.serve(w.program("greeter"), "127.0.0.1:"+w.port("greeter"), "greeter")
	from := map[string]*grpc.ClientConn{"page": w.client(w.program("page"), "greeter.shop"), "other": w.client(w.program("other"), "greeter.shop")}
	w.answers(from["page"], "Hello", "greeter "+asPage)
	w.answers(from["other"], "Bye", "greeter spiffe://mesh.local/ns/shop/sa/other")
	for caller, conn := range from {
		for _, method := range []string{"Hello", "Bye", "Secret", "Frozen"} {
			a, err := p.Decide(compiler.Request{From: "shop/" + caller, To: "shop/greeter", Method: "POST", Path: "/shop.Greeter/" + method, Host: "greeter.shop", Source: "127.0.0.1"})
			if err != nil {
				t.Fatal(err)
			}
			want := codes.OK
			if !a.Allowed() {
				want = codes.PermissionDenied
			}
			if _, err := w.call(conn, method); status.Code(err) != want {
				t.Errorf("%s calls %s: %v, and the evaluator says %v", caller, method, err, want)
			}
		}
	}
	w.publish(intent(`grant: page: {from: ["page"], paths: ["/shop.Greeter/Bye"]}`))
	w.ends(from["page"], "Hello", codes.PermissionDenied)
	w.ends(from["other"], "Bye", codes.PermissionDenied)
	w.answers(from["page"], "Bye", "greeter "+asPage)
	w.publish(intent(""))
	w.ends(from["page"], "Bye", codes.PermissionDenied)
}

// Routes choose versions: by the method, by metadata, and by weights.
func TestRoutes(t *testing.T) {
	w := open(t)
	w.publish(page + callee + `
	version: {v1: port: grpc: address: "127.0.0.1:$v1", v2: port: grpc: address: "127.0.0.1:$v2"}
	grant: page: from: ["page"]
	route: {
		bye: {match: path: exact: "/shop.Greeter/Bye", to: v2: 100}
		testers: {match: headers: "x-tester": exact: "yes", to: v2: 100}
		get: {match: methods: ["GET"], to: v2: 100}
		default: to: {v1: 70, v2: 30}
	}}`)
	boot := w.program("greeter")
	w.serve(boot, "127.0.0.1:"+w.port("v1"), "v1")
	w.serve(boot, "127.0.0.1:"+w.port("v2"), "v2")
	conn := w.client(w.program("page"), "greeter.shop")
	w.answers(conn, "Hello", "v1")
	w.answers(conn, "Hello", "v2")
	const n, share = 600, 0.3
	second := 0
	for range n {
		got, err := w.call(conn, "Hello")
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(got, "v2 ") {
			second++
		}
		if got, err := w.call(conn, "Hello", "x-tester", "yes"); err != nil || !strings.HasPrefix(got, "v2 ") {
			t.Fatalf("a tester: %q %v", got, err)
		}
		if got, err := w.call(conn, "Bye"); err != nil || !strings.HasPrefix(got, "v2 ") {
			t.Fatalf("Bye: %q %v", got, err)
		}
	}
	if off := math.Abs(float64(second) - n*share); off > 5*math.Sqrt(n*share*(1-share)) { // by chance once in a million runs
		t.Errorf("%d of %d calls at v2", second, n)
	}
}

// Calls are tried again by their status, end in time, and fail in drills.
func TestRetryTimeoutFault(t *testing.T) {
	w := open(t)
	w.publish(page + callee + one + `
	grant: page: from: ["page"]
	route: {
		sleep: {match: path: exact: "/shop.Greeter/Sleep", timeout: "300ms"}
		broken: {match: path: exact: "/shop.Greeter/Broken", fault: {abort: {grpc: "data-loss", percent: 100}, owner: "shop", reason: "game day", until: "2099-01-01T00:00:00Z"}}
		once: {match: path: exact: "/shop.Greeter/Once", retry: attempts: 0}
		default: {to: default: 100, retry: {attempts: 2, grpc: ["unavailable"], idempotent: true, backoff: base: "5ms"}}
	}}`)
	g := w.serve(w.program("greeter"), "127.0.0.1:"+w.port("greeter"), "greeter")
	conn := w.client(w.program("page"), "greeter.shop")
	w.answers(conn, "Hello", "greeter "+asPage)
	g.mu.Lock()
	g.fail["Flaky"], g.fail["Once"], g.fail["Bye"] = 2, 1, 9
	g.mu.Unlock()
	if _, err := w.call(conn, "Flaky"); err != nil || g.count("Flaky") != 3 {
		t.Errorf("a call that fails twice: %v after %d tries", err, g.count("Flaky"))
	}
	if _, err := w.call(conn, "Bye"); status.Code(err) != codes.Unavailable || g.count("Bye") != 3 {
		t.Errorf("a call that always fails: %v after %d tries", err, g.count("Bye"))
	}
	if _, err := w.call(conn, "Once"); status.Code(err) != codes.Unavailable || g.count("Once") != 1 {
		t.Errorf("a call that is not tried again: %v after %d tries", err, g.count("Once"))
	}
	begun := time.Now()
	if _, err := w.call(conn, "Sleep"); status.Code(err) != codes.DeadlineExceeded || time.Since(begun) > 10*time.Second {
		t.Errorf("a call that sleeps: %v after %v", err, time.Since(begun))
	}
	if _, err := w.call(conn, "Broken"); status.Code(err) != codes.DataLoss || g.count("Broken") != 0 {
		t.Errorf("a call in a drill: %v, and the server was called %d times", err, g.count("Broken"))
	}
}

// A program calls a service behind a proxy, and the other way round; grants hold for both.
func TestBesideProxies(t *testing.T) {
	w := open(t)
	const old = `mesh: service: old: {port: grpc: {number: 9000, protocol: "grpc"}, version: default: port: grpc: {address: "127.0.0.1:$old", app: $oldapp}, `
	w.publish(`
mesh: service: page: {proxyless: true, port: grpc: {number: 9000, protocol: "grpc"}, version: default: port: grpc: address: "127.0.0.1:$page", calls: old: {}}
` + old + `calls: greeter: local: $local, grant: page: {from: ["page"], not: paths: ["/shop.Greeter/Secret"]}}
` + callee + one + `grant: old: {from: ["old"], not: paths: ["/shop.Greeter/Secret"]}}`)
	w.plain("127.0.0.1:"+w.port("oldapp"), "old")
	w.proxy("old")
	w.serve(w.program("greeter"), "127.0.0.1:"+w.port("greeter"), "greeter")
	program, proxied := w.client(w.program("page"), "old.shop"), w.dial("127.0.0.1:"+w.port("local"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	w.answers(program, "Hello", "old "+asPage)
	w.ends(program, "Secret", codes.PermissionDenied)
	w.answers(proxied, "Hello", "greeter spiffe://mesh.local/ns/shop/sa/old")
	w.ends(proxied, "Secret", codes.PermissionDenied)
}

// Who is not granted gets nothing in plaintext either, and who has no certificate no connection.
func TestNoWayAroundCertificates(t *testing.T) {
	w := open(t)
	w.publish(page + callee + one + `grant: all: mesh: true}`)
	w.serve(w.program("greeter"), "127.0.0.1:"+w.port("greeter"), "greeter")
	w.answers(w.client(w.program("page"), "greeter.shop"), "Hello", "greeter "+asPage)
	plain := w.dial("127.0.0.1:"+w.port("greeter"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := plain.Invoke(ctx, "/shop.Greeter/Hello", &emptypb.Empty{}, &wrapperspb.StringValue{}); status.Code(err) != codes.Unavailable {
		t.Errorf("in plaintext: %v", err)
	}
}
