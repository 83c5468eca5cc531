package envoy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// A body is sent again if it is no larger than what is kept of it: at a gateway and at a
// sidecar, with a buffer of its own or that of a written retry.
func TestBodiesAreSentAgainAsFarAsTheyAreKept(t *testing.T) {
	const retry = `retry: {attempts: 1, on: ["gateway-error"], idempotent: true}`
	addresses := open(t, shop(t, `
mesh: service: app: {
	port: http: number: 80
	route: {
		small: {match: path: prefix: "/small", to: default: 100, buffer: "8KiB", `+retry+`}
		large: {match: path: prefix: "/large", to: default: 100, buffer: "2MiB", `+retry+`}
		written: {match: path: prefix: "/written", to: default: 100, `+retry+`}
	}
	grant: all: {mesh: true, paths: ["/*"]}
}
mesh: gateway: edge: {port: http: number: 80, host: "*": route: all: to: app: 100}
`), compiler.Request{From: "shop/app", To: "shop/app"}, compiler.Request{To: "gateway/shop/edge", Host: "x.example"})
	const kib = 1 << 10
	for door, address := range map[string]string{"sidecar": addresses[0], "gateway": addresses[1]} {
		for _, c := range []struct {
			path   string
			size   int
			status int
		}{
			{"/small", 8 * kib, 200}, {"/small", 8*kib + 1, 503},
			{"/written", 1000 * kib, 200}, {"/written", 1024*kib + 1, 503},
			{"/large", 1024*kib + 1, 200}, {"/large", 2048 * kib, 200}, {"/large", 2048*kib + 1, 503},
		} {
			path := fmt.Sprintf("%s/%s/%d", c.path, door, c.size)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+path, bytes.NewReader(make([]byte, c.size)))
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "app.shop"
			r.Header.Set(rehearsal.FailHeader, "1")
			x, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, x.Body)
			_ = x.Body.Close()
			if x.StatusCode != c.status || err != nil || c.status == 200 && n != int64(c.size) {
				t.Errorf("%s: %d with %d bytes, want %d: %v", path, x.StatusCode, n, c.status, err)
			}
		}
	}
}
