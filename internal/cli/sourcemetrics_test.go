package cli

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/feed"
)

// An alarm sees refusals by code, and whether the repository answers and is fresh.
func TestSourceMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	m := newSourceMetrics(r)
	refused := &approval.Refusal{Link: approval.LinkSignature, Code: diag.CodeUnsigned, Commit: "c"}
	for _, e := range []feed.Event{{Kind: feed.Approved}, {Kind: feed.Refused, Err: refused}, {Kind: feed.Refused, Err: refused}, {Kind: feed.Unreachable}, {Kind: feed.Stale}} {
		m.see(e)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, x := range f.GetMetric() {
			var labels []string
			for _, l := range x.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			got = append(got, fmt.Sprintf("%s %s %v", f.GetName(), strings.Join(labels, "/"), x.GetCounter().GetValue()+x.GetGauge().GetValue()))
		}
	}
	for _, want := range []string{
		"meshc_source_events_total /approved 1", "meshc_source_events_total MESH0511/refused 2",
		"meshc_source_reachable  0", "meshc_source_stale  1",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q among %q", want, got)
		}
	}
	m.see(feed.Event{Kind: feed.Reachable})
	m.see(feed.Event{Kind: feed.Fresh})
	if families, err = r.Gather(); err != nil || !strings.Contains(fmt.Sprint(families), "meshc_source_reachable") {
		t.Errorf("after: %v, %v", families, err)
	}
}
