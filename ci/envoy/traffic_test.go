package envoy

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// shop is a mesh of one namespace.
func shop(t *testing.T, body string) *compiler.Program {
	t.Helper()
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	p, ds := compiler.Load(fstest.MapFS{
		"mesh.cue":      {Data: []byte("package mesh\n" + head)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + "mesh: namespace: \"shop\"\n" + body)},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	return p
}

// A share is what intent says, give or take what chance allows: five standard
// deviations, so that one run in a million fails for nothing.
func TestSharesAreKept(t *testing.T) {
	for name, says := range map[string]string{"as written": "", "of versions that would leave theirs to others": `empty: "spread"`} {
		t.Run(name, func(t *testing.T) { sharesAreKept(t, says) })
	}
}

// sharesAreKept looks at the shares of versions of which some say something.
func sharesAreKept(t *testing.T, says string) {
	const n = 600
	p := shop(t, fmt.Sprintf(`
mesh: service: app: {
	port: {http: {number: 80, main: true}, raw: {number: 90, protocol: "tcp"}}
	grant: all: {mesh: true, ports: ["http", "raw"]}
	version: {v1: {%[1]s}, v2: {%[1]s}, v3: {}}
	route: all: to: {v1: 10, v2: 60, v3: 30}
}
mesh: service: other: {port: http: number: 80, grant: all: mesh: true, version: {v1: {%[1]s}, v2: {}}, route: all: to: {v1: 50, v2: 50}}
mesh: gateway: edge: {port: http: number: 80, host: "*": route: all: to: {app: 20, other: 80}}
`, says))
	for name, r := range map[string]compiler.Request{
		"requests": {From: "shop/app", To: "shop/app"}, "connections": {From: "shop/app", To: "shop/app", Port: "raw"}, "at a gateway": {To: "gateway/shop/edge"},
	} {
		t.Run(name, func(t *testing.T) {
			want := map[string]float64{}
			a, err := p.Decide(r)
			if err != nil {
				t.Fatal(err)
			}
			total := 0
			for _, s := range a.Outcome.Shares {
				total += s.Weight
			}
			for _, s := range a.Outcome.Shares {
				want[s.Target] = float64(s.Weight) / float64(total)
			}
			got := map[string]int{}
			for _, x := range try(t, realEnvoy(t), p, slices.Repeat([]compiler.Request{r}, n)) {
				if x.differs != "" || x.got.Seen == nil {
					t.Fatalf("%+v: %s", x.got, x.differs)
				}
				got[x.got.Seen.Target]++
			}
			if len(want) < 3 || len(got) != len(want) {
				t.Errorf("want %v, got %v", want, got)
			}
			for target, share := range want {
				if off := math.Abs(float64(got[target]) - share*n); off > 5*math.Sqrt(n*share*(1-share)) {
					t.Errorf("%s got %d of %d requests, its share is %.2f", target, got[target], n, share)
				}
			}
		})
	}
}

// Copies arrive where intent says, as the requests are, and only if that
// destination lets the caller in; what is refused before is not copied.
func TestCopiesArrive(t *testing.T) {
	p := shop(t, `
mesh: service: app: {
	port: http: number: 80
	grant: get: {mesh: true, methods: ["GET"]}
	route: {
		all: {match: path: prefix: "/all", to: default: 100, requestHeaders: set: "x-edited": "yes", mirror: {v2: {}, more: {}}, destination: v2: {service: "copies", version: "v2"}}
		none: {match: path: prefix: "/none", to: default: 100, mirror: v1: percent: 0, destination: v1: {service: "copies", version: "v1"}}
		closed: {match: path: prefix: "/closed", to: default: 100, mirror: closed: {}}
		broken: {
			match: path: prefix: "/broken"
			to: default: 100
			mirror: v1: {}
			destination: v1: {service: "copies", version: "v1"}
			fault: {abort: {status: 418, percent: 100}, owner: "ops", reason: "test", until: "2030-01-01T00:00:00Z"}
		}
	}
}
mesh: service: copies: {port: http: number: 80, grant: all: mesh: true, version: {v1: {}, v2: {}}}
mesh: service: more: {port: http: number: 80, grant: all: mesh: true}
mesh: service: closed: {port: http: number: 80}
`)
	var rs []compiler.Request
	for i, path := range []string{"/all/a", "/none/b", "/closed/c", "/broken/d", "/all/e?q=1"} {
		rs = append(rs, compiler.Request{From: "shop/app", To: "shop/app", Path: path, Headers: []compiler.Header{{Name: "x-id", Value: fmt.Sprint(i)}}})
	}
	// The last one's copy comes when a copy that should not be would have come, too.
	rs = append(rs, compiler.Request{From: "shop/app", To: "shop/app", Method: "POST", Path: "/all/f"}, compiler.Request{From: "shop/app", To: "shop/app", Path: "/all/last"})
	want := map[string]int{
		"shop/app/http/default /all/a": 1, "shop/app/http/default /none/b": 1, "shop/app/http/default /closed/c": 1, "shop/app/http/default /all/e?q=1": 1,
		"shop/copies/http/v2 /all/a": 1, "shop/copies/http/v2 /all/e?q=1": 1,
		// The caller's proxy copies before the callee's refuses.
		"shop/copies/http/v2 /all/f": 1, "shop/app/http/default /all/last": 1, "shop/copies/http/v2 /all/last": 1,
	}
	for _, path := range []string{"/all/a", "/all/e?q=1", "/all/f", "/all/last"} { // to several at once
		want["shop/more/http/default "+path] = 1
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	reh, err := p.Rehearse(rs)
	if err != nil {
		t.Fatal(err)
	}
	stage, err := rehearsal.Start(ctx, realEnvoy(t), reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Stop()
	for i, r := range rs {
		if _, err := stage.Ask(ctx, reh.Doors[i], r); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]int{}
	for ctx.Err() == nil && !maps.Equal(got, want) {
		clear(got)
		for _, s := range stage.Seen() {
			got[s.Target+" "+s.Path]++
			if s.Path == "/all/a" && (s.Headers["x-id"][0] != "0" || s.Headers["x-edited"][0] != "yes" || s.Host != "rehearsal.invalid") {
				t.Fatalf("%+v", s)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// stageOf starts the proxies that are asked for answers to these requests, until the test
// ends.
func stageOf(ctx context.Context, t *testing.T, p *compiler.Program, rs []compiler.Request) (compiler.Rehearsal, *rehearsal.Stage) {
	t.Helper()
	reh, err := p.Rehearse(rs)
	if err != nil {
		t.Fatal(err)
	}
	stage, err := rehearsal.Start(ctx, realEnvoy(t), reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	return reh, stage
}
