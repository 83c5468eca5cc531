package envoy

import (
	"strings"
	"testing"

	"meshc.dev/meshc/compiler"
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
