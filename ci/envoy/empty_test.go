package envoy

import (
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// A version none of whose workloads is well leaves its share like one that has none: to another version, which is asked
// by its own identity.
func TestTheShareOfAVersionThatIsNotWell(t *testing.T) {
	p := shop(t, `
mesh: service: app: {
	port: http: number: 80
	grant: all: mesh: true
	version: {v1: {empty: "spread", serviceAccount: "one"}, v2: {serviceAccount: "two"}}
	route: all: {to: {v1: 90, v2: 10}, retry: attempts: 0}
	outlier: {consecutive5xx: 1, interval: "50ms", baseEjection: "1h", maxEjectionPercent: 100}
}
`)
	reh, err := p.Rehearse([]compiler.Request{{From: "shop/app", To: "shop/app"}})
	if err != nil {
		t.Fatal(err)
	}
	stage, err := rehearsal.Start(t.Context(), realEnvoy(t), reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	ask := func() rehearsal.Reply {
		t.Helper()
		got, err := stage.Ask(t.Context(), reh.Doors[0], compiler.Request{From: "shop/app", To: "shop/app"})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := map[string]int{}
	for range 60 {
		if got := ask(); got.Seen != nil {
			first[got.Seen.Target]++
		}
	}
	if first["shop/app/http/v1"] < 40 {
		t.Fatalf("%v of 60 requests, and the share of v1 is 90%%", first)
	}
	if _, err := stage.Away("shop/app/http/v1"); err != nil {
		t.Fatal(err)
	}
	for row, tries := 0, 0; row < 100; tries++ { // v1 would get 90 of these
		got := ask()
		if row++; got.Seen == nil {
			row = 0
		} else if got.Seen.Target != "shop/app/http/v2" {
			t.Fatalf("%+v", got.Seen)
		}
		if tries > 5000 {
			t.Fatal("requests go on to fail")
		}
	}
}
