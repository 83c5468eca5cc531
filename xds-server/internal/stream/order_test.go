package stream_test

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/stream"
	"meshc.dev/meshc/xds-server/internal/view"
)

// app is a release's class with services, each a cluster with endpoints, and one
// listener whose table sends to the first.
func app(t testing.TB, timeout time.Duration, services ...string) classSpec {
	c := classSpec{class: shop, res: messages(listener(t, "in", 15001, "r"), routes("r", services[0]))}
	for _, name := range services {
		c.res = append(c.res, edsCluster(name, timeout), assignment(name, 1000+int(name[0])))
	}
	return c
}

// boot plays the start of a proxy to the end.
func (c *deltaClient) boot(services ...string) {
	c.t.Helper()
	c.subscribe(cds)
	r := c.want(cds, services)
	c.subscribe(eds, services...)
	c.ack(c.want(eds, services))
	c.ack(r)
	c.subscribe(lds)
	l := c.want(lds, []string{"in"})
	c.subscribe(rds, "r")
	c.ack(c.want(rds, []string{"r"}))
	c.ack(l)
	c.quiet(50 * time.Millisecond)
}

func TestReplacementIsMadeBeforeItIsUsed(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c := s.delta(t, shop, "p")
		c.boot("a")
		s.publish(t, "commit-2", seal(t, app(t, time.Second, "b")))
		add := c.want(cds, []string{"b"})
		c.subscribe(eds, "b")
		c.ack(c.want(eds, []string{"b"}))
		c.quiet(time.Second) // routes wait for the cluster
		c.ack(add)
		sw := c.want(rds, []string{"r"})
		c.quiet(time.Second) // the old cluster waits for the routes
		c.ack(sw)
		c.ack(c.want(cds, nil, "a"))
		c.ack(c.want(eds, nil, "a"))
		s.arrived(t, "commit-2", soon)
	})
}

// TestChangedClusterGetsItsEndpointsAgain: Envoy would wait 15 s for them.
func TestChangedClusterGetsItsEndpointsAgain(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a", "b")))
		c := s.delta(t, shop, "p")
		c.boot("a", "b")
		change := app(t, time.Second, "a", "b")
		change.res[2] = edsCluster("a", 9*time.Second)
		s.publish(t, "commit-2", seal(t, change))
		r := c.want(cds, []string{"a"})
		c.ack(c.want(eds, []string{"a"})) // not b
		c.ack(r)
		s.arrived(t, "commit-2", soon)
	})
}

func TestReconnectWithKnownVersionsCostsNothing(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a", "b")))
		c := s.delta(t, shop, "p")
		c.boot("a", "b")
		c.cancel()
		again := s.delta(t, shop, "p")
		again.resume(cds, c.has[cds])
		again.resume(eds, c.has[eds], "a", "b")
		again.resume(lds, c.has[lds])
		again.resume(rds, c.has[rds], "r")
		again.quiet(time.Minute)
		s.arrived(t, "commit-1", soon)
		for _, v := range c.has[cds] {
			if len(v) != 18 || v[16:] != ".1" { // the digest, and where it is from
				t.Errorf("version %q has %d characters, want 18", v, len(v))
			}
		}
	})
}

// TestReconnectFromAnotherRelease: the proxy asks for clusters first; those of the
// old release must stay until its routes have changed. And a cluster that changed
// meanwhile needs its endpoints, although the proxy says that it has them.
func TestReconnectFromAnotherRelease(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a", "b")))
		c := s.delta(t, shop, "p")
		c.boot("a", "b")
		c.cancel()
		next := app(t, time.Second, "b", "c")
		next.res[2] = edsCluster("b", 9*time.Second)
		s.publish(t, "commit-2", seal(t, next))
		again := s.delta(t, shop, "p")
		again.resume(cds, maps.Clone(c.has[cds]))
		add := again.want(cds, []string{"b", "c"})
		again.resume(eds, c.has[eds], "a", "b")
		again.resume(lds, c.has[lds])
		again.resume(rds, c.has[rds], "r")
		again.ack(again.want(eds, []string{"b"}))
		again.subscribe(eds, "c")
		again.ack(again.want(eds, []string{"c"}))
		again.quiet(time.Second)
		again.ack(add)
		again.ack(again.want(rds, []string{"r"}))
		again.ack(again.want(cds, nil, "a"))
		again.ack(again.want(eds, nil, "a"))
		s.arrived(t, "commit-2", soon)
	})
}

// TestSlowClientSkipsRevisions: what a client could not take in time it never gets.
func TestSlowClientSkipsRevisions(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-0", seal(t, app(t, time.Second, "a")))
		c := s.delta(t, shop, "p")
		c.boot("a")
		s.publish(t, "commit-1", seal(t, app(t, 2*time.Second, "a")))
		slow := c.want(cds, []string{"a"})
		c.ack(c.want(eds, []string{"a"}))
		for i := range 20 {
			s.publish(t, "commit-x", seal(t, app(t, time.Duration(3+i)*time.Second, "a")))
		}
		c.quiet(time.Second)
		c.ack(slow)
		last := c.want(cds, []string{"a"})
		c.ack(c.want(eds, []string{"a"}))
		c.ack(last)
		c.quiet(time.Second)
		s.arrived(t, "commit-x", soon)
	})
}

func TestSubscriptions(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a", "b")))
		c := s.delta(t, shop, "p")
		c.subscribe(cds, "b", "nothing")
		c.ack(c.want(cds, []string{"b"}, "nothing"))
		c.subscribe(cds, "a")
		c.ack(c.want(cds, []string{"a"}))
		c.subscribe(cds, "b") // again: on demand
		c.ack(c.want(cds, []string{"b"}))
		c.unsubscribe(cds, "a")
		synctest.Wait() // the server has heard it
		s.publish(t, "commit-2", seal(t, app(t, 2*time.Second, "a", "b", "nothing")))
		c.ack(c.want(cds, []string{"b", "nothing"}))
		c.subscribe(cds, "*")
		c.ack(c.want(cds, []string{"a"}))
		c.unsubscribe(cds, "*")
		synctest.Wait()
		s.publish(t, "commit-3", seal(t, app(t, 3*time.Second, "a", "b", "nothing")))
		c.ack(c.want(cds, []string{"b", "nothing"}))
		c.quiet(time.Second)
	})
}

// TestNothingApproved: no answer at all, which leaves a proxy as it is; an empty
// one would tear it down.
func TestNothingApproved(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		c := s.delta(t, shop, "p")
		c.resume(cds, map[string]string{"old": "v1"})
		stranger := s.delta(t, release.Class{Namespace: "no", Account: "body"}, "q")
		stranger.subscribe(cds)
		c.quiet(time.Hour)
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c.want(cds, []string{"a"})
		if err := stranger.ended(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("stranger: %v", err)
		}
	})
}

// TestClassWithoutResources: a proxy that starts waits for an answer, even if its
// class has nothing of a type.
func TestClassWithoutResources(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, classSpec{class: shop}))
		c := s.delta(t, shop, "p")
		c.subscribe(cds)
		c.subscribe(lds)
		c.ack(c.want(cds, nil))
		c.ack(c.want(lds, nil))
		c.quiet(time.Second)
		s.arrived(t, "commit-1", soon)
	})
}

func TestOnlyAuthenticatedIdentitiesCount(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		other := release.Class{Role: release.Gateway, Namespace: "shop", Account: "edge"}
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a"), classSpec{class: other, res: messages(edsCluster("other", time.Second))}))
		for name, ids := range map[string][]string{
			"no identity":        nil,
			"two identities":     {shop.SPIFFEID(trustDomain), other.SPIFFEID(trustDomain)},
			"other trust domain": {shop.SPIFFEID("evil.local")},
			"unknown class":      {"spiffe://" + trustDomain + "/ns/shop/sa/nobody"},
			"longer path":        {shop.SPIFFEID(trustDomain) + "/x"},
			"not SPIFFE":         {"https://mesh.local/ns/shop/sa/web"},
		} {
			c := openDelta(t, s.connect(t, ids...), "p")
			c.subscribe(cds)
			if err := c.ended(); status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s: %v", name, err)
			}
		}
		eventually(t, soon, func() string {
			s.counts.mu.Lock()
			defer s.counts.mu.Unlock()
			if s.counts.refused["no_identity"] != 5 || s.counts.refused["unknown_identity"] != 1 {
				return "refusals not counted"
			}
			return ""
		})
		// The node id of another class does not help.
		c := openDelta(t, s.connect(t, other.SPIFFEID(trustDomain)), shop.String())
		c.subscribe(cds)
		c.want(cds, []string{"other"})
	})
}

// TestOnlyChangedClassesWake: another class's change, the same release again and a
// new commit with the same content send nothing; the ledger knows the new commit.
func TestOnlyChangedClassesWake(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		other := func(d time.Duration) classSpec {
			return classSpec{class: release.Class{Role: release.Gateway, Namespace: "shop", Account: "edge"}, res: messages(edsCluster("x", d))}
		}
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a"), other(time.Second)))
		c := s.delta(t, shop, "p")
		c.boot("a")
		s.publish(t, "commit-2", seal(t, app(t, time.Second, "a"), other(2*time.Second)))
		c.quiet(time.Second)
		s.arrived(t, "commit-2", soon)
		if got := s.ledger.Status().Proxies[0].Commit; got != "commit-2" {
			t.Errorf("the ledger says %q", got)
		}
	})
}

// TestUnservableReleaseChangesNothing: one bad resource anywhere, and the whole
// release is refused.
func TestUnservableReleaseChangesNothing(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c := s.delta(t, shop, "p")
		c.boot("a")
		dangling := app(t, 2*time.Second, "a")
		dangling.res[1] = routes("r", "missing")
		misnamed := app(t, 2*time.Second, "a")
		for name, spec := range map[string]classSpec{"dangling reference": dangling, "unknown listener table": {class: shop, res: []proto.Message{listener(t, "in", 1, "gone")}}, "source of nothing": {
			class: shop, res: misnamed.res, live: []release.Endpoints{{Cluster: "ghost", File: "f"}},
		}} {
			if _, err := s.hub.Prepare(t.Context(), seal(t, spec)); err == nil {
				t.Errorf("%s: prepared", name)
			}
		}
		c.quiet(time.Minute)
		s.arrived(t, "commit-1", soon)
	})
}

// TestLiveAddresses: they flow without a release, while a release is under way,
// only for clusters that the release names, and silence takes nothing away.
func TestLiveAddresses(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		spec := func(d time.Duration) classSpec {
			return classSpec{class: shop, res: messages(edsCluster("a", d), listener(t, "in", 1, "r"), routes("r", "a")),
				live: []release.Endpoints{{Cluster: "a", File: "a"}}}
		}
		s.publish(t, "commit-1", seal(t, spec(time.Second)))
		c := s.delta(t, shop, "p")
		c.boot("a") // empty endpoints, so that the cluster does not wait
		s.addresses(t, "a", 1001)
		c.ack(c.want(eds, []string{"a"}))
		s.addresses(t, "a", 1001) // the same
		s.addresses(t, "stranger", 1002)
		c.quiet(time.Second)
		if got := s.hub.Ignored(); len(got) != 1 || got[0] != "file:stranger" || s.counts.unwanted != 1 {
			t.Errorf("ignored: %v, %d changes", got, s.counts.unwanted)
		}
		s.publish(t, "commit-2", seal(t, spec(2*time.Second)))
		r := c.want(cds, []string{"a"})
		c.ack(c.want(eds, []string{"a"}))
		s.addresses(t, "a", 1003) // while clusters are not confirmed
		c.ack(c.want(eds, []string{"a"}))
		c.ack(r)
		s.arrived(t, "commit-2", soon)
		if n := s.counts.answers[ledger.Overdue]; n != 0 || s.counts.pushed[view.Endpoints] != 4 {
			t.Errorf("%d overdue, %d pushes", n, s.counts.pushed[view.Endpoints])
		}
	})
}

// TestSilentSourceTakesNothing: after a restart the server knows no addresses yet;
// a proxy that has some keeps them.
func TestSilentSourceTakesNothing(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, classSpec{class: shop, res: messages(edsCluster("a", time.Second)), live: []release.Endpoints{{Cluster: "a", DNS: "db:1"}}}))
		c := s.delta(t, shop, "p")
		c.resume(eds, map[string]string{"a": "v-before"}, "a")
		c.subscribe(cds)
		c.ack(c.want(cds, []string{"a"}))
		c.quiet(time.Minute)
	})
}

// TestEverySwitchWaitsForItsEndpoints: a client that did not ask for endpoints once, and
// was waited for, is waited for again.
func TestEverySwitchWaitsForItsEndpoints(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c := s.delta(t, shop, "p")
		c.boot("a")
		next := app(t, time.Second, "a", "b", "c")
		for i, to := range []string{"b", "c"} {
			next.res[1] = routes("r", to)
			s.publish(t, fmt.Sprint("commit-", i+2), seal(t, next))
			if i == 0 {
				c.ack(c.want(cds, []string{"b", "c"}))
			}
			c.quiet(4900 * time.Millisecond)
			c.ack(c.want(rds, []string{"r"}))
		}
	})
}
