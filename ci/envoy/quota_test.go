package envoy

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/ci/tools"
	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/rehearsal"
)

// freePort is a port of loopback that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// runs starts a program until the test ends, or it is ended.
func runs(t *testing.T, env []string, program string, args ...string) (end func()) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), program, args...)
	c.Env, c.Stdout, c.Stderr = append(os.Environ(), env...), out, out
	if err := c.Start(); err != nil {
		t.Fatalf("%s, which CONTRIBUTING.md names among what tests need: %v", program, err)
	}
	end = sync.OnceFunc(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	t.Cleanup(func() {
		end()
		if text, err := os.ReadFile(out.Name()); err == nil && t.Failed() {
			t.Logf("%s: %s", program, text[max(0, len(text)-4096):])
		}
	})
	return end
}

// limiter is a real rate limit service of Envoy's with a real Redis: its address, and its end.
func limiter(t *testing.T) (address string, end func()) {
	t.Helper()
	dir, err := tools.Find(t.Context(), tools.Ratelimit(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "redis")
	runs(t, nil, "redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no")
	config := t.TempDir()
	if err := os.MkdirAll(filepath.Join(config, "limits", "config"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "limits", "config", "meshc.yaml"), []byte("domain: meshc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "Redis", "unix", socket)
	port := freePort(t)
	end = runs(t, []string{"USE_STATSD=false", "LOG_LEVEL=warn", "REDIS_SOCKET_TYPE=unix", "REDIS_URL=" + socket, "RUNTIME_ROOT=" + config, "RUNTIME_SUBDIRECTORY=limits", "RUNTIME_WATCH_ROOT=false",
		"HOST=127.0.0.1", "PORT=" + freePort(t), "GRPC_HOST=127.0.0.1", "GRPC_PORT=" + port, "DEBUG_HOST=127.0.0.1", "DEBUG_PORT=" + freePort(t)}, filepath.Join(dir, "service_cmd"))
	address = net.JoinHostPort("127.0.0.1", port)
	waitFor(t, "the rate limit service", "tcp", address)
	return address, end
}

// waitFor polls until something listens.
func waitFor(t *testing.T, what, network, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not listen: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// to passes connections on to an address.
func to(address string) func(net.Listener) {
	return func(l net.Listener) {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", address)
			if err != nil {
				_ = in.Close()
				continue
			}
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.Close()
				_ = from.Close()
			}
			go pass(out, in)
			go pass(in, out)
		}
	}
}

const limits = "platform/limits/grpc/default"

// TestQuotasAreCountedTogether: a real limiter counts for all workloads of a service, each caller or
// each value of a header by itself, and nothing of what a grant refuses. One that looks on refuses
// nothing; while nobody counts, requests pass or are refused as intent says.
func TestQuotasAreCountedTogether(t *testing.T) {
	const head, workloads = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n", 2
	service := func(name, quota string) string {
		return "\nmesh: service: " + name + `: {port: http: number: 80, grant: all: {from: ["web", "job", "gateway/edge"], paths: ["/", "/open"]}, balance: roundRobin: {}, quota: ` + quota + "}"
	}
	prog, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head + `mesh: limiter: main: {to: "platform/limits", timeout: "2s"}`)},
		"platform/platform.cue": {Data: []byte("package platform\n" + head + `mesh: namespace: "platform"
mesh: service: limits: {port: grpc: {number: 8081, protocol: "grpc"}, grant: quotas: {mesh: true, methods: ["POST"], paths: ["/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"]}}`)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"
mesh: service: {web: port: http: number: 80, job: port: http: number: 80}
mesh: gateway: edge: {port: http: number: 80, host: "shop.test": {quota: visitors: {limiter: "main", onFailure: "refuse", requests: 3, per: "24h", by: client: true}, route: {all: to: seen: 100, free: {match: path: prefix: "/open", to: seen: 100, quota: {}}}}}` +
			service("app", `{all: {limiter: "main", onFailure: "refuse", requests: 6, per: "24h"}, each: {limiter: "main", onFailure: "admit", requests: 5, per: "24h", by: {identity: true}}}`) +
			service("keyed", `{tenants: {limiter: "main", onFailure: "admit", requests: 2, per: "24h", by: {headers: ["x-tenant"]}}}`) +
			service("both", `{all: {limiter: "main", onFailure: "admit", requests: 2, per: "24h"}}, rateLimit: own: {requests: 1, per: "24h", status: 503}`) +
			service("dear", `{open: {limiter: "main", onFailure: "refuse", requests: 1, per: "24h", by: {identity: true}, paths: ["/open"], not: {methods: ["PUT"]}}}`) +
			service("seen", `{all: {limiter: "main", onFailure: "refuse", requests: 1, per: "24h", shadow: true}}`))},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	reh, err := prog.Rehearse([]compiler.Request{{From: "shop/web", To: "shop/app"}, {From: "shop/job", To: "shop/app"}, {From: "shop/web", To: "shop/keyed"}, {From: "shop/web", To: "shop/seen"}, {To: "gateway/shop/edge", Host: "shop.test"}, {From: "shop/web", To: "shop/dear"}, {From: "shop/web", To: "shop/both"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	address, end := limiter(t)
	stage, err := rehearsal.StartMany(ctx, realEnvoy(t), reh, time.Now, map[release.Class]int{{Role: release.Sidecar, Namespace: "shop", Account: "app"}: workloads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	if err := stage.Recast(ctx, limits, to(address)); err != nil {
		t.Fatal(err)
	}
	const web, job, keyed, seen, edge, dear, both = 0, 1, 2, 3, 4, 5, 6
	asked := map[int]bool{}
	ask := func(door int, path string, headers ...compiler.Header) int {
		t.Helper()
		r := compiler.Request{Path: path, Headers: headers}
		if door == edge {
			r.Host = "shop.test"
		}
		got, err := stage.Ask(ctx, reh.Doors[door], r)
		if err != nil {
			t.Fatal(err)
		}
		if got.Seen != nil && door <= job {
			asked[got.Seen.Workload] = true
		}
		return got.Status
	}
	expect := func(what string, door int, path string, want []int, headers ...compiler.Header) {
		t.Helper()
		var got []int
		for range want {
			got = append(got, ask(door, path, headers...))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	expect("what no grant lets in", web, "/closed", []int{403, 403, 403, 403, 403, 403, 403})
	expect("one caller", web, "/", []int{200, 200, 200, 200, 200, 429})
	expect("another one, behind what all together may", job, "/", []int{429})
	if len(asked) != workloads {
		t.Errorf("%d workloads were asked, want %d", len(asked), workloads)
	}
	tenant := func(name string) compiler.Header { return compiler.Header{Name: "x-tenant", Value: name} }
	expect("a tenant", keyed, "/", []int{200, 200, 429}, tenant("a"))
	expect("another tenant", keyed, "/", []int{200, 200, 429}, tenant("b"))
	expect("who says no tenant", keyed, "/", []int{200, 200, 429})
	expect("a quota that looks on", seen, "/", []int{200, 200, 200})
	expect("a visitor", edge, "/", []int{200, 200, 200, 429})
	expect("a route without", edge, "/open", []int{200, 200, 200, 200})
	expect("what a proxy's own limit refuses, of which the quota hears nothing", both, "/", []int{200, 503, 503, 503})
	expect("what a quota leaves out", dear, "/", []int{200, 200, 200})
	expect("what it counts", dear, "/open", []int{200, 429})
	expect("what it counts, in another spelling that no grant admits", dear, "/%6fpen", []int{429})
	expect("what it leaves out, still", dear, "/", []int{200})

	end()
	expect("admitted while nobody counts", keyed, "/", []int{200, 200, 200}, tenant("a"))
	expect("refused while nobody counts", web, "/", []int{503, 503})
	expect("refused to visitors while nobody counts", edge, "/", []int{503, 503})
	expect("refused of what is counted while nobody counts", dear, "/open", []int{503})
	expect("what a quota leaves out, while nobody counts", dear, "/", []int{200})
	expect("a quota that looks on, while nobody counts", seen, "/", []int{200, 200})
}
