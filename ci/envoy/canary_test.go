package envoy

import (
	"math"
	"slices"
	"testing"

	"meshc.dev/meshc/compiler"
)

// A candidate gets its step's share of the requests, and all of its cohort's, whatever the step;
// give or take what chance allows, as in TestSharesAreKept.
func TestCanaryServesItsStep(t *testing.T) {
	const n, cohort = 300, 40
	p := shop(t, `
mesh: service: app: {
	port: http: number: 80
	grant: all: mesh: true
	version: {v1: {}, v2: {}}
	route: {
		part: {match: path: prefix: "/part", canary: {stable: "v1", candidate: "v2", steps: [0, 25, 100], at: 25, cohort: headers: "x-beta": exact: "yes"}}
		back: {match: path: prefix: "/back", canary: {stable: "v1", candidate: "v2", steps: [0, 25, 100], at: 0, cohort: headers: "x-beta": exact: "yes"}}
		whole: {match: path: prefix: "/whole", canary: {stable: "v1", candidate: "v2", steps: [0, 25, 100], at: 100}}
	}
}
mesh: service: next: {port: http: number: 80, grant: all: mesh: true}
mesh: service: old: {port: http: number: 80, grant: all: mesh: true}
mesh: gateway: edge: {port: http: number: 80, host: "*": route: all: {
	canary: {stable: "old", candidate: "new", steps: [0, 40], at: 40, cohort: cookies: beta: present: true}
	destination: new: service: "next"
}}
`)
	beta := []compiler.Header{{Name: "x-beta", Value: "yes"}}
	for name, c := range map[string]struct {
		ask    compiler.Request
		to     string
		share  float64
		sample int
	}{
		"part of it":             {compiler.Request{From: "shop/old", To: "shop/app", Path: "/part/a"}, "shop/app/http/v2", 0.25, n},
		"the cohort":             {compiler.Request{From: "shop/old", To: "shop/app", Path: "/part/a", Headers: beta}, "shop/app/http/v2", 1, cohort},
		"taken back":             {compiler.Request{From: "shop/old", To: "shop/app", Path: "/back/a"}, "shop/app/http/v2", 0, cohort},
		"the cohort, taken back": {compiler.Request{From: "shop/old", To: "shop/app", Path: "/back/a", Headers: beta}, "shop/app/http/v2", 1, cohort},
		"all of it":              {compiler.Request{From: "shop/old", To: "shop/app", Path: "/whole"}, "shop/app/http/v2", 1, cohort},
		"at a gateway":           {compiler.Request{To: "gateway/shop/edge"}, "shop/next/http/default", 0.4, n},
		"a visitor's cohort":     {compiler.Request{To: "gateway/shop/edge", Headers: []compiler.Header{{Name: "cookie", Value: "a=b; beta=1"}}}, "shop/next/http/default", 1, cohort},
	} {
		t.Run(name, func(t *testing.T) {
			got := 0
			for _, x := range try(t, realEnvoy(t), p, slices.Repeat([]compiler.Request{c.ask}, c.sample)) {
				if x.differs != "" || x.got.Seen == nil {
					t.Fatalf("%+v: %s", x.got, x.differs)
				}
				if x.got.Seen.Target == c.to {
					got++
				}
			}
			want := c.share * float64(c.sample)
			if off := math.Abs(float64(got) - want); off > 5*math.Sqrt(want*(1-c.share)) {
				t.Errorf("the candidate got %d of %d requests, its share is %.2f", got, c.sample, c.share)
			}
			t.Logf("%s: %d of %d", name, got, c.sample)
		})
	}
}

// Half a percent of the requests is what it says: neither nobody's nor a whole percent. So many are asked that
// chance, as above, tells them apart.
func TestSharesHaveTwoDecimals(t *testing.T) {
	const n, share = 6000, 0.005
	p := shop(t, `
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: service: app: {
	port: http: number: 80
	grant: all: mesh: true
	version: {v1: {}, v2: {}}
	route: default: canary: {stable: "v1", candidate: "v2", steps: [0.5, 10], at: 0.5}
}
mesh: service: old: {port: http: number: 80, grant: all: mesh: true}
mesh: service: next: {port: http: number: 80, grant: all: mesh: true}
mesh: gateway: edge: {port: http: number: 80, host: "*": route: all: to: {old: 99.5, next: 0.5}}
`)
	for to, ask := range map[string]compiler.Request{"shop/app/http/v2": {From: "shop/web", To: "shop/app"}, "shop/next/http/default": {To: "gateway/shop/edge"}} {
		got := 0
		for _, x := range try(t, realEnvoy(t), p, slices.Repeat([]compiler.Request{ask}, n)) {
			if x.differs != "" || x.got.Seen == nil {
				t.Fatalf("%+v: %s", x.got, x.differs)
			}
			if x.got.Seen.Target == to {
				got++
			}
		}
		if off := math.Abs(float64(got) - share*n); off > 5*math.Sqrt(share*n) {
			t.Errorf("%s got %d of %d requests", to, got, n)
		}
		t.Logf("%s: %d of %d", to, got, n)
	}
}
