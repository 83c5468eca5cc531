package stream_test

import (
	"testing"
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// one is a class with one service behind one listener.
func one(t testing.TB, timeout time.Duration) classSpec {
	return classSpec{class: shop, res: append(messages(edsCluster("a", timeout), assignment("a", 1001)), messages(listener(t, "in", 15001, "r"), routes("r", "a"))...)}
}

// TestFirstStream shows a whole start: clusters, endpoints, then listeners and
// route tables, each confirmed, and the receipt of it.
func TestFirstStream(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "c0ffee01", seal(t, one(t, time.Second)))
		c := s.delta(t, shop, "pod-1")
		c.subscribe(cds)
		r := c.want(cds, []string{"a"})
		c.subscribe(eds, "a")
		c.subscribe(lds)
		c.ack(c.want(eds, []string{"a"}))
		c.quiet(50 * time.Millisecond) // listeners wait for the clusters
		c.ack(r)
		l := c.want(lds, []string{"in"})
		c.subscribe(rds, "r")
		rd := c.want(rds, []string{"r"})
		c.ack(l)
		c.ack(rd)
		eventually(t, soon, func() string {
			for _, p := range s.ledger.Status().Proxies {
				if p.Commit == "c0ffee01" && p.UpToDate && p.Node == "pod-1" && p.Types["routes"].State == ledger.Acked {
					return ""
				}
			}
			return "the ledger does not say that pod-1 runs the commit"
		})
		_ = release.Types
	})
}
