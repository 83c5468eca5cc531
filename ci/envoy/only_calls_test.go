package envoy

import (
	"net/http"
	"strings"
	"testing"

	"meshc.dev/meshc/compiler"
)

// A service without ports calls by its own identity, which grants tell from others, and nobody calls it: its proxy
// listens for its own application alone.
func TestServiceWithoutPortsOnlyCalls(t *testing.T) {
	p := shop(t, `
mesh: service: job: {serviceAccount: "nightly", calls: app: timeout: "5s"}
mesh: service: other: calls: app: {}
mesh: service: app: {port: http: number: 80, grant: {reads: {from: ["job"], methods: ["GET"]}, page: {from: ["other"], paths: ["/page"]}}}`)
	door := func(from string) compiler.Request { return compiler.Request{From: from, To: "shop/app"} }
	reh, stage := stageOf(t.Context(), t, p, []compiler.Request{door("shop/job"), door("shop/other")})
	for _, c := range []struct {
		door, status int
		method, path string
	}{
		{0, http.StatusOK, "GET", "/books"}, {0, http.StatusForbidden, "POST", "/books"},
		{1, http.StatusForbidden, "GET", "/books"}, {1, http.StatusOK, "POST", "/page"},
	} {
		got, err := stage.Ask(t.Context(), reh.Doors[c.door], compiler.Request{Method: c.method, Path: c.path})
		if err != nil || got.Status != c.status {
			t.Errorf("%s %s by %s: %d, %v, want %d", c.method, c.path, reh.Doors[c.door].Class, got.Status, err, c.status)
		}
	}
	for _, s := range stage.Seen() {
		if by := strings.Join(s.Headers["x-forwarded-client-cert"], ","); s.Path == "/books" && !strings.Contains(by, "/sa/nightly") {
			t.Errorf("the application was told of %q, want the account nightly", by)
		}
	}
}
