package envoy

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/rehearsal"
)

// failing sends a request that the application fails so many times, with what is said.
func (p *play) failing(r compiler.Request, times int, with string) rehearsal.Reply {
	p.t.Helper()
	r.Headers = append(r.Headers, compiler.Header{Name: rehearsal.FailHeader, Value: fmt.Sprint(times)}, compiler.Header{Name: rehearsal.FailWithHeader, Value: with})
	got, err := p.stage.Ask(p.ctx, p.door, r)
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

// An answer is tried again by its status, and a gRPC call by how it ended, and no other is.
func TestAnswersAreTriedAgainByTheirStatus(t *testing.T) {
	p := start(t, `route: {
		busy: {match: path: prefix: "/busy", to: default: 100, retry: {attempts: 2, statuses: [429, 500], idempotent: true}}
		both: {match: path: prefix: "/both", to: default: 100, retry: {attempts: 2, on: ["gateway-error"], statuses: [429], idempotent: true}}
		default: to: default: 100
	}`)
	for _, c := range []struct {
		path, with          string
		fail, status, tries int
	}{
		{"/busy/mended", "status=429", 2, 200, 3},
		{"/busy/broken", "status=500", 9, 500, 3},
		{"/busy/other", "status=503", 9, 503, 1},
		{"/busy/theirs", "status=400", 9, 400, 1},
		{"/both/busy", "status=429", 9, 429, 3},
		{"/both/gateway", "status=502", 9, 502, 3},
		{"/both/other", "status=500", 9, 500, 1},
		{"/none", "status=429", 9, 429, 1},
	} {
		if got := p.failing(compiler.Request{Path: c.path}, c.fail, c.with); got.Status != c.status || p.tries(c.path) != c.tries {
			t.Errorf("%s: %d after %d tries, want %d after %d", c.path, got.Status, p.tries(c.path), c.status, c.tries)
		}
	}
}

func TestCallsAreTriedAgainByHowTheyEnd(t *testing.T) {
	p := startAt(t, `mesh: service: app: {port: {rpc: {number: 80, protocol: "grpc", main: true}, http: number: 81}, grant: all: {mesh: true, ports: ["rpc", "http"]},
	retry: {attempts: 2, grpc: ["unavailable", "resource-exhausted"], idempotent: true}}`, compiler.Request{From: "shop/app", To: "shop/app"})
	call := func(path string) compiler.Request {
		return compiler.Request{HTTP: compiler.HTTP2, Method: http.MethodPost, Path: path, Headers: []compiler.Header{{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"}}}
	}
	for _, c := range []struct {
		path, ends, told string
		fail, tries      int
	}{
		{"/shop.Cart/mended", "14", "", 2, 3},
		{"/shop.Cart/broken", "14", "14", 9, 3},
		{"/shop.Cart/busy", "8", "8", 9, 3},
		{"/shop.Cart/internal", "13", "13", 9, 1},
		{"/shop.Cart/unknown", "2", "2", 9, 1},
	} {
		got := p.failing(call(c.path), c.fail, "status=200&content-type=application/grpc&grpc-status="+c.ends)
		if told := fmt.Sprint(got.Headers["grpc-status"]); got.Status != http.StatusOK || told != fmt.Sprint(linesWith(c.told)) || p.tries(c.path) != c.tries {
			t.Errorf("%s: %d, ended with %s after %d tries, want %q after %d", c.path, got.Status, told, p.tries(c.path), c.told, c.tries)
		}
	}
}

// linesWith are those of a header with a value, none for "".
func linesWith(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

// Between two tries a proxy waits as it is told to: a time at random, which ten tries make a long one, or
// what the answer says if it is not too much.
func TestTriesWaitAsAsked(t *testing.T) {
	p := start(t, `timeout: "1m", route: {
		slow: {match: path: prefix: "/slow", to: default: 100, retry: {attempts: 10, statuses: [500], idempotent: true, backoff: {base: "1s", max: "1s"}}}
		quick: {match: path: prefix: "/quick", to: default: 100, retry: {attempts: 10, statuses: [500], idempotent: true, backoff: {base: "1ms", max: "1ms"}}}
		told: {match: path: prefix: "/told", to: default: 100, retry: {attempts: 1, statuses: [429], idempotent: true, retryAfter: "5s"}}
		hasty: {match: path: prefix: "/hasty", to: default: 100, retry: {attempts: 1, statuses: [429], idempotent: true, retryAfter: "2s"}}
		default: {to: default: 100, retry: {attempts: 1, statuses: [429], idempotent: true}}
	}`)
	took := func(path string, fail int, with string) time.Duration {
		began := time.Now()
		got := p.failing(compiler.Request{Path: path}, fail, with)
		if got.Status != http.StatusOK || p.tries(path) != fail+1 {
			t.Errorf("%s: %d after %d tries", path, got.Status, p.tries(path))
		}
		return time.Since(began)
	}
	slow, quick := took("/slow", 10, "status=500"), took("/quick", 10, "status=500")
	if slow < time.Second || quick > slow {
		t.Errorf("ten waits of up to a second took %v, and of up to a millisecond %v", slow, quick)
	}
	const instant = "x-ratelimit-reset=" // in seconds since 1970
	for path, with := range map[string]string{"/told/after": "retry-after=2", "/told/reset": "x-ratelimit-reset=2", "/told/instant": instant} {
		if with == instant {
			with += fmt.Sprint(time.Now().Unix() + 3)
		}
		if d := took(path, 1, "status=429&"+with); d < 2*time.Second-100*time.Millisecond {
			t.Errorf("%s: an answer with %s was tried again after %v", path, with, d)
		}
	}
	for path, with := range map[string]string{"/hasty/after": "retry-after=10", "/usual": "retry-after=10", "/told/date": "retry-after=Tue, 01 Jan 2030 00:00:00 GMT"} {
		if d := took(path, 1, "status=429&"+with); d > 8*time.Second {
			t.Errorf("%s: an answer with %s was tried again after %v", path, with, d)
		}
	}
}

// Of two workloads the other one is asked, unless it is not to be.
func TestAnotherWorkloadIsTried(t *testing.T) {
	p := shop(t, `mesh: service: app: {port: http: number: 80, grant: all: mesh: true, route: {
	same: {match: path: prefix: "/same", to: default: 100, retry: {attempts: 1, statuses: [500], idempotent: true, otherHost: false}}
	default: {to: default: 100, retry: {attempts: 1, statuses: [500], idempotent: true}}
}}`)
	reh, err := p.Rehearse([]compiler.Request{{From: "shop/app", To: "shop/app"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	stage, err := rehearsal.StartMany(ctx, realEnvoy(t), reh, time.Now, map[release.Class]int{{Role: release.Sidecar, Namespace: "shop", Account: "app"}: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	caller := &play{t, ctx, stage, reh.Doors[0], ""}
	const n = 20
	others := func(prefix string) int {
		count := 0
		for i := range n {
			path := fmt.Sprintf("%s/%d", prefix, i)
			caller.failing(compiler.Request{Path: path}, 9, "status=500")
			asked := map[int]bool{}
			for _, s := range stage.Seen() {
				if s.Path == path {
					asked[s.Workload] = true
				}
			}
			if caller.tries(path) != 2 {
				t.Errorf("%s: %d tries", path, caller.tries(path))
			}
			count += len(asked) - 1
		}
		return count
	}
	// By chance the same one is found eleven times in a row once in 2,000 requests.
	if got := others(""); got < n-2 {
		t.Errorf("of %d requests %d were tried again at the other workload", n, got)
	}
	if got := others("/same"); got == n {
		t.Errorf("all of %d requests were tried again at the other workload, which nobody asked for", n)
	}
}
