package rehearsal

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/envoybin"
)

// program has one of each outcome.
func program(t *testing.T) *compiler.Program {
	t.Helper()
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	p, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `
mesh: namespace: "shop"
mesh: service: app: {
	port: {http: {number: 80, main: true}, raw: {number: 90, protocol: "tcp"}}
	grant: {get: {from: ["app"], methods: ["GET"], ports: ["http"]}, raw: {from: ["app"], ports: ["raw"]}}
	version: {v1: {}, v2: {}}
	route: {
		moved: {match: path: exact: "/moved", redirect: path: "/new"}
		edited: {match: path: exact: "/edited", to: v1: 100, requestHeaders: {set: "x-a": "set", add: "x-b": "added"}, responseHeaders: remove: ["x-app"]}
		all: to: v1: 100
	}
}
mesh: test: {
	first: {request: {from: "app", to: "app"}, expect: allowed: true}
	second: {request: {to: "app"}, expect: allowed: false}
}
`)},
	}, compiler.Options{At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	return p
}

func realEnvoy(t *testing.T) envoybin.Binary {
	t.Helper()
	b, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func seen(target, path string, headers map[string][]string) *Seen {
	return &Seen{Target: target, Method: "GET", Path: path, Host: defaultHost, Headers: headers}
}

// What agrees with everything would prove nothing.
func TestDiffersTells(t *testing.T) {
	p := program(t)
	edited := map[string][]string{"x-a": {"set"}, "x-b": {"sent", "added"}}
	back := map[string][]string{"x-app-two": {"first", "second"}}
	sent := []compiler.Header{{Name: "x-a", Value: "sent"}, {Name: "x-b", Value: "sent"}}
	for _, c := range []struct {
		name    string
		request compiler.Request
		same    []Reply
		differ  []Reply
	}{
		{"forward", compiler.Request{Path: "/a/../b?q=1"}, []Reply{{Status: 200, Seen: seen("shop/app/http/v1", "/b?q=1", nil), Headers: AppHeaders()}}, []Reply{
			{Status: 200, Seen: seen("shop/app/http/v2", "/b?q=1", nil), Headers: AppHeaders()},
			{Status: 200, Seen: seen("shop/app/http/v1", "/b", nil), Headers: AppHeaders()},
			{Status: 200, Seen: seen("shop/app/http/v1", "/a/../b?q=1", nil), Headers: AppHeaders()},
			{Status: 200, Seen: &Seen{Target: "shop/app/http/v1", Method: "POST", Path: "/b?q=1", Host: defaultHost}, Headers: AppHeaders()},
			{Status: 200, Seen: &Seen{Target: "shop/app/http/v1", Method: "GET", Path: "/b?q=1", Host: "other.test"}, Headers: AppHeaders()},
			{Status: 502, Seen: seen("shop/app/http/v1", "/b?q=1", nil), Headers: AppHeaders()},
			{Status: 403}, {Status: 404}, {Status: 503},
		}},
		{"edits", compiler.Request{Path: "/edited", Headers: sent}, []Reply{{Status: 200, Seen: seen("shop/app/http/v1", "/edited", edited), Headers: back}}, []Reply{
			{Status: 200, Seen: seen("shop/app/http/v1", "/edited", edited), Headers: AppHeaders()},
			{Status: 200, Seen: seen("shop/app/http/v1", "/edited", map[string][]string{"x-a": {"sent", "set"}, "x-b": {"sent", "added"}}), Headers: back},
			{Status: 200, Seen: seen("shop/app/http/v1", "/edited", map[string][]string{"x-a": {"set"}, "x-b": {"added"}}), Headers: back},
			{Status: 200, Seen: seen("shop/app/http/v1", "/edited", map[string][]string{"x-a": {"set"}, "x-b": {"sent,added"}}), Headers: back},
		}},
		{"denied", compiler.Request{Method: "POST"}, []Reply{{Status: 403}}, []Reply{
			{Status: 404}, {Status: 503}, {Status: 403, Seen: seen("shop/app/http/v1", "/", nil)}, {Status: 200, Seen: seen("shop/app/http/v1", "/", nil)},
		}},
		{"refused", compiler.Request{Path: "/a%2fb"}, []Reply{{Status: 400}}, []Reply{{Status: 403}, {Status: 200, Seen: seen("shop/app/http/v1", "/a%2fb", nil)}}},
		{"redirect", compiler.Request{Path: "/moved?q=1", Host: "App.Shop.:8080"}, []Reply{{Status: 301, Headers: map[string][]string{"location": {"http://app.shop:8080/new?q=1"}}}}, []Reply{
			{Status: 301}, {Status: 302, Headers: map[string][]string{"location": {"http://app.shop:8080/new?q=1"}}},
			{Status: 301, Headers: map[string][]string{"location": {"http://app.shop:8080/new"}}},
			{Status: 301, Headers: map[string][]string{"location": {"https://app.shop/new?q=1"}}},
			{Status: 301, Headers: map[string][]string{"location": {"http://b.shop:8080/new?q=1"}}},
			{Status: 301, Headers: map[string][]string{"location": {"http://app.shop/new?q=1"}}},
			{Status: 301, Headers: map[string][]string{"location": {"http://app.shop:8080/moved?q=1"}}},
		}},
		{"bytes", compiler.Request{Port: "raw"}, []Reply{{Seen: &Seen{Target: "shop/app/raw/v1"}}}, []Reply{{}, {Seen: &Seen{Target: "shop/app/raw/v2"}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.request
			r.From, r.To = "shop/app", "shop/app"
			want, err := p.Decide(r)
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range c.same {
				if why := Differs(want, r, got); why != "" {
					t.Errorf("%+v: %s", got, why)
				}
			}
			for _, got := range c.differ {
				if Differs(want, r, got) == "" {
					t.Errorf("nothing is said of %+v (%+v)", got, got.Seen)
				}
			}
		})
	}
}

func TestTestBlocksAreTriedInOrder(t *testing.T) {
	trials, err := Tests(t.Context(), realEnvoy(t), program(t), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if len(trials) != 2 || trials[0].Name != "first" || trials[0].Reply.Seen == nil || trials[1].Name != "second" || trials[1].Reply.Seen != nil {
		t.Errorf("got %+v", trials)
	}
	for _, x := range trials {
		if x.Differs != "" {
			t.Errorf("%s: %s", x.Name, x.Differs)
		}
	}
}

// left is what of the stage is still there.
func left(s *Stage) []string {
	var out []string
	for _, p := range s.processes {
		if p != nil && !errors.Is(syscall.Kill(-p.PID(), 0), syscall.ESRCH) {
			out = append(out, p.LogPath())
		}
	}
	if _, err := os.Stat(s.dir); err == nil {
		out = append(out, s.dir)
	}
	return out
}

func TestStopLeavesNothing(t *testing.T) {
	p := program(t)
	r := compiler.Request{From: "shop/app", To: "shop/app"}
	reh, err := p.Rehearse([]compiler.Request{r})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), realEnvoy(t), reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if len(left(s)) < 2 {
		t.Errorf("nothing runs: %v", left(s))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Ask(ctx, reh.Doors[0], r); !errors.Is(err, context.Canceled) {
		t.Errorf("asked after the end: %v", err)
	}
	s.Stop()
	s.Stop()
	if l := left(s); len(l) > 0 {
		t.Errorf("left: %v", l)
	}
	if _, err := s.Ask(t.Context(), reh.Doors[0], r); err == nil {
		t.Error("an answer after the end")
	}
}

func TestAFailedStartLeavesNothing(t *testing.T) {
	p := program(t)
	t.Setenv("TMPDIR", t.TempDir())
	dir := t.TempDir()
	script := filepath.Join(dir, "envoy")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho '[critical] cannot' >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	reh, err := p.Rehearse([]compiler.Request{{From: "shop/app", To: "shop/app"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), envoybin.Binary{Path: script}, reh, time.Now); err == nil || !strings.Contains(err.Error(), "cannot") {
		t.Errorf("got %v", err)
	}
	if l, err := os.ReadDir(os.TempDir()); err != nil || slices.ContainsFunc(l, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "meshc-") }) {
		t.Errorf("left: %v %v", l, err)
	}
}

// A proxy may end a connection before who opened it sees that it was there: that is the same answer.
func TestConnectionsThatEndAtOnceAreAnswered(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // the other side is often first
	raw, secure := compiler.Door{Listener: "raw", TCP: true}, compiler.Door{Listener: "secure", TLS: true}
	s := &Stage{doors: map[compiler.Door]string{raw: l.Addr().String(), secure: l.Addr().String()}}
	for range 100 {
		for d, want := range map[compiler.Door]Reply{raw: {}, secure: {Reset: true}} {
			if got, err := s.Ask(t.Context(), d, compiler.Request{}); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: got %+v, %v", d.Listener, got, err)
			}
		}
	}
	_ = l.Close()
	if got, err := s.Ask(t.Context(), raw, compiler.Request{}); err == nil {
		t.Errorf("nobody listens, and the answer is %+v", got)
	}
}

func TestOnlyCallersOfTheMeshCanBePlayed(t *testing.T) {
	_, err := program(t).Rehearse([]compiler.Request{{From: "spiffe://other.test/ns/shop/sa/app", To: "shop/app"}})
	if err == nil || !strings.Contains(err.Error(), "other.test") {
		t.Errorf("got %v", err)
	}
}

// TestTokensAreSignedInARehearsal: tests whose requests bring tokens along are tried with real ones, which the
// rehearsal's Envoys believe although nobody has the issuers' keys.
func TestTokensAreSignedInARehearsal(t *testing.T) {
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	const keys = `#"{"keys":[{"kty":"EC","crv":"P-256","x":"1EyHU0RHWAnQ8Dypb2oWlYkqvjcncRRnqe5dMN_to0E","y":"oK9oUjQujv9y45Gk55xLVBs7NFX64HYYkSjMhWG0opI"}]}"#`
	p, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `
mesh: namespace: "shop"
mesh: jwt: corp: {issuer: "https://id.example", audiences: ["shop"], keys: inline: ` + keys + `}
mesh: jwt: shown: {issuer: "https://id.example", audiences: ["shop"], keys: inline: ` + keys + `, from: query: ["token"], forward: true}
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: service: app: {port: http: number: 80, users: {corp: {}, shown: {}}, grant: {
	staff: {from: ["web"], methods: ["POST"], user: corp: claims: {"org.groups": ["staff"], role: ["one", "two"]}}
	shown: {from: ["web"], methods: ["GET"], user: shown: subjects: ["jason"]}
}}
mesh: test: {
	staff: {request: {from: "web", to: "app", method: "POST", user: corp: claims: {"org.groups": ["all", "staff"], role: ["two"]}}, expect: allowed: true}
	others: {request: {from: "web", to: "app", method: "POST", user: corp: claims: {"org.groups": ["all"], role: ["two"]}}, expect: {allowed: false, status: 403}}
	nobody: {request: {from: "web", to: "app", method: "POST"}, expect: {allowed: false, status: 403}}
	expired: {request: {from: "web", to: "app", method: "POST", user: corp: token: "invalid"}, expect: {allowed: false, status: 401}}
	elsewhere: {request: {from: "web", to: "app", method: "POST", user: corp: token: "other-audience"}, expect: {allowed: false, status: 403}}
	shown: {request: {from: "web", to: "app", path: "/x?a=1", user: shown: claims: sub: ["jason"]}, expect: allowed: true}
	hidden: {request: {from: "web", to: "app", path: "/x?a=1", user: shown: claims: sub: ["eve"]}, expect: allowed: false}
}
`)},
	}, compiler.Options{At: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Test() {
		if r.Failure != "" {
			t.Errorf("%s: the evaluator says %s", r.Name, r.Failure)
		}
	}
	trials, err := Tests(t.Context(), realEnvoy(t), p, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	statuses := map[string]int{"staff": 200, "others": 403, "nobody": 403, "expired": 401, "elsewhere": 403, "shown": 200, "hidden": 403}
	for _, x := range trials {
		if x.Untried != "" || x.Differs != "" || x.Reply == nil || x.Reply.Status != statuses[x.Name] {
			t.Errorf("%s: %+v, %s %s, want %d", x.Name, x.Reply, x.Untried, x.Differs, statuses[x.Name])
		}
	}
}
