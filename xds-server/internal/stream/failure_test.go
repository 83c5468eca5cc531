package stream_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// versionOf returns the version of a resource in a response.
func versionOf(r *discoveryv3.DeltaDiscoveryResponse, name string) string {
	for _, res := range r.GetResources() {
		if res.GetName() == name {
			return res.GetVersion()
		}
	}
	return ""
}

// TestFailures is a table of ways in which a proxy of one class fails on the
// second of two releases, whose cluster "a" differs and which adds "bad". The
// class, which is this proxy, must be held at the first, the proxy must get it
// back, be tried again less and less often, and a third release must be served.
func TestFailures(t *testing.T) {
	const ack, warming = 5 * time.Second, 20 * time.Second
	for _, c := range []struct {
		name  string
		fail  func(*deltaClient, *discoveryv3.DeltaDiscoveryResponse)
		state ledger.State
		after time.Duration
	}{
		{"refused", func(c *deltaClient, r *discoveryv3.DeltaDiscoveryResponse) {
			c.nack(r, `Error adding/updating cluster(s) bad: Proto constraint validation failed (ClusterValidationError.X: value must be less): name: "bad" token: "s3cr3t"`)
		}, ledger.Nacked, 0},
		{"overdue while warming", func(*deltaClient, *discoveryv3.DeltaDiscoveryResponse) { time.Sleep(warming) }, ledger.Overdue, warming},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
				s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
				p := s.delta(t, shop, "p")
				p.boot("a")
				began := time.Now()
				s.publish(t, "commit-2", seal(t, app(t, 2*time.Second, "a", "bad")))
				r := p.want(cds, []string{"a", "bad"})
				p.ack(p.want(eds, []string{"a"}))
				c.fail(p, r)

				// What the response touched goes back in one response, which
				// waits for no answer: "a" again, "bad" away.
				back := p.want(cds, []string{"a"}, "bad")
				if versionOf(back, "a") != p.has[cds]["a"] {
					t.Error("a does not go back to its first version")
				}
				if d := time.Since(began); d < c.after || d > c.after+time.Second {
					t.Errorf("taken back after %s, want %s", d, c.after)
				}
				p.ack(p.want(eds, []string{"a"}))
				p.ack(back)
				p.quiet(10 * time.Second)
				cl := s.class(t, shop)
				if !cl.Held || cl.Commit != "commit-2" || cl.ServingCommit != "commit-1" || cl.UpToDate != 1 || s.counts.heldClasses() != 1 {
					t.Errorf("class: %+v", cl)
				}
				checkFailure(t, cl.Failure, c.state)
				// It is tried again, in case that the cause has gone, and goes back again.
				pause := time.Now()
				for _, want := range []time.Duration{5 * time.Second, 30 * time.Second} {
					r = p.nextWithin(time.Hour)
					if d := time.Since(pause); d < want || d > want+time.Second {
						t.Errorf("tried again after %s, want %s", d, want)
					}
					p.ack(p.want(eds, []string{"a"}))
					p.nack(r, "still bad")
					pause = time.Now()
					r = p.want(cds, []string{"a"}, "bad")
					p.ack(p.want(eds, []string{"a"}))
					p.ack(r)
				}
				// The same content under another commit stays refused.
				s.publish(t, "commit-2b", seal(t, app(t, 2*time.Second, "a", "bad")))
				p.quiet(50 * time.Second)
				if got, _ := s.ledger.Wait(t.Context(), "commit-2b", 0, func(ledger.Progress) {}); got.Outcome != ledger.Failed {
					t.Errorf("waiting for it: %+v", got)
				}
				// New content is served.
				s.publish(t, "commit-3", seal(t, app(t, 3*time.Second, "a")))
				r = p.want(cds, []string{"a"})
				p.ack(p.want(eds, []string{"a"}))
				p.ack(r)
				s.arrived(t, "commit-3", soon)
			})
		})
	}
}

func checkFailure(t *testing.T, f *ledger.Failure, state ledger.State) {
	t.Helper()
	if f == nil || f.State != state || f.Commit != "commit-2" || f.Node != "p" || f.Type != "clusters" {
		t.Fatalf("failure: %+v", f)
	}
	if state != ledger.Nacked {
		return
	}
	if strings.Contains(f.Why, "s3cr3t") || !strings.Contains(f.Why, "cluster(s) bad") || !strings.Contains(f.Why, "value must be less") {
		t.Errorf("why: %q", f.Why)
	}
	if len(f.Resources) != 1 || f.Resources[0].Resource != "bad" || f.Resources[0].Pos.String() != "bad.cue:7" {
		t.Errorf("resources: %+v", f.Resources)
	}
}

// TestGoodPartOfARefusedResponse: nothing of it was applied, so it belongs into the
// next response although its version has not changed.
func TestGoodPartOfARefusedResponse(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c := s.delta(t, shop, "p")
		c.boot("a")
		next := app(t, time.Second, "a", "good", "bad")
		s.publish(t, "commit-2", seal(t, next))
		c.nack(c.want(cds, []string{"bad", "good"}), "bad is bad")
		c.ack(c.want(cds, nil, "bad", "good"))
		s.publish(t, "commit-3", seal(t, app(t, time.Second, "a", "good")))
		r := c.want(cds, []string{"good"})
		c.subscribe(eds, "good")
		c.ack(c.want(eds, []string{"good"}))
		c.ack(r)
		s.arrived(t, "commit-3", soon)
	})
}

// TestListenerOverdue: listeners do not warm before they are confirmed, so their
// time is short; a late confirmation is noted.
func TestListenerOverdue(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c := s.delta(t, shop, "p")
		c.boot("a")
		next := app(t, time.Second, "a")
		next.res[0] = listener(t, "in", 15002, "r")
		s.publish(t, "commit-2", seal(t, next))
		late := c.want(lds, []string{"in"})
		began := time.Now()
		back := c.nextWithin(10 * time.Second)
		if d := time.Since(began); d < 4*time.Second || d > 6*time.Second {
			t.Errorf("taken back after %s", d)
		}
		c.ack(late)
		c.ack(back)
		c.quiet(10 * time.Second)
		if cl := s.class(t, shop); !cl.Held || cl.UpToDate != 1 || cl.Failure.State != ledger.Overdue {
			t.Errorf("%+v", cl)
		}
	})
}

// TestOneSlowProxyHoldsNobody: what another proxy has confirmed is not given up
// for one that is late. That one is tried again, and a late answer ends it.
func TestOneSlowProxyHoldsNobody(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		fast, slow := s.delta(t, shop, "fast"), s.delta(t, shop, "slow")
		fast.boot("a")
		slow.boot("a")
		next := app(t, time.Second, "a")
		next.res[1] = routesWithHost("r", "a", "x")
		s.publish(t, "commit-2", seal(t, next))
		fast.ack(fast.want(rds, []string{"r"}))
		slow.want(rds, []string{"r"})
		slow.nextWithin(10 * time.Second) // again, after the time limit and a pause
		time.Sleep(time.Minute)
		if cl := s.class(t, shop); cl.Held || cl.UpToDate != 1 || cl.Connected != 2 {
			t.Errorf("%+v", cl)
		}
		for answered := true; answered; {
			select {
			case r := <-slow.in:
				slow.ack(r)
			case <-time.After(time.Second):
				answered = false
			}
		}
		s.arrived(t, "commit-2", soon)
		// A new proxy gets the new release.
		third := s.delta(t, shop, "third")
		third.boot("a")
		s.arrived(t, "commit-2", soon)
	})
}

// TestRefusalByOneAmongMany: whoever refuses is held, and nobody else: not who has
// confirmed the same, and not who comes later.
func TestRefusalByOneAmongMany(t *testing.T) {
	for _, c := range []struct {
		name string
		wait time.Duration
	}{{"soon", time.Second}, {"much later", time.Hour}} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
				s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
				p := s.delta(t, shop, "p")
				p.boot("a")
				next := app(t, time.Second, "a")
				next.res[1] = routesWithHost("r", "a", "x")
				s.publish(t, "commit-2", seal(t, next))
				p.ack(p.want(rds, []string{"r"}))
				s.arrived(t, "commit-2", soon)
				time.Sleep(c.wait)
				q := s.delta(t, shop, "q")
				q.subscribe(cds)
				q.nack(q.want(cds, []string{"a"}), "an old proxy")
				p.quiet(10 * time.Second)
				if got := s.class(t, shop); got.Held || got.HeldProxies != 1 {
					t.Errorf("class: %+v", got)
				}
				third := s.delta(t, shop, "third")
				third.boot("a")
				if s.ledger.Status().Proxies[2].Commit != "commit-2" {
					t.Error("a new proxy is not given what is approved")
				}
			})
		})
	}
}

// TestNothingToGoBackTo: a first release that is refused is tried again less and
// less often, and never in a loop.
func TestNothingToGoBackTo(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c := s.delta(t, shop, "p")
		c.subscribe(cds)
		var pauses []time.Duration
		last := time.Now()
		for range 9 {
			r := c.nextWithin(2 * time.Minute)
			pauses = append(pauses, time.Since(last).Round(time.Second))
			last = time.Now()
			c.nack(r, "no")
		}
		want := []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(pauses, want) {
			t.Errorf("pauses %v, want %v", pauses, want)
		}
		// A new release is tried at once.
		s.publish(t, "commit-2", seal(t, app(t, 2*time.Second, "a")))
		r := c.want(cds, []string{"a"})
		if d := time.Since(last); d > time.Second {
			t.Errorf("the new release came after %s", d)
		}
		// Its own refusals count from the first.
		c.nack(r, "no")
		last = time.Now()
		r = c.nextWithin(2 * time.Minute)
		if d := time.Since(last).Round(time.Second); d != time.Second {
			t.Errorf("it was tried again after %s", d)
		}
		c.subscribe(eds, "a")
		c.ack(c.want(eds, []string{"a"}))
		c.ack(r)
	})
}

// TestRefusedAddresses hold no release: they come from live sources.
func TestRefusedAddresses(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
		c := s.delta(t, shop, "p")
		c.boot("a")
		next := app(t, time.Second, "a")
		next.res[3] = assignment("a", 2000)
		s.publish(t, "commit-2", seal(t, next))
		c.nack(c.want(eds, []string{"a"}), "no")
		if s.class(t, shop).Held {
			t.Error("held")
		}
		c.ack(c.want(eds, []string{"a"}))
		s.arrived(t, "commit-2", soon)
	})
}

// TestWallClockIsWrong: limits and pauses of a stream go by the time that passes, and
// what was noted under a wrong clock keeps nobody waiting once it is right.
func TestWallClockIsWrong(t *testing.T) {
	for _, wrong := range []time.Duration{13 * time.Hour, -13 * time.Hour} {
		t.Run(wrong.String(), func(t *testing.T) {
			inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
				s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
				c := s.delta(t, shop, "p")
				c.boot("a")
				s.ahead.Store(int64(wrong))
				s.publish(t, "commit-2", seal(t, withHost(t, "x")))
				began := time.Now()
				c.want(rds, []string{"r"}) // and no answer
				c.ack(c.nextWithin(10 * time.Second))
				if d := time.Since(began); d < 5*time.Second || d > 6*time.Second {
					t.Errorf("it went back after %s", d)
				}
				s.ahead.Store(0)
				c.ack(c.nextWithin(time.Minute)) // tried again
				time.Sleep(time.Second)
				s.arrived(t, "commit-2", soon)
			})
		})
	}
}

// TestHeldByOthersWhoAreGone: a proxy that is held because others failed is given what
// is approved when those have not tried again for long, though nothing else happens; and
// at once if the clock turns out to have been wrong.
func TestHeldByOthersWhoAreGone(t *testing.T) {
	for name, wrong := range map[string]time.Duration{"long ago": 0, "in a future that never came": 13 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
				s.publish(t, "commit-1", seal(t, app(t, time.Second, "a")))
				p := s.delta(t, shop, "p")
				p.boot("a")
				s.ahead.Store(int64(wrong))
				s.publish(t, "commit-2", seal(t, withHost(t, "x")))
				for range 6 {
					p.nack(p.nextWithin(time.Hour), "no")
					p.ack(p.next()) // back
				}
				gone := time.Now()
				p.cancel()
				q := s.delta(t, shop, "q")
				q.boot("a")
				s.ahead.Store(0)
				if wrong != 0 {
					s.delta(t, shop, "third").boot("a") // who comes is asked about
				}
				q.ack(q.nextWithin(time.Hour))
				want := 32 * time.Minute
				if wrong != 0 {
					want = 0
				}
				if d := time.Since(gone); d < want || d > want+time.Minute {
					t.Errorf("after %s, want %s", d, want)
				}
				time.Sleep(time.Second)
				s.arrived(t, "commit-2", soon)
			})
		})
	}
}

// TestConfirmedAfterARefusal: what a proxy refused and then confirmed is something to be
// taken back to.
func TestConfirmedAfterARefusal(t *testing.T) {
	inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
		s.publish(t, "commit-1", seal(t, withHost(t, "good")))
		p := s.delta(t, shop, "p")
		p.boot("a")
		good := p.has[rds]["r"]
		p.subscribe(rds, "r")
		p.refuseRoutes()
		p.ack(p.want(rds, []string{"r"}))
		s.arrived(t, "commit-1", soon)
		s.publish(t, "commit-2", seal(t, withHost(t, "bad")))
		p.refuseRoutes()
		if r := p.want(rds, []string{"r"}); versionOf(r, "r") != good {
			t.Errorf("went back to %s, want %s", versionOf(r, "r"), good)
		}
	})
}

// TestWhatMayNotBeTakenBack: although all refuse a release, who comes gets it if it
// follows an expiry, or if nobody can tell whether it took something away.
func TestWhatMayNotBeTakenBack(t *testing.T) {
	unknown := errors.New("no memory")
	for name, c := range map[string]struct {
		next rollout.Position
		err  *error
		host string // of the release that a new proxy gets
	}{
		"another release":                {rollout.Position{Place: 2}, nil, "good"},
		"a step after an expiry":         {rollout.Position{Place: 1, Step: 1}, nil, "bad"},
		"a release that nobody compared": {rollout.Position{Place: 2}, &unknown, "bad"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, stream.Limits{}, func(t *testing.T, s *server) {
				s.uncompared.Store(c.err)
				s.publishAt(t, "commit-1", seal(t, withHost(t, "good")), rollout.Position{Place: 1})
				p := s.delta(t, shop, "p")
				p.boot("a")
				s.publishAt(t, "commit-2", seal(t, withHost(t, "bad")), c.next)
				versions := map[string]string{p.has[rds]["r"]: "good", p.refuseRoutes(): "bad"}
				p.ack(p.want(rds, []string{"r"}))
				time.Sleep(time.Second)
				q := s.delta(t, shop, "q")
				q.boot("a")
				if got := versions[q.has[rds]["r"]]; got != c.host {
					t.Errorf("a new proxy gets %q, want %q", got, c.host)
				}
			})
		})
	}
}
