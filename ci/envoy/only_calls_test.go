package envoy

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/envoybin"
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

// In a pod its proxy listens for what is redirected, by which the agent knows that it is, and closes all of it.
func TestServiceWithoutPortsTakesNothing(t *testing.T) {
	p := shop(t, `
mesh: service: job: calls: app: {}
mesh: service: app: {port: http: number: 80, grant: reads: from: ["job"]}`)
	rel, ds := p.Release()
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	rs, err := compiler.Resources(rel, release.Class{Role: release.Sidecar, Namespace: "shop", Account: "job"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(rs, func(r compiler.Resource) bool { return r.Name == "inbound" }) {
		t.Errorf("nothing listens for what is redirected")
	}
	boot, err := compiler.Bootstrap(rs)
	if err != nil {
		t.Fatal(err)
	}
	vs, err := envoybin.Validate(t.Context(), realEnvoy(t), [][]byte{boot})
	if err != nil || vs[0].Kind != envoybin.Accepted {
		t.Errorf("%+v, %v", vs, err)
	}
}
