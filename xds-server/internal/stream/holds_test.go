package stream_test

import (
	"testing"
	"time"

	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// TestConfirmationCrossesPublication: the last answer to a release arrives when the next
// one is already on its way. Who refuses that is held at the release that it has as a
// whole, and not at the one before.
func TestConfirmationCrossesPublication(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		p := s.delta(t, shop, "p")
		p.boot("a")
		second := app(t, time.Second, "a")
		second.res[1] = routesWithHost("r", "a", "x")
		s.publish(t, "commit-2", seal(t, second))
		last := p.want(rds, []string{"r"})
		s.publish(t, "commit-3", seal(t, app(t, 2*time.Second, "a")))
		bad := p.want(cds, []string{"a"})
		p.ack(p.want(eds, []string{"a"}))
		p.ack(last)
		p.nack(bad, "no")
		back := p.want(cds, []string{"a"})
		p.ack(p.want(eds, []string{"a"}))
		p.ack(back)
		p.quiet(4 * time.Second)
		if c := s.class(t, shop); !c.Held || c.ServingCommit != "commit-2" || c.UpToDate != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// TestWhatIsNotKnownHereIsKept: a proxy comes with something of a release that this
// server was never given, and refuses the next one. What is known here is older.
func TestWhatIsNotKnownHereIsKept(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publishAt(t, "commit-1", seal(t, app(t, time.Second, "a")), rollout.Position{Place: 1})
		p := s.delta(t, shop, "p")
		p.boot("a")
		third := app(t, time.Second, "a")
		third.res[1] = routesWithHost("r", "a", "x")
		s.publishAt(t, "commit-3", seal(t, third), rollout.Position{Place: 3})
		q := s.delta(t, shop, "q")
		q.resume(cds, p.has[cds])
		q.resume(eds, p.has[eds], "a")
		q.resume(lds, p.has[lds])
		q.resume(rds, map[string]string{"r": "elsewhere.2"}, "r")
		q.nack(q.want(rds, []string{"r"}), "no")
		q.quiet(10 * time.Second)
		q.ack(q.nextWithin(10 * time.Second)) // it is tried again
		q.quiet(time.Minute)
	})
}
