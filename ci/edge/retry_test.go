package edge

import (
	"fmt"
	"net/http"
	"testing"
)

// again are services of one set of workloads, none of which is ever taken out: what fails is tried once more, of one in
// another zone first, of one that ranks zones twice.
const again = `
#Again: {statuses: [500], idempotent: true, ...}
#Stays: {port: http: number: int, grant: visitors: from: ["gateway/edge"], endpoints: file: "zones", outlier: {consecutive5xx: 1000000, interval: "1h"}, buffer: "1MiB", ...}
mesh: service: other: #Stays & {port: http: number: 8081, locality: prefer: "zone", retry: #Again & {attempts: 1, otherZone: true}}
mesh: service: same: #Stays & {port: http: number: 8082, locality: prefer: "zone", retry: #Again & {attempts: 1}}
mesh: service: ranks: #Stays & {port: http: number: 8083, locality: failover: a: {b: 1, c: 2}, retry: #Again & {attempts: 2, otherZone: true}}
mesh: gateway: edge: host: {
	"other.test": route: all: to: other: 100
	"same.test": route: all: to: same: 100
	"ranks.test": route: all: to: ranks: 100
}
`

// answered is how many of a hundred requests for a host are answered well.
func (e *edge) answered(host string) int {
	e.t.Helper()
	n := 0
	for range 100 {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", e.plain), nil)
		if err != nil {
			e.t.Fatal(err)
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			e.t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			n++
		}
	}
	return n
}

// What fails in the caller's zone, both of its workloads, is tried again in another one where that is written. Of zones in ranks the
// next one is tried, then the one behind; where a caller has no zone, all are one rank, of which any workload is taken.
func TestAnotherZoneIsTried(t *testing.T) {
	e, z := openZones(t, "a")
	e.publish(again)
	for _, host := range []string{"other.test", "same.test", "ranks.test"} {
		e.become(host, "a")
	}
	z.fails["a"].Store(true)
	for host, want := range map[string]int{"other.test": 100, "same.test": 0, "ranks.test": 100} {
		if got := e.answered(host); got != want {
			t.Errorf("zone a fails: %d of 100 requests for %s are answered, want %d", got, host, want)
		}
	}
	e.become("ranks.test", "b")
	e.become("other.test", "bc")
	z.fails["b"].Store(true)
	if got := e.answered("ranks.test"); got != 100 {
		t.Errorf("zones a and b fail: %d of 100 requests are answered", got)
	}
	e.become("ranks.test", "c")
}
