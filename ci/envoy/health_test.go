package envoy

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// TestWhoIsNotWellGetsNothing: a proxy asks the addresses of an external as is written, and those
// that do not answer so get requests only as long as too few are well.
func TestWhoIsNotWellGetsNothing(t *testing.T) {
	const quickly = `interval: "100ms", unhealthy: 1, timeout: "1s"`
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
