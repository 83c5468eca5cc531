package envoy

import (
	"testing"

	"meshc.dev/meshc/compiler"
)

// TestForeignPagesWriteNothing: what would write comes from a page that may, by Origin or else by Referer; others,
// and those that say neither, are answered 403 at the gateway and at the service, which have lists of their own.
func TestForeignPagesWriteNothing(t *testing.T) {
	p := shop(t, `
mesh: service: app: {port: http: number: 80, grant: all: mesh: true, csrf: origins: ["https://partner.test"]}
mesh: service: open: {port: http: number: 80, grant: all: mesh: true}
mesh: gateway: edge: {port: http: number: 80, host: {
	"shop.test": {
		csrf: origins: ["https://*.app.test"]
		route: {
			answered: {match: path: prefix: "/gone", respond: status: 410}
			drill: {match: path: prefix: "/drill", to: open: 100, fault: {abort: {status: 418, percent: 100}, owner: "x", reason: "y", until: "2026-12-31T00:00:00Z"}}
			own: {match: path: prefix: "/own", to: open: 100, csrf: {}}
			default: to: open: 100
		}
	}
	"*.test": {csrf: origins: ["https://shop.test"], route: default: to: open: 100}
}}`)
	var rs []compiler.Request
	var want []int
	add := func(to, host, method, path, origin, referer string, status int) {
		for _, http := range []string{compiler.HTTP11, compiler.HTTP2} {
			r := compiler.Request{To: to, Host: host, Method: method, Path: path, HTTP: http}
			if to == "shop/app" {
				r.From = "shop/app"
			}
			for _, h := range []compiler.Header{{Name: "origin", Value: origin}, {Name: "referer", Value: referer}} {
				if h.Value != "" {
					r.Headers = append(r.Headers, h)
				}
			}
			rs, want = append(rs, r), append(want, status)
		}
	}
	const edge, host = "gateway/shop/edge", "shop.test"
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "MKCOL"} {
		add(edge, host, method, "/", "https://evil.test", "", 403)
		add(edge, host, method, "/", "https://shop.test", "", 0)
	}
	for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
		add(edge, host, method, "/", "https://evil.test", "", 0)
	}
	add(edge, host, "POST", "/", "http://shop.test:8080", "", 0)
	add(edge, host, "POST", "/", "https://shop.test.evil.test", "", 403)
	add(edge, host, "POST", "/", "https://a.b.app.test", "", 0)
	add(edge, host, "POST", "/", "http://a.app.test", "", 403) // the scheme is a part of an origin
	add(edge, host, "POST", "/", "https://app.test", "", 403)
	add(edge, host, "POST", "/", "null", "https://shop.test/", 403) // Referer speaks where Origin is silent
	add(edge, host, "POST", "/", "", "https://shop.test/basket?a=b", 0)
	add(edge, host, "POST", "/", "", "https://shop.test", 403)
	add(edge, host, "POST", "/", "", "https://evil.test/https://shop.test/", 403)
	add(edge, host, "POST", "/", "", "", 403)
	add(edge, host, "POST", "/own", "https://a.app.test", "", 403)
	add(edge, host, "POST", "/gone", "https://evil.test", "", 403)
	add(edge, host, "POST", "/gone", "https://shop.test", "", 410)
	add(edge, host, "POST", "/drill", "https://evil.test", "", 418) // faults come first
	add(edge, "other.test", "POST", "/", "https://other.test", "", 403)
	add(edge, "other.test", "POST", "/", "https://shop.test", "", 0)
	add("shop/app", "app", "POST", "/", "https://partner.test", "", 0)
	add("shop/app", "app", "POST", "/", "https://app", "", 403)
	add("shop/app", "app", "POST", "/", "", "", 403)
	add("shop/app", "app", "GET", "/", "https://app", "", 0)
	agreeOn(t, p, rs, want)
}
