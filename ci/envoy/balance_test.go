package envoy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/rehearsal"
)

// workloads is how many of them a service has to choose from.
const workloads = 3

// crowd is a rehearsal of a service "shop/app" with several workloads, called by "shop/web" at
// a port of its own for each choice, and by a gateway.
type crowd struct {
	t     *testing.T
	ctx   context.Context
	stage *rehearsal.Stage
	doors map[string]compiler.Door // by the port's name, and "edge"
}

func gather(t *testing.T) crowd {
	t.Helper()
	p := shop(t, `
mesh: service: web: port: http: number: 80
mesh: service: app: {
	port: {
		usual: {number: 80, main: true}
		round: {number: 81, balance: roundRobin: {}}
		slow: {number: 87, balance: leastRequest: slowStart: window: "1h"}
		turns: {number: 88, balance: roundRobin: slowStart: window: "30m"}
		random: {number: 82, balance: random: {}}
		header: {number: 83, balance: hash: header: "X-Tenant"}
		cookie: {number: 84, protocol: "grpc", balance: hash: cookie: "tenant"}
		query: {number: 85, protocol: "http2", balance: hash: {query: "tenant", table: "maglev"}}
		source: {number: 86, balance: hash: source: true}
		kept: {number: 89, session: cookie: {name: "app-workload", ttl: "1h"}}
		bytes: {number: 90, protocol: "tcp", balance: hash: {source: true, table: "maglev"}}
		spread: {number: 91, protocol: "tcp"}
	}
	grant: all: {mesh: true, ports: ["usual", "round", "slow", "turns", "random", "header", "cookie", "query", "source", "kept", "bytes", "spread"]}
	route: {
		edited: {match: path: prefix: "/edited", to: default: 100, requestHeaders: set: "x-tenant": "one"}
		rest: to: default: 100
	}
}
mesh: gateway: edge: {port: http: number: 80, host: "*": route: all: {destination: app: port: "header", to: app: 100}}
`)
	names := []string{"usual", "round", "slow", "turns", "random", "header", "cookie", "query", "source", "kept", "bytes", "spread"}
	var rs []compiler.Request
	for _, port := range names {
		rs = append(rs, compiler.Request{From: "shop/web", To: "shop/app", Port: port})
	}
	reh, err := p.Rehearse(append(rs, compiler.Request{To: "gateway/shop/edge"}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	app := release.Class{Role: release.Sidecar, Namespace: "shop", Account: "app"}
	stage, err := rehearsal.StartMany(ctx, realEnvoy(t), reh, time.Now, map[release.Class]int{app: workloads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	c := crowd{t, ctx, stage, map[string]compiler.Door{}}
	for i, name := range append(names, "edge") {
		c.doors[name] = reh.Doors[i]
	}
	return c
}

// ask is which workload gets a request.
func (c crowd) ask(door string, r compiler.Request) int {
	c.t.Helper()
	got, err := c.stage.Ask(c.ctx, c.doors[door], r)
	if err != nil || got.Seen == nil {
		c.t.Fatalf("%s: %+v, %v", door, got, err)
	}
	return got.Seen.Workload
}

// connect is which workload gets a connection from an address of this host.
func (c crowd) connect(door string, from net.IP) int {
	c.t.Helper()
	addr, _ := c.stage.Address(c.doors[door])
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	conn, err := d.DialContext(c.ctx, "tcp", addr)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	defer context.AfterFunc(c.ctx, func() { _ = conn.Close() })()
	var seen rehearsal.Seen
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		c.t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	if err := json.Unmarshal(line, &seen); err != nil {
		c.t.Fatal(err)
	}
	return seen.Workload
}

// Requests that differ in nothing are spread over all workloads, unless something of them is
// hashed: so many that chance cannot leave one of them out.
func TestWorkloadsShareWhatIsNotHashed(t *testing.T) {
	const n = 40 * workloads
	c := gather(t)
	for name, ask := range map[string]func() int{
		"usual":              func() int { return c.ask("usual", compiler.Request{}) },
		"round":              func() int { return c.ask("round", compiler.Request{}) },
		"slow":               func() int { return c.ask("slow", compiler.Request{}) }, // all are as new
		"turns":              func() int { return c.ask("turns", compiler.Request{}) },
		"random":             func() int { return c.ask("random", compiler.Request{}) },
		"header without one": func() int { return c.ask("header", compiler.Request{}) },
		"cookie without one": func() int { return c.ask("cookie", compiler.Request{}) },
		"query without one":  func() int { return c.ask("query", compiler.Request{}) },
		"bytes":              func() int { return c.connect("spread", net.IPv4(127, 0, 0, 1)) },
	} {
		got := map[int]int{}
		for range n {
			got[ask()]++
		}
		if len(got) != workloads {
			t.Errorf("%s: %v", name, got)
		}
		for w, k := range got {
			if off := k - n/workloads; name == "round" && max(off, -off) > 2 { // one that is sent again takes a turn
				t.Errorf("one after the other, workload %d got %d of %d", w, k, n)
			}
		}
	}
	page, err := c.stage.Admin(c.ctx, c.doors["usual"].Class, "/config_dump?resource=static_clusters&name_regex=shop/app/(slow|turns)/default")
	if err != nil {
		t.Fatal(err)
	}
	for _, window := range []string{`"3600s"`, `"1800s"`} {
		if !strings.Contains(string(page), `"slow_start_window": `+window) {
			t.Errorf("no slow start of %s: %s", window, page)
		}
	}
	source := map[int]int{}
	for range n {
		source[c.ask("source", compiler.Request{})]++
	}
	if len(source) != 1 {
		t.Errorf("from one source: %v", source)
	}
}

// What is hashed and equal goes to one workload, whoever sends it, and what differs is spread:
// of so many values two differ in their workload, but for one run in a billion.
func TestEqualRequestsMeet(t *testing.T) {
	const values, times = 20, 4
	c := gather(t)
	tenant := func(i int) string { return fmt.Sprintf("tenant-%d", i) }
	with := func(name, value string) compiler.Request {
		return compiler.Request{Headers: []compiler.Header{{Name: "x-other", Value: fmt.Sprint(time.Now().UnixNano())}, {Name: name, Value: value}}}
	}
	byHeader := map[int]int{}
	for name, ask := range map[string]func(value int) int{
		"header": func(i int) int {
			byHeader[i] = c.ask("header", with("x-tenant", tenant(i)))
			return byHeader[i]
		},
		"cookie": func(i int) int { return c.ask("cookie", with("cookie", "a=b; tenant="+tenant(i))) },
		"query":  func(i int) int { return c.ask("query", compiler.Request{Path: "/?a=b&tenant=" + tenant(i)}) },
		"bytes":  func(i int) int { return c.connect("bytes", net.IPv4(127, 0, 1, byte(i+1))) },
	} {
		got := map[int]bool{}
		for i := range values {
			met := map[int]bool{}
			for range times {
				met[ask(i)] = true
			}
			if len(met) != 1 {
				t.Errorf("%s: value %d met %v", name, i, slices.Collect(maps.Keys(met)))
			}
			maps.Copy(got, met)
		}
		if len(got) < 2 {
			t.Errorf("%s: all %d values met %v", name, values, got)
		}
	}
	edited := map[int]bool{}
	for i := range values {
		r := with("x-tenant", tenant(i))
		r.Path = "/edited"
		edited[c.ask("header", r)] = true
	}
	if len(edited) != 1 { // what is hashed is the request as its route leaves it
		t.Errorf("one header that the route sets: %v", edited)
	}
	for i := range values {
		if at := c.ask("edge", with("x-tenant", tenant(i))); at != byHeader[i] {
			t.Errorf("value %d from the gateway met %d, from a sidecar %d", i, at, byHeader[i])
		}
	}
}

// Whoever brings the cookie back that came with the first answer gets the same workload, and another one where that is gone;
// who brings none is not kept to any.
func TestCallersComeBackToTheirWorkload(t *testing.T) {
	const callers, times = 8, 6
	c := gather(t)
	send := func(cookie string) rehearsal.Reply {
		r := compiler.Request{Path: "/"}
		if cookie != "" {
			r.Headers = []compiler.Header{{Name: "cookie", Value: "a=b; " + cookie}}
		}
		got, err := c.stage.Ask(c.ctx, c.doors["kept"], r)
		if err != nil || got.Seen == nil {
			t.Fatalf("%+v, %v", got, err)
		}
		return got
	}
	met := map[int]bool{}
	for range callers {
		first := send("")
		said := strings.Join(first.Headers["set-cookie"], "|")
		cookie, attributes, _ := strings.Cut(said, ";")
		if !strings.HasPrefix(cookie, "app-workload=") || !strings.Contains(attributes, "Max-Age=3600") || !strings.Contains(attributes, "HttpOnly") || !strings.Contains(attributes, "Path=/") {
			t.Fatalf("the first answer says %q", said)
		}
		for range times {
			again := send(cookie)
			if again.Seen.Workload != first.Seen.Workload || len(again.Headers["set-cookie"]) > 0 {
				t.Errorf("back at %d, first at %d, told %v", again.Seen.Workload, first.Seen.Workload, again.Headers["set-cookie"])
			}
		}
		met[first.Seen.Workload] = true
	}
	for range workloads * 20 {
		met[send("").Seen.Workload] = true
	}
	if len(met) != workloads {
		t.Errorf("whoever brings no cookie met %v", met)
	}
	if got := send("app-workload=bm9ib2R5"); len(got.Headers["set-cookie"]) != 1 {
		t.Errorf("of a cookie that names no workload %v is made", got.Headers["set-cookie"])
	}
}
