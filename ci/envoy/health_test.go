package envoy

import (
	"context"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/rehearsal"
)

// TestWhoIsNotWellGetsNothing: a proxy asks the addresses of an external as is written, and those
// that do not answer so get requests only as long as too few are well.
func TestWhoIsNotWellGetsNothing(t *testing.T) {
	const quickly = `interval: "1s", unhealthy: 1, timeout: "1s"`
	for words, c := range map[string]struct {
		well   bool
		status int
	}{
		`panic: 0, health: {http: path: "/healthz", ` + quickly + `}`:                         {true, http.StatusOK},
		`panic: 0, health: {http: {path: "/healthz", statuses: [204]}, ` + quickly + `}`:      {false, http.StatusServiceUnavailable},
		`health: {http: {path: "/healthz", statuses: [204, 299]}, ` + quickly + `}`:           {false, http.StatusOK}, // Envoy's panic threshold
		`panic: 0, health: {http: {path: "/healthz", statuses: [200, 204]}, ` + quickly + `}`: {true, http.StatusOK},
		`panic: 0, health: {tcp: {}, ` + quickly + `}`:                                        {true, http.StatusOK},
	} {
		t.Run(words, func(t *testing.T) {
			p := startOutside(t, "retry: attempts: 0, "+words)
			const cluster = "cluster.external/shop/bank/api."
			p.until("the address is asked", func() bool {
				return p.count(cluster+"health_check.success") > 0 && c.well || p.count(cluster+"health_check.failure") > 0 && !c.well
			})
			if got := p.ask("/", 0, 0); got.Status != c.status {
				t.Errorf("status %d, want %d", got.Status, c.status)
			}
		})
	}
}

// TestConnectionsToOneWorkloadAreBounded: requests that find the connections to a workload taken wait for one.
func TestConnectionsToOneWorkloadAreBounded(t *testing.T) {
	for words, most := range map[string]int{"circuitBreaker: perHost: maxConnections: 1": 1, "retry: attempts: 0": 3} {
		t.Run(words, func(t *testing.T) {
			p := startOutside(t, words)
			const wait = 200 * time.Millisecond
			began := time.Now()
			var asked sync.WaitGroup
			for range 3 {
				asked.Go(func() {
					got, err := p.stage.Ask(p.ctx, p.door, compiler.Request{Path: "/", Headers: []compiler.Header{{Name: rehearsal.WaitHeader, Value: wait.String()}}})
					if err != nil || got.Status != http.StatusOK {
						t.Errorf("%d, %v", got.Status, err)
					}
				})
			}
			asked.Wait()
			if n := p.count("cluster.external/shop/bank/api.upstream_cx_total"); n != most || most == 1 && time.Since(began) < 3*wait {
				t.Errorf("%d connections in %v, want %d", n, time.Since(began), most)
			}
		})
	}
}

// TestWorkloadThatIsNotWellGetsNothing: callers' proxies ask each workload of a service through its own proxy, as who they
// are, and send to those that answer well; no grant of the service is about that path, and what nobody with an identity asks is
// refused.
func TestWorkloadThatIsNotWellGetsNothing(t *testing.T) {
	const app = "shop/app/http/default"
	p := shop(t, `
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: service: app: {
	port: http: number: 80
	endpoints: file: "app"
	grant: web: {from: ["web"], paths: ["/page"]}
	panic: 0
	health: {http: path: "/healthz", interval: "1s", unhealthy: 1, timeout: "1s"}
}`)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	reh, err := p.Rehearse([]compiler.Request{{From: "shop/web", To: "shop/app"}})
	if err != nil {
		t.Fatal(err)
	}
	stage, err := rehearsal.StartMany(ctx, realEnvoy(t), reh, time.Now, map[release.Class]int{{Role: release.Sidecar, Namespace: "shop", Account: "app"}: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	c := &play{t, ctx, stage, reh.Doors[0], ""}
	answers := func(want ...int) func() bool {
		return func() bool {
			got := map[int]bool{}
			for range 40 { // so many that chance leaves none out
				r := c.ask("/page", 0, 0)
				if r.Status != http.StatusOK || r.Seen == nil {
					return false // none has been asked yet, or what a worker knows is older
				}
				got[r.Seen.Workload] = true
			}
			return slices.Equal(slices.Sorted(maps.Keys(got)), want)
		}
	}
	c.until("both answer", answers(0, 1))
	back, err := stage.Away(app)
	if err != nil {
		t.Fatal(err)
	}
	c.until("the one that is there answers", answers(1))
	c.until("one of them is well", func() bool { return c.count("cluster."+app+".membership_healthy") == 1 })
	if err := back(ctx); err != nil {
		t.Fatal(err)
	}
	c.until("both answer again", answers(0, 1))
	for _, s := range stage.Seen() {
		if by := strings.Join(s.Headers["x-forwarded-client-cert"], ","); s.Path == "/healthz" && !strings.Contains(by, "/sa/web") {
			t.Errorf("%q asked, want the caller", by)
		}
	}
}

// TestWorkloadsSayByGRPCThatTheyAreWell: by the health checking protocol, through the service's own proxy.
func TestWorkloadsSayByGRPCThatTheyAreWell(t *testing.T) {
	p := startAt(t, `
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: service: app: {
	port: rpc: {number: 80, protocol: "grpc"}
	endpoints: file: "app"
	grant: web: {from: ["web"], grpc: service: "shop.Cart"}
	health: {grpc: service: "shop.Cart", interval: "1s", unhealthy: 1, timeout: "1s"}
}`, compiler.Request{From: "shop/web", To: "shop/app"})
	const app = "shop/app/rpc/default"
	well := func(n int) func() bool {
		return func() bool { return p.count("cluster."+app+".membership_healthy") == n }
	}
	p.until("what speaks no gRPC is not well", well(0))
	h := health.NewServer()
	h.SetServingStatus("shop.Cart", healthpb.HealthCheckResponse_SERVING)
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, h)
	t.Cleanup(s.Stop)
	if err := p.stage.Recast(p.ctx, app, func(l net.Listener) { _ = s.Serve(l) }); err != nil {
		t.Fatal(err)
	}
	p.until("it is well", well(1))
	h.SetServingStatus("shop.Cart", healthpb.HealthCheckResponse_NOT_SERVING)
	p.until("it says that it is not", well(0))
}

// TestWhoRefusesTheQuestionHasNoneWell: what stands in front of the application answers health checks, too; by a connection nothing of it is met.
func TestWhoRefusesTheQuestionHasNoneWell(t *testing.T) {
	for _, c := range []struct {
		health string
		well   int
	}{{`http: path: "/healthz"`, 0}, {`tcp: {}`, 1}} {
		p := startAt(t, `
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: service: app: {
	port: http: number: 80
	endpoints: file: "app"
	grant: web: {from: ["web"], paths: ["/page"]}
	health: {`+c.health+`, interval: "1s", unhealthy: 1, timeout: "1s"}
	lua: guard: {owner: "shop", code: """
		function envoy_on_request(handle)
			if handle:headers():get(":path") == "/healthz" then handle:respond({[":status"] = "403"}, "no") end
		end
		"""}
}`, compiler.Request{From: "shop/web", To: "shop/app"})
		p.until(c.health, func() bool {
			return p.count("cluster.shop/app/http/default.health_check.attempt") > 0 && p.count("cluster.shop/app/http/default.membership_healthy") == c.well
		})
	}
}
