package envoy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"meshc.dev/meshc/compiler"
)

// Of several hundred routes, of which proxies have a tree, each request takes the one that it takes of
// a list: at a gateway and at a caller's proxy, by every kind of path, with and without other conditions.
func TestOneOfManyRoutesIsTaken(t *testing.T) {
	bin := realEnvoy(t)
	draw := rand.New(rand.NewPCG(5, 0))
	segment := func() string {
		return []string{"a", "ab", "abc", "b", "orders", "order", "x1", "x2", "x3", "x4"}[draw.IntN(10)]
	}
	path := func() string {
		var b strings.Builder
		for range 1 + draw.IntN(3) {
			b.WriteString("/" + segment())
		}
		return b.String()
	}
	routes := func(to []string) string {
		var b strings.Builder
		seen := map[string]bool{}
		for i := range 700 {
			p := path()
			kinds := []string{`path: startsWith: %q`, `path: prefix: %q`, `path: template: %q + "/{id}"`, `path: regex: %q + "[0-9]+"`, `path: exact: %q`}
			kind := draw.IntN(len(kinds))
			match, rank := fmt.Sprintf(kinds[kind], p), kind
			if draw.IntN(8) == 0 {
				match, rank = match+", methods: [\"POST\"]", rank+len(kinds)
			}
			if !seen[match] { // the longer first, so that none takes what is left for another
				fmt.Fprintf(&b, "r%d: {priority: %d, match: {%s}, to: %q: 100}\n", i, 10*len(p)+rank, match, to[draw.IntN(len(to))])
			}
			seen[match] = true
		}
		return b.String() + fmt.Sprintf("header: {priority: -1, match: headers: \"x-a\": present: true, to: %q: 100}\n", to[0])
	}
	p := shop(t, fmt.Sprintf(`mesh: service: {
	[string]: grant: all: {namespaces: ["shop"]}
	web: {port: http: number: 80, calls: app: {}}
	one: port: http: number: 80
	two: port: http: number: 80
	three: port: http: number: 80
	app: {port: http: number: 80, version: {v1: {}, v2: {}, v3: {}}, route: {
%s	}}
}
mesh: gateway: edge: {port: http: number: 80, host: "shop.example": route: {
%s}}`, routes([]string{"v1", "v2", "v3"}), routes([]string{"one", "two", "three"})))
	var rs []compiler.Request
	for range 400 {
		r := compiler.Request{From: "shop/web", To: "shop/app"}
		if draw.IntN(2) == 0 {
			r = compiler.Request{To: "gateway/shop/edge", Host: "shop.example"}
		}
		r.Method, r.Path = []string{"GET", "GET", "POST"}[draw.IntN(3)], path()+[]string{"", "", "/", "/7", "7", "?q=/a", "/%61b", ";x", "//b"}[draw.IntN(9)]
		if draw.IntN(4) == 0 {
			r.Headers = []compiler.Header{{Name: "x-a", Value: "1"}}
		}
		rs = append(rs, r)
	}
	taken := map[string]int{}
	for _, x := range try(t, bin, p, rs) {
		if x.differs != "" {
			t.Errorf("%s: %s", encode(x.request), x.differs)
		}
		taken[strings.Fields(reply(x.got) + " by a proxy")[1]]++
	}
	for _, to := range []string{"shop/one/http/default", "shop/two/http/default", "shop/three/http/default", "shop/app/http/v1", "shop/app/http/v2", "shop/app/http/v3"} {
		if taken[to] < 20 {
			t.Errorf("too few requests went to %s: %v", to, taken)
		}
	}
}
