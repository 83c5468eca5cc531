package envoy

import (
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/rehearsal"
)

// Raw configuration is what the proxies have: a manager takes shorter headers, a virtual host tries
// again what no word of intent lets the callee's proxy try, a caller's cluster counts by another name.
func TestRawConfigurationHolds(t *testing.T) {
	const owned = `owner: "team", reason: "a trial", until: "2027-02-01T00:00:00Z"`
	p := start(t, `patch: {
		small: {at: "manager", merge: {max_request_headers_kb: 64, http2_protocol_options: max_header_field_size_kb: 64}, `+owned+`}
		named: {at: "cluster", merge: alt_stat_name: "renamed", `+owned+`}
		again: {at: "host", merge: retry_policy: {retry_on: "5xx", num_retries: 2}, `+owned+`}
	}`)
	plain := start(t, "")
	for _, c := range []struct {
		at     *play
		length int
		want   bool
	}{{p, 50 << 10, true}, {p, 70 << 10, false}, {plain, 70 << 10, true}} {
		got, err := c.at.stage.Ask(c.at.ctx, c.at.door, compiler.Request{Path: "/long", Host: c.at.host, Headers: []compiler.Header{{Name: "x-long", Value: strings.Repeat("a", c.length)}}})
		if err != nil || (got.Status == 200) != c.want {
			t.Errorf("a header of %d bytes: %d, %v; to get through: %v", c.length, got.Status, err, c.want)
		}
	}
	if got := p.ask("/twice", 2, 0); got.Status != 200 {
		t.Errorf("the third try of a proxy that tries three times: %d", got.Status)
	}
	if n := p.tries("/twice"); n != 3 {
		t.Errorf("the application saw %d tries", n)
	}
	stats, err := p.stage.Admin(p.ctx, p.door.Class, "/stats?filter=^cluster.renamed.upstream_rq_total")
	if err != nil || !strings.Contains(string(stats), "cluster.renamed.upstream_rq_total: ") {
		t.Errorf("the caller's cluster: %s, %v", stats, err)
	}
}

// A gateway's listener is what a patch says of its sockets: the kernel has the length of the queue, and visitors come in as before.
func TestRawConfigurationOfListenersHolds(t *testing.T) {
	const owned = `owner: "team", reason: "a trial", until: "2027-02-01T00:00:00Z"`
	p := shop(t, `mesh: service: web: {port: http: number: 80, grant: edge: from: ["gateway/edge"]}
mesh: gateway: edge: {port: http: number: 80, host: "shop.example": route: all: to: web: 100, patch: deep: {at: "listener", merge: {tcp_backlog_size: 77, tcp_keepalive: keepalive_time: 30}, `+owned+`}}`)
	reh, err := p.Rehearse([]compiler.Request{{To: "gateway/shop/edge", Host: "shop.example"}})
	if err != nil {
		t.Fatal(err)
	}
	stage, err := rehearsal.Start(t.Context(), realEnvoy(t), reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	if got, err := stage.Ask(t.Context(), reh.Doors[0], compiler.Request{Path: "/x", Host: "shop.example"}); err != nil || got.Status != 200 {
		t.Errorf("a visitor: %+v, %v", got, err)
	}
	dump, err := stage.Admin(t.Context(), reh.Doors[0].Class, "/config_dump?resource=static_listeners")
	if err != nil || !strings.Contains(string(dump), `"tcp_backlog_size": 77`) {
		t.Errorf("the gateway's listener: %s, %v", dump, err)
	}
}
