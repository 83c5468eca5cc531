package stream_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// refuseRoutes refuses the route tables that come next and gives their version.
func (c *deltaClient) refuseRoutes() string {
	c.t.Helper()
	r := c.nextWithin(time.Hour)
	c.nack(r, "no")
	return versionOf(r, "r")
}

// withHost is a release that differs from others in its route table alone.
func withHost(t *testing.T, host string) classSpec {
	c := app(t, time.Second, "a")
	c.res[1] = routesWithHost("r", "a", host)
	return c
}

// TestNothingThatARollbackLeftIsServed: a proxy that refuses what a signed rollback
// goes back to is given that again and again, and never what was rolled back from,
// though it has confirmed it.
func TestNothingThatARollbackLeftIsServed(t *testing.T) {
	good, bad := rollout.Position{Place: 1}, rollout.Position{Place: 2}
	back := rollout.Position{Rollbacks: 1, Place: 1}
	for name, last := range map[string]bool{"to earlier content": false, "to the newest content under another commit": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
				target, left := seal(t, withHost(t, "target")), seal(t, withHost(t, "left"))
				s.publishAt(t, "commit-1", target, good)
				p := s.delta(t, shop, "p")
				p.boot("a")
				s.publishAt(t, "commit-2", left, bad)
				p.ack(p.want(rds, []string{"r"}))
				s.arrived(t, "commit-2", soon)
				if last {
					s.publishAt(t, "commit-3", target, rollout.Position{Place: 3})
					p.want(rds, []string{"r"})
					s.publishAt(t, "rollback", target, back)
					p.refuseRoutes()
				} else {
					s.publishAt(t, "rollback", target, back)
					p.refuseRoutes()
				}
				was := p.has[rds]["r"]
				for range 5 {
					if v := p.refuseRoutes(); v == was {
						t.Fatalf("%s is served again", v)
					}
				}
			})
		})
	}
}

// TestNewCommitsWithTheSameContent wake nobody, while proxies come and confirm; and what
// comes after them still says from where each resource is.
func TestNewCommitsWithTheSameContent(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		same := seal(t, app(t, time.Second, "a", "b"))
		s.publish(t, "commit-1", same)
		p := s.delta(t, shop, "p")
		go func() {
			for i := range 50 {
				s.publish(t, fmt.Sprint("again-", i), same)
				time.Sleep(10 * time.Millisecond)
			}
		}()
		p.boot("a", "b")
		p.quiet(time.Second)
		s.arrived(t, "again-49", soon)
		other := app(t, time.Second, "a", "b")
		other.res[2] = edsCluster("a", time.Minute) // beside one that stays
		s.publish(t, "commit-2", seal(t, other))
		q := s.delta(t, shop, "q")
		q.boot("a", "b")
		for typ, has := range q.has {
			for name, v := range has {
				if _, stamp, ok := strings.Cut(v, "."); typ != eds && (!ok || stamp == "") {
					t.Errorf("%s %s has version %s, which names no position", typ, name, v)
				}
			}
		}
	})
}
