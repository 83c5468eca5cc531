package envoy

import (
	"testing"
	"time"

	"meshc.dev/meshc/internal/rehearsal"
)

// A test of a TCP port is asked of real Envoys, too: bytes have no path that an application could not read.
func TestTestsOfBytesAreAsked(t *testing.T) {
	bin := realEnvoy(t)
	p := shop(t, `mesh: service: {
	web: {port: http: number: 80, calls: db: {}}
	other: {port: http: number: 80, calls: db: {}}
	db: {port: raw: {number: 90, protocol: "tcp"}, grant: web: from: ["web"]}
}
mesh: test: {
	opens: {request: {from: "web", to: "db"}, expect: allowed: true}
	stays: {request: {from: "other", to: "db"}, expect: allowed: false}
}`)
	trials, err := rehearsal.Tests(t.Context(), bin, p, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if len(trials) != 2 {
		t.Fatalf("%d trials", len(trials))
	}
	for _, x := range trials {
		if x.Reply == nil || x.Differs != "" {
			t.Errorf("%+v", x)
		}
	}
}
