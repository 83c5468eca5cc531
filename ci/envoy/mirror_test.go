package envoy

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// Each receiver gets its own share of the copies, to two decimals, whatever the others get; a gateway's and
// the service's behind it add up. Give or take what chance allows, as in TestSharesAreKept.
func TestCopiesKeepTheirShares(t *testing.T) {
	const n = 400
	p := shop(t, `
mesh: service: app: {
	port: http: number: 80
	grant: all: mesh: true
	route: default: {to: default: 100, mirror: {some: percent: 12.5, whole: {}, nobody: percent: 0, few: percent: 0.01}}
}
mesh: service: some: {port: http: number: 80, grant: all: mesh: true}
mesh: service: whole: {port: http: number: 80, grant: all: mesh: true}
mesh: service: nobody: {port: http: number: 80, grant: all: mesh: true}
mesh: service: few: {port: http: number: 80, grant: all: mesh: true}
mesh: service: edged: {port: http: number: 80, grant: all: mesh: true, version: {v1: {}, v2: {}}}
mesh: gateway: edge: {port: http: number: 80, host: "*": route: all: {to: app: 100, mirror: copy: percent: 37.5, destination: copy: {service: "edged", version: "v2"}}}
`)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	asks := slices.Repeat([]compiler.Request{{To: "gateway/shop/edge"}}, n)
	reh, err := p.Rehearse(asks)
	if err != nil {
		t.Fatal(err)
	}
	stage, err := rehearsal.Start(ctx, realEnvoy(t), reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Stop()
	for i, r := range asks {
		if _, err := stage.Ask(ctx, reh.Doors[i], r); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]int{}
	for ctx.Err() == nil && got["shop/whole/http/default"] < n { // whose copies are sent behind those of others
		clear(got)
		for _, s := range stage.Seen() {
			got[s.Target]++
		}
		time.Sleep(10 * time.Millisecond)
	}
	for target, share := range map[string]float64{
		"shop/app/http/default": 1, "shop/whole/http/default": 1, "shop/some/http/default": 0.125, "shop/nobody/http/default": 0,
		"shop/few/http/default": 0.0001, "shop/edged/http/v2": 0.375, "shop/edged/http/v1": 0,
	} {
		want := share * n
		if off := math.Abs(float64(got[target]) - want); off > 1+5*math.Sqrt(want*(1-share)) {
			t.Errorf("%s got %d, its share of %d is %.4f", target, got[target], n, share)
		}
	}
	t.Log(got)
}
