package stream_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// at is a release with its position.
type at struct {
	release release.Release
	rollout.Position
}

// knows is another server to which those releases were published, one after the other.
func knows(t *testing.T, releases ...at) *server {
	t.Helper()
	s := startInMemory(t, stream.Limits{})
	for _, r := range releases {
		s.publishAt(t, "commit-"+r.String(), r.release, r.Position)
	}
	return s
}

// back connects a proxy that has what p has, and names it.
func (p *deltaClient) back(t *testing.T, s *server) *deltaClient {
	t.Helper()
	p.cancel()
	c := s.delta(t, shop, p.node)
	c.has = p.has
	c.resume(cds, p.has[cds])
	c.resume(eds, p.has[eds], slices.Collect(maps.Keys(p.has[eds]))...)
	c.resume(lds, p.has[lds])
	c.resume(rds, p.has[rds], slices.Collect(maps.Keys(p.has[rds]))...)
	return c
}

// takeAll asks for everything at once and confirms what comes.
func (p *deltaClient) takeAll() {
	p.subscribe(cds)
	p.subscribe(eds, "a", "b")
	p.subscribe(lds)
	p.subscribe(rds, "r")
	for {
		select {
		case r := <-p.in:
			p.ack(r)
		case <-time.After(soon):
			return
		}
	}
}

// TestRemovalsSayTheirRelease: a release that only removes is newer than what a server has
// that does not know it, also over a rollback that both know.
func TestRemovalsSayTheirRelease(t *testing.T) {
	for name, c := range map[string]struct {
		more func(t *testing.T, c *classSpec) // what the first release has more
		drop func(p *deltaClient)
	}{
		"a cluster": {
			func(t *testing.T, c *classSpec) { *c = app(t, time.Second, "a", "b") },
			func(p *deltaClient) {
				p.ack(p.want(cds, []string{"a"}, "b"))
				p.ack(p.want(eds, nil, "b"))
			},
		},
		"a listener": {
			func(t *testing.T, c *classSpec) { c.res = append(c.res, listener(t, "more", 15002, "r")) },
			func(p *deltaClient) { p.ack(p.want(lds, []string{"in"}, "more")) },
		},
		"a listener, then clusters": {
			func(t *testing.T, c *classSpec) {
				*c = app(t, time.Second, "a", "b")
				c.res = append(c.res, listener(t, "more", 15002, "r"))
			},
			func(p *deltaClient) {
				p.ack(p.want(lds, []string{"in"}, "more"))
				p.ack(p.want(cds, nil, "b"))
				p.ack(p.want(eds, nil, "b"))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
				first := app(t, time.Second, "a")
				c.more(t, &first)
				all, less := seal(t, first), seal(t, app(t, time.Second, "a"))
				one, rolled, next := rollout.Position{Place: 1}, rollout.Position{Place: 1, Rollbacks: 1}, rollout.Position{Place: 3, Rollbacks: 1}
				s.publishAt(t, "commit-1", all, one)
				p := s.delta(t, shop, "p")
				p.takeAll()
				s.arrived(t, "commit-1", soon)
				s.publishAt(t, "rollback", all, rolled)
				p.quiet(time.Second)
				s.publishAt(t, "commit-3", less, next)
				c.drop(p)
				s.arrived(t, "commit-3", soon)
				p.quiet(time.Minute)
				n := knows(t, at{all, one}, at{all, rolled})
				p = p.back(t, n)
				p.quiet(time.Minute)
				n.publishAt(t, "commit-3", less, next)
				n.arrived(t, "commit-3", soon)
				p.quiet(time.Minute)
			})
		})
	}
}

// TestBackToARemovalSaysItsRelease: who goes back to a release that only removed has it
// again, and says so, although no resource of it is new.
func TestBackToARemovalSaysItsRelease(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		all, less := seal(t, app(t, time.Second, "a", "b")), seal(t, app(t, time.Second, "a"))
		s.publish(t, "commit-1", all)
		p := s.delta(t, shop, "p")
		p.boot("a", "b")
		s.publish(t, "commit-2", less)
		p.ack(p.want(cds, []string{"a"}, "b"))
		p.ack(p.want(eds, nil, "b"))
		s.arrived(t, "commit-2", soon)
		bad := app(t, 2*time.Second, "a")
		bad.res[1] = routesWithHost("r", "a", "bad")
		s.publish(t, "commit-3", seal(t, bad))
		p.ack(p.want(cds, []string{"a"}))
		p.ack(p.want(eds, []string{"a"}))
		p.refuseRoutes()
		p.ack(p.want(cds, []string{"a"}))
		p.ack(p.want(eds, []string{"a"}))
		p.ack(p.want(rds, []string{"r"}))
		p.back(t, knows(t, at{all, rollout.Position{Place: 1}})).quiet(time.Minute)
	})
}

// TestWhatWasTakenBackIsNotGivenAgain: a proxy that refused a release and has what the next
// one goes back to is told so, and keeps it at a server that knows only the refused one.
func TestWhatWasTakenBackIsNotGivenAgain(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		good, bad := seal(t, withHost(t, "good")), seal(t, withHost(t, "bad"))
		s.publish(t, "commit-1", good)
		p := s.delta(t, shop, "p")
		p.boot("a")
		s.publish(t, "commit-2", bad)
		p.refuseRoutes()
		p.ack(p.want(rds, []string{"r"})) // in place of what it may have applied
		p.quiet(50 * time.Millisecond)
		s.publish(t, "commit-3", good)
		p.ack(p.want(lds, []string{"in"}))
		s.arrived(t, "commit-3", soon)
		p.quiet(time.Minute)
		n := knows(t, at{good, rollout.Position{Place: 1}}, at{bad, rollout.Position{Place: 2}})
		p = p.back(t, n)
		p.quiet(time.Minute)
		n.publishAt(t, "commit-3", good, rollout.Position{Place: 3})
		n.arrived(t, "commit-3", soon)
		p.quiet(time.Minute)
	})
}

// TestWhatCameBackMeanwhileIsTold: a proxy that was away while its class left its content
// and came back to it is told so as well; one whose class has not changed is not.
func TestWhatCameBackMeanwhileIsTold(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		one, other := seal(t, withHost(t, "one")), seal(t, withHost(t, "other"))
		s.publish(t, "commit-1", one)
		p := s.delta(t, shop, "p")
		p.boot("a")
		s.publish(t, "commit-2", one)
		p = p.back(t, s)
		p.quiet(time.Minute)
		p.cancel()
		s.publish(t, "commit-3", other)
		s.publish(t, "commit-4", one)
		p = p.back(t, s)
		p.ack(p.want(lds, []string{"in"}))
		p.quiet(time.Minute)
		p = p.back(t, s)
		p.quiet(time.Minute)
		p.back(t, knows(t, at{one, rollout.Position{Place: 1}}, at{other, rollout.Position{Place: 3}})).quiet(time.Minute)
	})
}

// TestListsBetweenTwoReleases: a state-of-the-world proxy that was cut when it had what a
// release added, and still all that it removes, loses nothing that it uses.
func TestListsBetweenTwoReleases(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c := s.world(t, "p")
		c.ask(cds, "")
		r := c.want(cds, "a")
		c.ask(eds, "", "a")
		c.ack(c.want(eds, "a"))
		c.ack(r)
		c.ask(lds, "")
		l := c.want(lds, "in")
		c.ask(rds, "", "r")
		c.ack(c.want(rds, "r"))
		c.ack(l)
		s.arrived(t, "commit-1", soon)
		s.publish(t, "commit-2", seal(t, app(t, time.Second, "b")))
		c.ack(c.want(cds, "a", "b"))
		c.cancel()
		again := s.world(t, "p")
		again.has = c.has
		again.ask(cds, "")
		again.ask(eds, "", "a", "b")
		again.ask(lds, "")
		again.ask(rds, "", "r")
		again.ack(again.want(eds, "b"))
		again.ack(again.want(rds, "r"))
		again.ack(again.want(cds, "b"))
		s.arrived(t, "commit-2", soon)
	})
}

// ahead plays a proxy that has clusters "a" and "b" of a second release, and still "d" of
// the first, and was cut before it asked for the endpoints of "b", at a server that has
// only the first.
func ahead(t *testing.T, s *server) (c *deltaClient, n *server, second release.Release) {
	t.Helper()
	first, next := app(t, time.Second, "a", "d"), app(t, time.Second, "a", "b")
	next.res[1] = routes("r", "b")
	first.live = []release.Endpoints{{Cluster: "a", File: "a"}}
	first.res, next.res, next.live = slices.Delete(first.res, 3, 4), slices.Delete(next.res, 3, 4), first.live
	second = seal(t, next)
	s.publish(t, "commit-1", seal(t, first))
	p := s.delta(t, shop, "p")
	p.boot("a", "d")
	s.publish(t, "commit-2", second)
	p.ack(p.want(cds, []string{"b"}))
	n = knows(t, at{seal(t, first), rollout.Position{Place: 1}})
	return p.back(t, n), n, second
}

// TestWhoIsAheadGetsAddresses, which are live, and is told of nothing that it has and this
// server lacks that it does not exist.
func TestWhoIsAheadGetsAddresses(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		c, n, _ := ahead(t, s)
		c.quiet(time.Minute)
		c.subscribe(eds, "b")
		c.quiet(time.Minute)
		n.addresses(t, "a", 1001)
		c.ack(c.want(eds, []string{"a"}))
		c.quiet(time.Minute)
	})
}

// TestReportedClusterNeedsItsEndpoints: a route does not lead to a cluster that the proxy
// has from another server before it has that one's endpoints.
func TestReportedClusterNeedsItsEndpoints(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		c, n, second := ahead(t, s)
		c.quiet(time.Minute)
		n.publishAt(t, "commit-2", second, rollout.Position{Place: 2})
		c.quiet(4 * time.Second)
		c.subscribe(eds, "b")
		c.ack(c.want(eds, []string{"b"}))
		c.ack(c.want(rds, []string{"r"}))
		c.ack(c.want(cds, nil, "d"))
		c.ack(c.want(eds, nil, "d"))
		n.arrived(t, "commit-2", soon)
	})
}
