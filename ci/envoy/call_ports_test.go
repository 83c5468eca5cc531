package envoy

import (
	"net/http"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// A service calls several ports of another one. What it says at a port holds there, what it says at the call elsewhere, and
// a port that it does not name it does not call.
func TestSeveralPortsOfOneServiceAreCalled(t *testing.T) {
	p := shop(t, `
mesh: service: web: {port: http: number: 80, calls: app: {timeout: "10s", port: {pages: {}, quick: timeout: "200ms", feed: {}}}}
mesh: service: app: {
	port: {pages: {number: 80, main: true}, quick: number: 81, feed: {number: 82, protocol: "http2"}, bytes: {number: 83, protocol: "tcp"}}
	grant: all: {mesh: true, ports: ["pages", "quick", "feed", "bytes"]}
}`)
	ports := []string{"pages", "quick", "feed"}
	var asked []compiler.Request
	for _, port := range ports {
		asked = append(asked, compiler.Request{From: "shop/web", To: "shop/app", Port: port})
	}
	reh, stage := stageOf(t.Context(), t, p, asked)
	wait := []compiler.Header{{Name: rehearsal.WaitHeader, Value: (600 * time.Millisecond).String()}}
	for i, want := range []int{http.StatusOK, http.StatusGatewayTimeout, http.StatusOK} {
		got, err := stage.Ask(t.Context(), reh.Doors[i], compiler.Request{Path: "/", Headers: wait})
		if err != nil || got.Status != want {
			t.Errorf("port %s: %d, %v, want %d", ports[i], got.Status, err, want)
		}
		if at := "shop/app/" + ports[i] + "/default"; want == http.StatusOK && (got.Seen == nil || got.Seen.Target != at) {
			t.Errorf("port %s: %+v answered", ports[i], got.Seen)
		}
	}
}
